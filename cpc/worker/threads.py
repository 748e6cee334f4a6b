"""Threads for what blocks. Lean, because every job passes through several: a call costs one wake-up of a thread, and all
that has been done while the reactor was busy costs one wake-up of the reactor together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class FromThread(Protocol):
    """The part of a reactor that may be called from any thread (IReactorFromThreads)."""

    def callFromThread(self, callable: Callable[..., Any]) -> object: ...


class Threads:
    """`run` does a call in one of `size` threads; with one thread, calls run in order."""

    def __init__(self, reactor: FromThread, name: str, size: int = 1) -> None:
        self._reactor = reactor
        self._todo: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._done: deque[tuple[Deferred[Any], Any]] = deque()
        self._told = False  # the reactor knows that something is done
        # Daemons: a process that must end does not wait for a disk that hangs.
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[], T], /) -> Deferred[T]:
        """The call's value, or what it raised, later."""
        answer: Deferred[T] = Deferred()
        self._todo.put((call, answer))
        return answer

    def stop(self) -> None:
        """Wait for all that was asked for, and end the threads. Nothing may be asked for afterwards."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._todo.put(None)
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            call, answer = item
            value: Any
            try:
                value = call()
            except BaseException:
                value = Failure()
            self._done.append((answer, value))
            # Two threads may both find that it was not told: it is told twice, which does no harm.
            if not self._told:
                self._told = True
                self._reactor.callFromThread(self._deliver)
            del item, call, answer, value  # or what it held would live until the next one

    def _deliver(self) -> None:
        self._told = False  # before looking: what is added from now on tells again
        while self._done:
            answer, value = self._done.popleft()
            if answer.called:
                continue  # cancelled
            if isinstance(value, Failure):
                answer.errback(value)
            else:
                answer.callback(value)
