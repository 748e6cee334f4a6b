"""The guardian's line: the next one begins when another has ended, without the agent, never more at once than may be."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest_twisted
from twisted.internet import defer, reactor

from cpc.worker.limits import Limits
from cpc.worker.processes import GUARDIAN_DIED, Exit, GuardedProcesses, Launch
from tests.helpers.processes import begin, launch, pid_in, until


@pytest_twisted.async_yield_fixture
async def processes(tmp_path: Path) -> AsyncIterator[GuardedProcesses]:
    guarded = GuardedProcesses(reactor, tmp_path, Limits(interval=0.05), environment={"SHARED": "yes", "OWN": "no"})
    yield guarded
    await guarded.close()


def waiting(directory: Path, *argv: str, beside: int = 1) -> Launch:
    return msgspec.structs.replace(launch(directory, *argv), beside=beside)


def in_line(processes: GuardedProcesses, directory: Path, seconds: float, beside: int) -> list[defer.Deferred[Exit]]:
    """A dozen that write to `log` when they begin and end: appends of a line are whole."""
    script = f"echo + $1 >> {directory}/log; sleep {seconds}; echo - $1 >> {directory}/log"
    return [
        begin(processes, waiting(directory / str(number), "sh", "-c", script, "sh", str(number), beside=beside))
        for number in range(12)
    ]


@pytest_twisted.ensureDeferred
async def test_the_line_keeps_its_order(processes: GuardedProcesses, tmp_path: Path) -> None:
    exits = await defer.gatherResults(in_line(processes, tmp_path, 0, beside=1))
    assert {(exit.code, exit.began) for exit in exits} == {(0, True)}
    assert (tmp_path / "log").read_text().splitlines() == [f"{sign} {number}" for number in range(12) for sign in "+-"]


@pytest_twisted.ensureDeferred
async def test_no_more_run_at_a_time_than_may(processes: GuardedProcesses, tmp_path: Path) -> None:
    await defer.gatherResults(in_line(processes, tmp_path, 0.05, beside=2))
    running = most = 0
    for line in (tmp_path / "log").read_text().splitlines():
        running += 1 if line.startswith("+") else -1
        most = max(most, running)
    assert running == 0
    assert most <= 2


@pytest_twisted.ensureDeferred
async def test_what_is_withdrawn_or_stopped_in_line_has_not_begun(processes: GuardedProcesses, tmp_path: Path) -> None:
    script = "echo $$ > pid; until [ -e go ]; do sleep 0.01; done; exit 3"
    running = begin(processes, launch(tmp_path / "run", "sh", "-c", script))
    ends = {
        name: begin(processes, waiting(tmp_path / name, "touch", "ran")) for name in ("withdrawn", "stopped", "last")
    }
    await pid_in(reactor, tmp_path / "run/pid")
    processes.withdraw("withdrawn")
    processes.stop("stopped", 100.0)
    assert [(await ends[name]).began for name in ("withdrawn", "stopped")] == [False, False]
    assert set(processes.running()) == {"run", "last"}
    processes.withdraw("run")  # it runs: nothing happens to it
    (tmp_path / "run/go").touch()
    assert (await running).code == 3
    assert ((await ends["last"]).code, (await ends["last"]).began) == (0, True)
    assert [(tmp_path / name / "ran").exists() for name in ends] == [False, False, True]


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_start_makes_way_for_the_next(processes: GuardedProcesses, tmp_path: Path) -> None:
    first = begin(processes, launch(tmp_path / "first", "sleep", "0.1"))
    missing = begin(processes, waiting(tmp_path / "missing", "/no/such/program"))
    last = begin(processes, waiting(tmp_path / "last", "true"))
    assert (await first).code == 0
    assert "was not found" in (await missing).error
    assert (await last).code == 0


@pytest_twisted.ensureDeferred
async def test_a_guardian_that_dies_takes_its_line_along_and_the_next_one_has_a_line_of_its_own(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    first = begin(processes, launch(tmp_path / "first", "sleep", "1000"))
    second = begin(processes, waiting(tmp_path / "second", "touch", "ran"))
    await until(reactor, lambda: processes.guardian_pid, "the guardian is ready")
    os.kill(processes.guardian_pid, signal.SIGKILL)
    after = first.addCallback(lambda exit: (exit, begin(processes, waiting(tmp_path / "third", "true"))))
    exit, third = await after
    assert (exit.error, (await second).error) == (GUARDIAN_DIED, GUARDIAN_DIED)
    assert (await third).code == 0  # nothing runs beside it any more
    assert not (tmp_path / "second/ran").exists()


@pytest_twisted.ensureDeferred
async def test_good_ends_wait_for_each_other_and_a_bad_one_is_told_at_once(tmp_path: Path) -> None:
    patient = GuardedProcesses(reactor, tmp_path, Limits(gather=1000.0))
    told: list[str] = []
    long = begin(patient, launch(tmp_path / "long", "sleep", "1000"))
    for name, program in (("good", "true"), ("bad", "false"), ("next", "true"), ("last", "true")):
        patient.start(waiting(tmp_path / name, program, beside=2), lambda exit: told.append(exit.key))
    for number in range(3):
        patient.start(waiting(tmp_path / str(number), "sleep", "1000", beside=2), lambda exit: told.append(exit.key))
    await until(reactor, lambda: told, "the bad end is told")
    assert told[:2] == ["good", "bad"]  # in one message: without the bad one nothing would have been told yet
    # At the end of the line nothing waits any more: of "0", "1" and "2", one runs, and two ends are not told.
    await until(reactor, lambda: told == ["good", "bad", "next", "last"], "the line is nearly at its end")
    await patient.close()
    await long


@pytest_twisted.ensureDeferred
async def test_ends_are_told_soon_though_the_line_is_long(processes: GuardedProcesses, tmp_path: Path) -> None:
    """While one that runs long keeps the line waiting, too."""
    told: list[Exit] = []
    processes.start(launch(tmp_path / "brief", "true"), told.append)
    long = begin(processes, launch(tmp_path / "long", "sleep", "1000"))
    ends = [begin(processes, waiting(tmp_path / str(number), "sleep", "1000", beside=2)) for number in range(5)]
    await until(reactor, lambda: told, "the end is told")
    for key in processes.running():
        processes.kill(key)
    await defer.gatherResults([long, *ends])


@pytest_twisted.ensureDeferred
async def test_what_all_have_in_their_environment_gives_way_to_what_one_has(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    what = Launch("run", ("/usr/bin/env",), {"OWN": "mine", "PATH": "/bin"}, str(tmp_path))
    assert (await begin(processes, what)).code == 0
    seen = dict(line.split("=", 1) for line in (tmp_path / "stdout").read_text().splitlines())
    assert {name: seen.get(name) for name in ("SHARED", "OWN", "PATH")} == {
        "SHARED": "yes",
        "OWN": "mine",
        "PATH": "/bin",
    }
    assert set(seen) == {"SHARED", "OWN", "PATH", "CPC_GUARDIAN"}
