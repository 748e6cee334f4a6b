"""Programs for process tests, and a bounded wait for what they bring about."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from cpc.worker import tree
from cpc.worker.processes import Exit, GuardedProcesses, Launch

PYTHON = (sys.executable, "-I", "-S")

# argv: file for the daemon's pid, "keep" or "clear" its environment, "end" or "stay" afterwards
DAEMON = """
import os, sys, time
path, environment, then = sys.argv[1:]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(path + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".new", path)
        os.execve("/bin/sleep", ["sleep", "1000"], os.environ if environment == "keep" else {})
    os._exit(0)
os.wait()
while not os.path.exists(path):
    time.sleep(0.002)
if then == "stay":
    time.sleep(1000)
"""


def daemon(path: Path, environment: str = "keep", then: str = "end") -> tuple[str, ...]:
    """A command that leaves a double-forked `sleep` in a session of its own, whose pid it writes to `path`."""
    return (*PYTHON, "-c", DAEMON, str(path), environment, then)


def launch(
    directory: Path, *argv: str, key: str = "", memory: int = 0, walltime: float = 0.0, stdin: str = ""
) -> Launch:
    """A launch in `directory`, made if needed, under a key that is its name."""
    directory.mkdir(exist_ok=True)
    return Launch(
        key or directory.name, argv, dict(os.environ), str(directory), stdin=stdin, memory=memory, walltime=walltime
    )


def begin(processes: GuardedProcesses, what: Launch) -> defer.Deferred[Exit]:
    """Start it; the Deferred fires with its Exit, and fails the test if there is a second one, or none for two minutes."""
    from twisted.internet import reactor

    done: defer.Deferred[Exit] = defer.Deferred()
    processes.start(what, done.callback)
    return done.addTimeout(120.0, reactor, lambda _, seconds: pytest.fail(f"{what.key} did not end in {seconds:g} s"))


async def until(reactor: IReactorTime, holds: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait, letting the reactor run, until `holds()` is true; an AssertionError that says `what` after `seconds`."""
    stop = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < stop, f"not within {seconds:g} s: {what}"
        await task.deferLater(reactor, 0.005)


async def pid_in(reactor: IReactorTime, path: Path) -> int:
    """The process id that a program writes to `path`, in one go."""
    await until(reactor, lambda: path.exists() and path.read_text(), f"{path} is written")
    return int(path.read_text())


def gone(*pids: int) -> bool:
    """Whether none of these runs."""
    return not any(tree.alive(pid) for pid in pids)
