"""`cpcc run`: what it brings home, where to, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cpcc_person import Person
from tests.helpers.small_server import SmallServer
from tests.helpers.small_server_world import Output

STREAMS = (Output(b"stdout", b"hello\n"), Output(b"stderr", b""))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


@pytest.fixture
def alice(
    api: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Person:
    return Person(tmp_path, monkeypatch, capsys).join(api)


def ends(api: SmallServer, *outputs: Output, state: str = "succeeded", exit_code: int = 0) -> None:
    """Whatever is submitted ends so, at once."""

    def end(number: str) -> None:
        size = api.world.arrays[number].size if number in api.world.arrays else 0
        for name in [f"{number}[{index}]" for index in range(size)] if size > 1 else [number]:
            api.world.logs[name, "stdout"] = b"hello\n"
            api.world.end(name, state=state, exit_code=exit_code, outputs=[*STREAMS, *outputs])

    api.world.on_submit = end


def here(alice: Person) -> dict[str, bytes]:
    return {str(path.relative_to(alice.place)): path.read_bytes() for path in alice.place.rglob("*") if path.is_file()}


def test_outputs_land_in_a_directory_named_after_the_job(api: SmallServer, alice: Person) -> None:
    ends(api, Output(b"run/result.dat", b"1"))
    said = alice("run", "--", "simulate")
    assert said.out == "hello\n"
    assert here(alice) == {"57/run/result.dat": b"1", "57/stdout": b"hello\n", "57/stderr": b""}
    assert said.err.splitlines()[-2:] == ["Job 57 has succeeded", "Fetched 3 files into 57"]


def test_outputs_of_a_failed_job_come_too_and_the_code_is_the_jobs(api: SmallServer, alice: Person) -> None:
    ends(api, Output(b"core.log", b"1"), state="failed", exit_code=3)
    alice("run", "--", "simulate", code=1)
    assert here(alice)["57/core.log"] == b"1"


def test_what_was_shown_already_is_no_reason_to_make_a_directory(api: SmallServer, alice: Person) -> None:
    ends(api)
    said = alice("run", "--", "echo", "hello")
    assert said.out == "hello\n"
    assert list(alice.place.iterdir()) == []
    assert "etched" not in said.err


def test_what_was_not_shown_is_fetched(api: SmallServer, alice: Person) -> None:
    ends(api)
    alice("--json", "run", "--", "echo", "hello")
    alice("run", "--array", "2", "--", "echo", "hello")
    streams = {"stdout": b"hello\n", "stderr": b""}
    assert here(alice) == {
        f"{place}/{name}": data for place in ("57", "58/0", "58/1") for name, data in streams.items()
    }  # fmt: skip


def test_a_directory_may_be_named_and_the_streams_asked_for(api: SmallServer, alice: Person) -> None:
    ends(api)
    alice("run", "-o", "results", "--", "echo")
    alice("run", "--fetch", "--", "echo")
    assert sorted(here(alice)) == ["58/stderr", "58/stdout", "results/stderr", "results/stdout"]


def test_outputs_may_be_left_at_the_server(api: SmallServer, alice: Person) -> None:
    ends(api, Output(b"huge", b"1"))
    alice("run", "--no-fetch", "--", "simulate")
    assert here(alice) == {}
    assert "exclude each other" in alice.refused("run", "--no-fetch", "-o", "x", "--", "simulate", code=2)


def test_outputs_that_cannot_be_put_there_are_told_with_the_way_to_them(api: SmallServer, alice: Person) -> None:
    (alice.place / "57").mkdir()
    (alice.place / "57" / "result").write_text("mine")
    ends(api, Output(b"result", b"theirs"))
    said = alice("run", "--", "simulate", code=1)
    *_, end, last = said.err.splitlines()
    assert end == "Job 57 has succeeded"
    assert "57/result exists with other content" in last
    assert "cpcc fetch 57 -o" in last
    assert (alice.place / "57" / "result").read_text() == "mine"
