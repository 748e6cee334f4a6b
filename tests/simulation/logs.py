"""What the code under simulation logs as a failure is a failure: nothing may go wrong that it did not expect."""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from cpc.core.errors import CopernicusError
from cpc.server import dispatcher, machines, monitor, retention, storage
from cpc.store import writer
from cpc.wire import connection, questions
from cpc.worker import link, waiting
from tests.simulation.databases import Killed

heard: list[str] = []


class _Ear:
    """Takes the place of a module's log."""

    def failure(self, text: str, failure: Failure | None = None, **facts: Any) -> None:
        found = failure or Failure()
        if not found.check(Killed, GeneratorExit):
            heard.append(f"log: {text}\n{found.getTraceback()}")

    def warn(self, text: str, **facts: Any) -> None:
        return None

    info = error = debug = critical = warn


_EAR = _Ear()
_NAMES = {
    **dict.fromkeys((dispatcher, machines, monitor, retention, storage, writer), "log"),
    **dict.fromkeys((connection, questions, link, waiting), "_log"),
}
_for_good = False
_before: list[tuple[Any, str, Any]] = []


def deaf() -> None:
    """For good: a program that runs nothing but worlds."""
    listen()
    globals()["_for_good"] = True


def hear_again() -> None:
    """The end of `deaf`; what is left is collected first."""
    sweep()
    globals()["_for_good"] = False
    stop()


def listen() -> None:
    """From now on, until `stop`. The garbage collector must not run meanwhile: it closes coroutines of processes that were
    killed in former worlds, and what they say then is of no interest."""
    heard.clear()
    if not _before:
        gc.disable()
        _before.append((sys, "unraisablehook", sys.unraisablehook))
        sys.unraisablehook = lambda unraisable: None  # coroutines of killed processes, collected
        for module, name in _NAMES.items():
            _before.append((module, name, getattr(module, name)))
            setattr(module, name, _EAR)


def stop() -> None:
    """The modules have their own logs again."""
    while not _for_good and _before:
        setattr(*_before.pop())
    if not _for_good:
        gc.enable()


def sweep() -> None:
    """Collect what former worlds have left, and do not listen to it: but for what went wrong where nobody waited for it."""
    listen()
    wrong = unhandled()
    heard.clear()
    stop()
    assert not wrong, wrong


def unhandled() -> list[str]:
    """Collect what former worlds have left: errors that reached nobody. Those of the code's own kind may: who has asked was
    killed meanwhile."""
    found: list[str] = []

    def hear(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and not failure.check(Killed, GeneratorExit, CopernicusError):
            found.append(failure.getTraceback())

    globalLogPublisher.addObserver(hear)
    gc.collect()
    globalLogPublisher.removeObserver(hear)
    return found
