"""What the code under simulation logs as a failure is a failure: nothing may go wrong that it did not expect."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from cpc.server import machines, monitor, retention, storage
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


ear = _Ear()
for module in (machines, monitor, retention, storage, writer):
    module.log = ear  # type: ignore[attr-defined]
for module in (connection, questions, link, waiting):
    if hasattr(module, "_log"):
        module._log = ear
