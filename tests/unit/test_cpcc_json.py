"""--json: every kind that cpcc prints is in the reference, and what is printed has the documented shape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import views
from tests.helpers.cpcc_person import Person
from tests.helpers.small_server import SmallServer
from tests.helpers.small_server_world import Output

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/json.md").read_text()
KINDS = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", REFERENCE.partition("## Kinds")[2], re.M))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


@pytest.fixture
def admin(
    api: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Person:
    return Person(tmp_path, monkeypatch, capsys).join(api, "cpc-admin", "root")


def test_every_kind_in_the_code_is_in_the_reference() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "cpc/client/commands").glob("*.py"))
    used = set(re.findall(r'out\.(?:data|line)\(\s*"([a-z-]+)"', code)) | {"events", "audit"}
    assert used == set(KINDS)


def test_every_structure_in_the_reference_is_one_of_the_api() -> None:
    named = set(re.findall(r"\*([A-Z]\w+)\*", REFERENCE))
    assert named
    assert all(hasattr(views, name) for name in named)


CALLS = [
    (("list-server",), "servers", None),
    (("server-info",), "server-info", views.ServerView),
    (("ping",), "ping", None),
    (("version",), "version", None),
    (("whoami",), "user", views.UserView),
    (("users",), "users", views.UserView),
    (("grant-access", "alice"), "member", views.MemberView),
    (("cd", "villin"), "project", views.ProjectView),
    (("projects",), "projects", views.ProjectView),
    (("pwd",), "current-project", None),
    (("status",), "status", None),
    (("submit", "--", "x"), "submitted", views.Submitted),
    (("jobs",), "jobs", views.JobView),
    (("running",), "jobs", views.JobView),
    (("jobs", "--arrays"), "arrays", views.ArrayView),
    (("queue",), "queue", None),
    (("job", "57"), "job", views.JobDetail),
    (("job", "58"), "array", views.ArrayView),
    (("wait", "57"), "ended", views.JobDetail),
    (("cancel", "58"), "cancelled", None),
    (("why", "58"), "why", views.WhyView),
    (("heartbeats",), "heartbeats", views.HeartbeatView),
    (("logs", "57"), "log", views.LogView),
    (("fetch", "57", "--list"), "files", views.FileView),
    (("fetch", "57"), "fetched", None),
    (("workers",), "workers", views.WorkerView),
    (("workers", "w1"), "worker", views.WorkerView),
    (("drain", "w1", "disk"), "worker", views.WorkerView),
    (("bundles",), "bundles", views.BundleView),
    (("tokens",), "tokens", views.TokenView),
    (("token", "ci"), "made-token", None),
    (("events",), "events", views.EventView),
    (("audit",), "audit", views.EventView),
    (("config",), "settings", views.SettingView),
    (("config", "heartbeat_time", "60"), "setting", views.SettingView),
    (("completion", "bash"), "completion", None),
]


@pytest.mark.parametrize(("words", "kind", "shape"), CALLS, ids=[" ".join(words) for words, _, _ in CALLS])
def test_what_is_printed_has_the_documented_shape(
    api: SmallServer, admin: Person, words: tuple[str, ...], kind: str, shape: type[views.View] | None
) -> None:
    import msgspec

    admin("submit", "--", "x")
    admin("submit", "--array", "2", "--", "y")
    api.world.logs["57", "stdout"] = b"line\n"
    api.world.end("57", outputs=[Output(b"stdout", b"line\n")])
    said = admin(words[0], "--json", *words[1:])
    assert said.kind == kind
    assert words[0] in re.split(r"[ ,]+", KINDS[kind])
    if shape is not None:
        for one in said.data if isinstance(said.data, list) else [said.data]:
            msgspec.convert(one, shape)
            assert set(shape.__struct_fields__) <= set(one), "every field is printed"


def test_quiet_prints_ids_alone(api: SmallServer, admin: Person) -> None:
    assert admin("submit", "--quiet", "--", "x").out == "57\n"
    assert admin("jobs", "--quiet").out == "57\n"
    assert admin("users", "--quiet").out == "cpc-admin\nalice\n"
    assert admin("cancel", "57", "--quiet").out == ""


def test_a_refusal_is_no_json(admin: Person) -> None:
    assert "nosuch" in admin.refused("cd", "nosuch", "--json")


def test_followed_output_is_one_document_a_line(api: SmallServer, admin: Person) -> None:
    admin("submit", "--", "x")
    api.world.logs["57", "stdout"] = b"one\ntwo\n"
    api.world.end("57")
    lines = [json.loads(line) for line in admin("logs", "-f", "57", "--json").out.splitlines()]
    assert [line["kind"] for line in lines] == ["log"] * len(lines)
    assert "".join(line["data"]["data"] for line in lines) == "one\ntwo\n"
