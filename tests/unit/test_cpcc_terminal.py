"""cpcc at a terminal and elsewhere: tables that fit, questions, live views; no traceback whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client import main
from cpc.client.config import Config
from cpc.client.output import harmless, table
from cpc.client.trust import show
from cpc.core.errors import Damaged
from cpc.core.views import Page
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import Call, FakeApi, Sse, Turns, fake_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    (tmp_path / "door").mkdir()
    with fake_api(tmp_path / "door") as running:
        yield running


@pytest.fixture
def cpcc(api: FakeApi, tmp_path: Path) -> Cpcc:
    api.configure(tmp_path / "home")
    return Cpcc(tmp_path / "home")


@pytest.fixture
def fresh(tmp_path: Path) -> Cpcc:
    """Nothing was added yet."""
    return Cpcc(tmp_path / "fresh")


# --- whom to trust ---


def test_the_fingerprint_may_be_written_in_any_way_but_whole(api: FakeApi, fresh: Cpcc) -> None:
    where = ("127.0.0.1", str(api.port))
    print_ = api.authority.fingerprint
    for part in (print_[:-1], print_[:16], "", "x" * 64):
        assert fresh("add-server", *where, "--fingerprint", part).code == 1
    assert fresh("add-server", "-n", "a", *where, "--fingerprint", show(print_).upper()).code == 0
    assert fresh("add-server", "-n", "b", *where, "--fingerprint", " ".join(print_)).code == 0
    assert [server.name for server in Config(fresh.home).servers] == ["a", "b"]
    assert Config(fresh.home).default == "b"


def test_another_fingerprint_is_never_added_not_even_with_yes(api: FakeApi, fresh: Cpcc) -> None:
    said = fresh("add-server", "127.0.0.1", str(api.port), "--yes", "--fingerprint", "ab" * 32)
    assert said.code == 1
    assert Config(fresh.home).servers == ()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_a_person_decides(api: FakeApi, fresh: Cpcc, answer: str, code: int) -> None:
    said = fresh("add-server", "127.0.0.1", str(api.port), stdin=answer, terminal=True)
    assert said.code == code
    assert show(api.authority.fingerprint) in said.err
    assert len(Config(fresh.home).servers) == 1 - code


def test_a_name_that_is_taken_is_told_before_anybody_is_asked(api: FakeApi, cpcc: Cpcc) -> None:
    said = cpcc("add-server", "-n", "lab", "127.0.0.1", str(api.port), "--yes")
    assert said.code == 1
    assert "a server with name lab already exists" in said.err
    assert api.calls == []


# --- tables ---


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize(
    "line", ["jobs", "jobs --arrays", "queue", "running", "workers", "bundles", "config", "projects"]
)
def test_tables_fit_the_terminal(
    api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch, columns: int, line: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "a-very-long-name-of-something-that-somebody-has-chosen"
    job = sample.job("57[3]", command="x" * 200, name=long, worker=long, state="running", started=sample.NOW)
    api.on("GET", "/jobs", [job])
    api.on("GET", "/projects/villin/jobs", [job])
    api.on("GET", "/projects/villin/arrays", [sample.array()])
    api.on("GET", "/workers", [sample.worker(long, note=long)])
    api.on("GET", "/bundles", [sample.bundle(long)])
    api.on("GET", "/settings", [sample.setting(long)])
    api.on("GET", "/projects", [sample.project(long)])
    said = cpcc(*line.split(), terminal=True)
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= columns


def test_a_name_cannot_move_the_cursor_or_hide_a_line() -> None:
    shown = table(("name", "n"), [("a\x1b[2J\r\nb\u202e\u200b", 1)])
    assert len(shown.splitlines()) == 2
    assert all(letter.isprintable() for line in shown.splitlines() for letter in line)
    assert harmless("naïve Ωmega 水") == "naïve Ωmega 水"


def test_the_queue_has_the_originals_columns_in_the_order_in_which_jobs_start(api: FakeApi, cpcc: Cpcc) -> None:
    waiting = [sample.job("60"), sample.job("59", priority=5), sample.job("58", state="blocked")]

    def page(call: Call) -> Page:
        return Page(items=tuple(waiting) if "waiting" in call.query["state"] else (sample.job("57", state="running"),))

    api.on("GET", "/jobs", page)
    lines = cpcc("queue").out.splitlines()
    assert lines[0] == "Queued"
    assert lines[1].split() == ["Pty", "Project", "Job", "Executable"]
    assert [line.split()[2] for line in lines[2:5]] == ["59", "58", "60"]
    assert lines[4:7][-1] == "Running" or lines[6] == "Running"
    assert "(blocked)" in lines[3]


# --- live ---


def test_watching_a_job_ends_with_it_and_like_it(api: FakeApi, cpcc: Cpcc) -> None:
    api.on(
        "GET", "/jobs/57", Turns(sample.detail(state="running"), sample.detail(state="failed", reason="exit code 3"))
    )
    api.on("GET", "/events/stream", Sse([("1", "job.failed", sample.event(1, "job.failed"))]))
    said = cpcc("watch", "57")
    assert said.code == 1
    assert "job.failed" in said.out
    assert "exit code 3" in said.err


def test_a_live_view_is_drawn_until_the_job_has_ended_and_then_is_gone(
    api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpc.client.commands.live.PAUSE", 0.0)
    half, whole = sample.array(running=1, succeeded=2), sample.array(succeeded=3)
    api.on("GET", "/jobs/58", Turns(half, half, whole))
    api.on("GET", "/projects/villin/jobs", [sample.job("58[2]", state="running", worker="w1")])
    api.on(
        "GET", "/events/stream", Sse([("1", "job.succeeded", sample.event(1)), ("2", "job.succeeded", sample.event(2))])
    )
    said = cpcc("watch", "58", terminal=True)
    assert said.code == 0
    assert said.out.index("58[2]") < said.out.index("\x1b[?1049l")
    assert said.out.endswith("Array 58: 3 succeeded\n")


def test_the_bar_of_wait_moves_with_the_event_stream(api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpc.client.commands.waiting.PAUSE", 0.0)
    half, whole = sample.array(running=1, succeeded=2), sample.array(succeeded=3)
    api.on("GET", "/jobs/58", Turns(half, half, whole))
    api.on("GET", "/events/stream", Sse([("1", "job.succeeded", sample.event(1))]))
    said = cpcc("wait", "58", terminal=True)
    assert said.code == 0
    assert "67%" in said.err
    assert api.asked("GET", "/jobs/58/wait") == []


def test_events_are_followed_from_where_the_list_ends(
    api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpc.client.watch.MISSES", 0)
    api.on("GET", "/events", lambda call: Page(items=(sample.event(1),) if call.query["after"] == "0" else ()))
    api.on("GET", "/events/stream", Sse([("2", "job.succeeded", sample.event(2, "job.succeeded"))]))
    said = cpcc("events", "-f", "--json")
    assert [line.count("\n") for line in said.out.splitlines()] == [0, 0]
    assert api.asked("GET", "/events/stream")[0].query["after"] == "1"


def test_the_newest_events_of_a_rare_kind_are_found(api: FakeApi, cpcc: Cpcc) -> None:
    rare = [5, 800, 2500]

    def page(call: Call) -> Page:
        numbers = rare if call.query.get("kind") else range(1, 3001)
        left = [number for number in numbers if number > int(call.query["after"])]
        limit = int(call.query["limit"])
        shown = tuple(sample.event(number, "user.created") for number in left[:limit])
        return Page(items=shown, next=str(left[limit - 1]) if len(left) > limit else "")

    api.on("GET", "/events", page)
    assert cpcc("-q", "events", "--kind", "user.created", "--limit", "2").out.split() == ["800", "2500"]
    assert cpcc("-q", "events", "--kind", "user.created").out.split() == ["5", "800", "2500"]
    assert cpcc("-q", "events", "--limit", "3").out.split() == ["2998", "2999", "3000"]


# --- mistakes ---


@pytest.mark.parametrize(
    "words", [(), ("-p",), ("jobs", "-p"), ("nonsense",), ("jobs", "--limit", "x"), ("cd",), ("-c",)]
)
def test_a_command_line_that_cannot_be_read_ends_with_two(cpcc: Cpcc, words: tuple[str, ...]) -> None:
    said = cpcc(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err != ""


def test_a_near_miss_is_suggested(cpcc: Cpcc) -> None:
    assert "did you mean cancel?" in cpcc("cancle", "5").err
    assert "heartbeat_time" not in cpcc("job", "5").err


def test_our_own_mistakes_are_one_line(api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise KeyError("surprise")

    monkeypatch.delenv("CPC_DEBUG", raising=False)
    monkeypatch.setattr("cpc.client.client.Client.whoami", broken)
    said = cpcc("whoami")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "KeyError" in said.err
    assert "CPC_DEBUG=1" in said.err


@pytest.mark.parametrize("text", ["{", "[]", '{"servers": [{"name": 1}]}', '{"version": 9}', "\x00"])
def test_a_damaged_memory_is_named(fresh: Cpcc, text: str) -> None:
    fresh.home.mkdir()
    (fresh.home / "clients.json").write_text(text)
    said = fresh("pwd")
    assert said.code == 1
    assert "clients.json" in said.err
    with pytest.raises(Damaged):
        Config(fresh.home)


def test_two_who_change_the_memory_at_once_both_count(cpcc: Cpcc, api: FakeApi, tmp_path: Path) -> None:
    first, second = Config(cpcc.home), Config(cpcc.home)
    first.update("lab", project="one")
    second.update("lab", token="new")
    found = Config(cpcc.home).find()
    assert (found.project, found.token) == ("one", "new")


def test_quiet_never_speaks_on_stderr_unless_something_is_wrong(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("POST", "/logout", {})
    said = cpcc("-q", "logout")
    assert (said.code, said.out, said.err) == (0, "", "")


# --- starting ---


def test_a_command_starts_without_what_it_does_not_need(cpcc: Cpcc) -> None:
    code = (
        "import sys; from cpc.client import main; sys.argv=['cpcc'];\n"
        f"code = main.run(['--home', {str(cpcc.home)!r}, 'pwd'])\n"
        "heavy = {'ssl', 'http.client', 'cryptography', 'twisted', 'sqlalchemy', 'email', 'asyncio', 'concurrent.futures'}\n"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["Working project: villin", "[] 0"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(cpcc: Cpcc, shell: str) -> None:
    assert "_CPCC_COMPLETE" in cpcc("completion", shell).out


def test_completion_goes_on_after_options_that_stand_anywhere(cpcc: Cpcc) -> None:
    def complete(words: str, place: int) -> list[str]:
        environment = {**os.environ, "_CPCC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        program = [sys.executable, "-c", "from cpc.client.main import main; main()"]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("cpcc can", 1) == ["cancel"]
    assert complete("cpcc -p villin whoa", 3) == ["whoami"]
    assert "--dry-run" in complete("cpcc submit --d", 2)


def test_what_is_not_utf8_can_be_shown_on_any_terminal() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "CPC_HOME": "/nonexistent"}
    program = [sys.executable, "-m", "cpc.client.main", "Ω"]
    done = subprocess.run(program, env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert main.COMMANDS
