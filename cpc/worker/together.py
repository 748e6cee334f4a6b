"""Brief work of many attempts in one pass through a thread, so that the hand-over is paid for once.

Nothing of a pass is told before all of it is done: told one by one, the reactor and the thread would take the interpreter's
lock from each other at every system call. So nothing long belongs here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cpc.core.offload import Offload
from cpc.worker.waiting import in_background

T = TypeVar("T")


class Together:
    """An `Offload` for what is brief."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._todo: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._passing = False

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """The work's value, or what it raised, with that of all that is asked for in this turn of the reactor."""
        done: Deferred[T] = Deferred()
        self._todo.append((work, done))
        if not self._passing:
            self._passing = True
            in_background(self._pass(), "brief work in a thread")
        return done

    async def _pass(self) -> None:
        while self._todo:
            for done, value in await self._offload(self._work):
                if not done.called:  # cancelled
                    done.callback(value)  # with a Failure it fails
        self._passing = False

    def _work(self) -> list[tuple[Deferred[Any], Any]]:
        """In the thread: all that is there by now."""
        did: list[tuple[Deferred[Any], Any]] = []
        while self._todo:
            work, done = self._todo.popleft()
            try:
                did.append((done, work()))
            except BaseException:
                did.append((done, Failure()))
        return did
