"""Threads for what blocks: databases, disks, hashes, passwords. Used by server and worker.

Lean, because every job passes through them several times: one thread does what comes, however much it is, and all that
has been done while the reactor was busy wakes the reactor once. The others are for the case that a call takes long.
A thread is woken when the reactor has done what it was at: until then the two would take the interpreter's lock away from
each other at every system call. Twisted's own pool was slower: it wakes more threads than there is work for, and the
reactor for each call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

LONG = 0.005  # seconds: whoever waits behind a call that takes longer gets a thread of its own


def _closed() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


class FromThread(Protocol):
    """The part of a reactor that is needed (IReactorFromThreads, IReactorTime)."""

    def callFromThread(self, callable: Callable[..., Any]) -> object: ...
    def callLater(self, delay: float, callable: Callable[..., Any]) -> object: ...


class Threads:
    """`run` does a call in one of `size` threads; with one thread, calls run in order."""

    def __init__(self, reactor: FromThread, name: str, size: int = 1) -> None:
        self._reactor = reactor
        self._size = size
        self._todo: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._done: deque[tuple[Deferred[Any], Any]] = deque()
        self._told = False  # the reactor knows that something is done
        self._lock = threading.Lock()  # whether anybody is awake to do what was added
        self._asleep = [_closed() for _ in range(size)]  # a gate for each thread; who fell asleep last wakes first
        self._begun = 0  # calls
        self._waking = False  # at the end of this turn of the reactor
        self._watching = False
        self._stopping = False
        # Daemons: a process that must end does not wait for a disk that hangs.
        self._threads = [
            threading.Thread(target=self._work, args=(gate,), name=f"{name}-{number}", daemon=True)
            for number, gate in enumerate(self._asleep)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[], T], /) -> Deferred[T]:
        """The call's value, or what it raised, later."""
        answer: Deferred[T] = Deferred()
        self._todo.append((call, answer))
        if not self._waking:
            self._waking = True
            self._reactor.callLater(0, self._wake_one)
        return answer

    def _wake_one(self) -> None:
        self._waking = False
        if not self._wake(1) and self._size > 1 and not self._watching:
            self._watching = True
            self._reactor.callLater(LONG, lambda begun=self._begun: self._look(begun))

    def stop(self) -> None:
        """Wait for all that was asked for, and end the threads. Nothing may be asked for afterwards."""
        self._stopping = True
        while self._wake(self._size):
            pass
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()

    def _wake(self, most: int) -> bool:
        """Wake a thread, so that up to `most` are awake; whether there was one to wake."""
        with self._lock:
            if self._size - len(self._asleep) >= most or not self._asleep:
                return False
            gate = self._asleep.pop()
        gate.release()
        return True

    def _look(self, begun: int) -> None:
        """If nothing was begun for a while, what waits has another thread."""
        self._watching = False
        if not self._todo:
            return
        if begun == self._begun:
            self._wake(self._size)
        self._watching = True
        self._reactor.callLater(LONG, lambda begun=self._begun: self._look(begun))

    def _work(self, gate: threading.Lock) -> None:
        while True:
            gate.acquire()
            while (item := self._next(gate)) is not None:
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
            if self._stopping:
                return

    def _next(self, gate: threading.Lock) -> tuple[Callable[[], Any], Deferred[Any]] | None:
        """What is to be done; None, and the thread does not count as awake any more, when nothing is."""
        with self._lock:
            if not self._todo:
                if not self._stopping:
                    self._asleep.append(gate)
                return None
            self._begun += 1
            return self._todo.popleft()

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
