"""No orphans: whatever an attempt starts is ended, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from cpc.worker import tree
from cpc.worker.limits import Limits
from cpc.worker.processes import GUARDIAN_DIED, GuardedProcesses
from tests.helpers.processes import PYTHON, begin, daemon, gone, launch, pid_in, until


@pytest_twisted.async_yield_fixture
async def processes(tmp_path: Path) -> AsyncIterator[GuardedProcesses]:
    guarded = GuardedProcesses(reactor, tmp_path, Limits(interval=0.05))
    yield guarded
    keeper, guardian = guarded.keeper_pid, guarded.guardian_pid
    await guarded.close()
    assert gone(*filter(None, (keeper, guardian)))


@pytest.mark.parametrize("environment", ["keep", "clear"])
@pytest_twisted.ensureDeferred
async def test_a_daemon_of_a_job_ends_with_the_job(
    processes: GuardedProcesses, tmp_path: Path, environment: str
) -> None:
    exit = await begin(processes, launch(tmp_path / "run", *daemon(tmp_path / "pid", environment)))
    assert exit.code == 0
    assert exit.error == ""
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("environment", ["keep", "clear"])
@pytest_twisted.ensureDeferred
async def test_a_daemon_of_a_job_ends_when_the_job_is_stopped(
    processes: GuardedProcesses, tmp_path: Path, environment: str
) -> None:
    ended = begin(processes, launch(tmp_path / "run", *daemon(tmp_path / "pid", environment, "stay")))
    pid = await pid_in(reactor, tmp_path / "pid")
    processes.stop("run", 10)
    exit = await ended
    assert exit.code == -signal.SIGTERM
    assert gone(pid)


RUNAWAY = """
import os, sys
for step in range(20000):
    if os.fork():
        os._exit(0)
    os.setsid()
    if step == 50:
        open(sys.argv[1], "w").close()
"""


@pytest_twisted.ensureDeferred
async def test_a_process_that_keeps_forking_away_is_caught(processes: GuardedProcesses, tmp_path: Path) -> None:
    command = ("sh", "-c", '"$@"; sleep 1000', "sh", *PYTHON, "-c", RUNAWAY, str(tmp_path / "flies"))
    ended = begin(processes, launch(tmp_path / "run", *command))
    await until(reactor, (tmp_path / "flies").exists, "it is on its way")
    guardian = processes.guardian_pid
    processes.kill("run")
    assert (await ended).code == -signal.SIGKILL
    assert tree.children(guardian) == []


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_hides_where_it_comes_from_never_costs_another_job(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    other = begin(processes, launch(tmp_path / "other", "sleep", "1000"))
    await begin(processes, launch(tmp_path / "run", *daemon(tmp_path / "pid", "clear")))
    hidden = int((tmp_path / "pid").read_text())
    assert processes.running() == ("other",)
    processes.kill("other")
    assert (await other).code == -signal.SIGKILL
    await until(reactor, lambda: gone(hidden), "the hidden daemon has ended with the last job it could belong to")


@pytest_twisted.ensureDeferred
async def test_a_daemon_of_an_ended_job_leaves_its_neighbours_daemon_alone(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    other = begin(processes, launch(tmp_path / "other", *daemon(tmp_path / "other.pid", "keep", "stay")))
    kept = await pid_in(reactor, tmp_path / "other.pid")
    await begin(processes, launch(tmp_path / "run", *daemon(tmp_path / "pid")))
    assert gone(int((tmp_path / "pid").read_text()))
    assert tree.alive(kept)
    processes.stop("other", 5)
    await other
    assert gone(kept)


@pytest.mark.parametrize("environment", ["keep", "clear"])
@pytest_twisted.ensureDeferred
async def test_nothing_outlives_an_agent_that_is_killed(tmp_path: Path, environment: str) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.guarded_agent", str(tmp_path),
         *daemon(tmp_path / "pid", environment, "stay")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert agent.stdout is not None
    keeper, guardian = map(int, agent.stdout.readline().split())
    pid = await pid_in(reactor, tmp_path / "pid")
    everyone = tree.below([keeper])
    assert {keeper, guardian, pid} <= set(everyone)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    await until(reactor, lambda: gone(*everyone), f"all of {everyone} have ended")


@pytest.mark.parametrize(
    ("whom", "environment"),
    [
        ("guardian", "keep"),
        ("guardian", "clear"),
        ("keeper", "keep"),
        ("keeper", "clear"),
        ("both", "keep"),  # then only the mark in the environment is left to find a daemon by
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_killed_guardian_leaves_nothing_and_is_not_the_jobs_fault(
    processes: GuardedProcesses, tmp_path: Path, whom: str, environment: str
) -> None:
    ended = begin(processes, launch(tmp_path / "run", *daemon(tmp_path / "pid", environment, "stay")))
    pid = await pid_in(reactor, tmp_path / "pid")
    await until(reactor, lambda: processes.guardian_pid, "the guardian is ready")
    keeper, guardian = processes.keeper_pid, processes.guardian_pid
    main = [child for child in tree.children(guardian) if child != pid]
    for victim in {"guardian": [guardian], "keeper": [keeper], "both": [keeper, guardian]}[whom]:
        os.kill(victim, signal.SIGKILL)
    exit = await ended
    assert exit.code is None
    assert exit.error == GUARDIAN_DIED
    assert gone(pid, keeper, guardian, *main)
    again = await begin(processes, launch(tmp_path / "again", "true"))
    assert again.code == 0
    assert processes.guardian_pid not in (0, guardian)


@pytest_twisted.ensureDeferred
async def test_signals_to_the_guardian_do_not_end_it(processes: GuardedProcesses, tmp_path: Path) -> None:
    await begin(processes, launch(tmp_path / "run", "true"))
    guardian, keeper = processes.guardian_pid, processes.keeper_pid
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guardian, number)
        os.kill(keeper, number)
    assert (await begin(processes, launch(tmp_path / "run", "true"))).code == 0
    assert processes.guardian_pid == guardian


def test_the_guardian_imports_nothing_heavy() -> None:
    heavy = {"twisted", "msgspec", "msgpack", "json", "dataclasses", "typing", "asyncio", "logging", "socket"}
    script = "import sys; sys.path.insert(0, '.'); import cpc.worker.guardian; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(modules)
    assert "cpc.worker.guardian" in modules
