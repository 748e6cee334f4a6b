"""cpcc and the SDK with a real server and a real worker: live output, interruptions, terminals, many jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest

from cpc.client import Executor, JobFailed, watcher
from cpc.client.transport import Transport
from tests.helpers.network_of_processes import BIN, Network
from tests.helpers.real_programs import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab(network: Network) -> Iterator[Network]:
    """The module's network with a worker of two cores."""
    with network.working():
        yield network


def at_terminal(lab: Network, answers: list[list[str]], *command: str, seconds: float = PATIENCE) -> tuple[int, str]:
    """A command on a pseudo terminal: its exit code, and what was seen there."""
    script = lab.directory / "answers.json"
    script.write_text(json.dumps(answers))
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.terminal", str(script), str(seconds), str(BIN / "cpcc"), *command],
        cwd=ROOT, env={**lab.environment(), "TERM": "xterm"}, capture_output=True, timeout=seconds + 20, check=False,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def test_run_shows_what_a_job_writes_while_it_runs(lab: Network, tmp_path: Path) -> None:
    """It prints nothing more until it is allowed to: what is seen before that was seen live."""
    go = tmp_path / "go"
    script = f"echo begun; echo beside >&2; while [ ! -e {go} ]; do sleep 0.05; done; echo ended; echo data > result"
    program = lab.begin("cpcc", "run", "-o", str(tmp_path / "out"), "--", "/bin/sh", "-c", script)
    lab.until(lambda: "begun" in program.said and "beside" in program.said, "the output is seen live")
    assert "ended" not in program.said
    go.touch()
    assert program.ended() == 0
    assert "ended" in program.said
    assert (tmp_path / "out/result").read_text() == "data\n"


def test_run_ends_with_one_when_the_job_fails(lab: Network) -> None:
    answer = lab.cpcc("run", "--", "/bin/sh", "-c", "echo to-stdout; exit 3")
    assert answer.code == 1
    assert answer.out == "to-stdout\n"
    assert "exit code 3" in answer.err


def test_ctrl_c_leaves_the_job_running(lab: Network) -> None:
    program = lab.begin("cpcc", "run", "--", "/bin/sh", "-c", "echo begun; exec sleep 600")
    lab.until(lambda: "begun" in program.said, "the job runs")
    program.send(signal.SIGINT)
    assert program.ended() == 130
    job = program.said.partition("Submitted job ")[2].split()[0]
    assert f"cpcc cancel {job}" in program.said
    assert lab.job(job).state == "running"
    assert lab.cpcc("cancel", job).done() == "Cancelled 1 job.\n"
    assert lab.cpcc("wait", job).code == 1


def test_waiting_and_following_outlast_a_killed_server(network: Network, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with network.working():
        script = f"seq 1 1000; while [ ! -e {go} ]; do sleep 0.05; done; seq 1001 2000"
        job = network.shell(script)
        waiting = network.begin("cpcc", "wait", job)
        following = network.begin("cpcc", "logs", "-f", job)
        network.until(lambda: "1000\n" in following.said, "the first half is seen")
        network.kill_server()
        network.start()
        assert waiting.running
        go.touch()
        assert waiting.ended() == 0
        assert following.ended() == 0
    assert following.said.split() == [str(number) for number in range(1, 2001)]


def test_many_futures_cost_few_questions(lab: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    whole = Transport.whole

    def counted(self: Transport, method: str, path: str, *rest: Any, **query: Any) -> bytes:
        asked.append(f"{method} {path}")
        return whole(self, method, path, *rest, **query)

    monkeypatch.setattr(Transport, "whole", counted)
    begun = time.monotonic()
    with lab.connect() as client, Executor(client, "p") as jobs:
        futures = jobs.map(["/bin/sh", "-c", "test {n} -ne 7"], [{"n": number} for number in range(300)])
        ended = list(as_completed(futures, timeout=PATIENCE))
        assert len(ended) == 300
        assert [number for number, future in enumerate(futures) if future.exception() is not None] == [7]
        failure = futures[7].exception()
        assert isinstance(failure, JobFailed)
        assert failure.job.exit_code == 1
        assert futures[8].result().job.id.endswith("[8]")
    # However long the jobs take: a wait and a look each time.
    assert len(asked) < 20 + 2 * (time.monotonic() - begun) / watcher.SHORTEST, asked


def test_inputs_come_back_as_they_were(lab: Network, tmp_path: Path) -> None:
    big = os.urandom(11 << 20)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/big").write_bytes(big)
    (tmp_path / "in/tool").write_text("#!/bin/sh\ncat > copy; wc -c < in/big")
    (tmp_path / "in/tool").chmod(0o755)
    words = ("--input", str(tmp_path / "in"), "--stdin", str(tmp_path / "in/big"), "-o", str(tmp_path / "out"))
    answer = lab.cpcc("run", *words, "--", "in/tool")
    assert answer.done().strip() == str(len(big))
    assert (tmp_path / "out/copy").read_bytes() == big


def test_an_array_is_fetched_one_directory_for_each_job(lab: Network, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("seed,name\n5,five\n6,six\n")
    words = (
        "--from-csv",
        str(tmp_path / "runs.csv"),
        "--wait",
        "--",
        "/bin/sh",
        "-c",
        "echo {name} $CPC_INDEX > {seed}.txt",
    )
    array = lab.cpcc("--quiet", "submit", *words).done().split()[0]
    lab.cpcc("fetch", array, "*.txt", "-o", str(tmp_path / "out")).done()
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_text() for path in tmp_path.glob("out/*/*")}
    assert found == {"0/5.txt": "five 0\n", "1/6.txt": "six 1\n"}
    again = lab.cpcc("fetch", array, "-o", str(tmp_path / "out"))
    assert again.code == 0


def test_watch_tells_events_and_ends_with_the_job(lab: Network, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = lab.shell(f"while [ ! -e {go} ]; do sleep 0.05; done; exit 4")
    program = lab.begin("cpcc", "watch", job)
    lab.until(lambda: lab.job(job).state == "running", "the job runs")
    go.touch()
    assert program.ended() == 1
    assert "job.failed" in program.said or "has failed" in program.said


@pytest.mark.parametrize(("command", "looks"), [("watch", 1), ("wait", 2)])
def test_at_a_terminal_the_view_is_live_and_leaves_one_line(
    lab: Network, tmp_path: Path, command: str, looks: int
) -> None:
    """The jobs end when the command has looked so often at them, and has thus something to draw."""
    go, route = tmp_path / "go", "/api/v1/jobs/{id}"
    array = lab.submit("/bin/sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done", array=6)
    before = lab.requests().get(route, 0)

    def let_go() -> None:
        lab.until(lambda: lab.requests().get(route, 0) >= before + looks, "it has looked")
        go.touch()

    watcher = threading.Thread(target=let_go)
    watcher.start()
    code, seen = at_terminal(lab, [], command, array)
    watcher.join()
    assert code == 0, seen
    assert {"█", "░"} & set(seen)
    assert f"Array {array}: 6 succeeded" in seen


def test_at_a_terminal_people_are_asked(lab: Network, tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "home"))
    add = ("add-server", "-n", "lab", "127.0.0.1", str(lab.client_port))
    code, seen = at_terminal(lab, [[r"\[y/N\]:", "n"]], *home, *add)
    assert code == 1
    assert "the server was not added" in seen
    code, seen = at_terminal(lab, [[r"\[y/N\]:", "y"]], *home, *add)
    assert code == 0, seen
    code, seen = at_terminal(lab, [["eve:", "one-password"], ["again:", "another-password"]], "add-user", "eve")
    assert code == 1
    assert "differ" in seen
    twice = [["eve:", "right-password"], ["again:", "right-password"]]
    code, seen = at_terminal(lab, twice, "add-user", "eve")
    assert code == 0, seen
    assert "right-password" not in seen
    code, seen = at_terminal(lab, [["eve:", "right-password"]], *home, "login", "eve")
    assert "Logged in as eve" in seen


def test_why_names_what_is_missing(lab: Network) -> None:
    dry = lab.cpcc("submit", "--dry-run", "--cores", "900", "--", "true").done()
    assert "nothing was stored" in dry
    assert "900 cores" in dry
    job = lab.cpcc("--quiet", "submit", "--cores", "900", "--", "true").done().strip()
    why: Callable[[], str] = lambda: lab.cpcc("why", job).done()  # noqa: E731
    assert "900 cores" in why()
    lab.cpcc("cancel", job).done()
    assert "cancelled" in why()
