"""Threads on virtual time: a call takes a while, and everything else goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.simulation.databases import Killed
from tests.simulation.network import Host

T = TypeVar("T")


class Pool:
    """One thread per call. What a killed process had under way is never done."""

    def __init__(self, host: Host) -> None:
        self._reactor = host.reactor

    def run(self, call: Callable[[], T], seconds: float) -> Deferred[T]:
        """Do it, in the end."""
        answer: Deferred[T] = Deferred()
        self._reactor.callLater(seconds, self._do, call, answer)
        return answer

    def _do(self, call: Callable[[], Any], answer: Deferred[Any]) -> None:
        try:
            value = call()
        except Killed:
            return  # nobody is left to be told
        except Exception:
            answer.errback(Failure())
        else:
            answer.callback(value)


class Threads(Pool):
    """One thread for all: what waits meanwhile is taken together."""

    def __init__(self, host: Host, seconds: Callable[[], float]) -> None:
        super().__init__(host)
        self._seconds = seconds
        self._free_at = 0.0

    def run(self, call: Callable[[], T], seconds: float = 0.0) -> Deferred[T]:
        now = self._reactor.seconds()
        self._free_at = max(self._free_at, now) + self._seconds() + seconds
        return super().run(call, self._free_at - now)
