"""Small helpers for waiting: a gate that many wait at, a budget that many share, a pause, a back-off with jitter."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Timers

T = TypeVar("T")
_log = Logger()


class Gate(Generic[T]):
    """Something that is there at times: `wait` gives it at once while it is, else when it comes."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._waiting: list[Deferred[T]] = []

    def open(self, value: T) -> None:
        """It is there: everybody who waits goes on."""
        self._value = value
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(value)

    def shut(self) -> None:
        """It is gone."""
        self._value = None

    @property
    def value(self) -> T | None:
        """What is there now."""
        return self._value

    async def wait(self) -> T:
        """What is there, or what comes next."""
        if self._value is not None:
            return self._value
        waiter: Deferred[T] = Deferred()
        self._waiting.append(waiter)
        return await waiter


class Budget:
    """So much at a time, first come, first served. What is more than all of it has its turn alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    async def take(self, amount: int) -> None:
        """Wait for it; `give` it back."""
        turn: Deferred[None] = Deferred()
        self._waiting.append((amount, turn))
        self._next()
        await turn

    def give(self, amount: int) -> None:
        """It is done with."""
        self._taken -= amount
        self._next()

    def _next(self) -> None:
        while self._waiting and (not self._taken or self._taken + self._waiting[0][0] <= self._most):
            amount, turn = self._waiting.popleft()
            self._taken += amount
            turn.callback(None)


class Backoff:
    """How long to wait before the next try: doubling from `first` to `most` seconds, each with jitter."""

    def __init__(self, chance: Chance, first: float = 1.0, most: float = 60.0) -> None:
        self._chance = chance
        self._first = first
        self._longest = self._most = most
        self._next = first

    def pause(self) -> float:
        """Seconds: between half of what is due and all of it."""
        due, self._next = self._next, min(self._most, self._next * 2)
        return self._chance.uniform(due / 2, due)

    def most(self) -> float:
        """The longest pause at once: for a refusal that will not change within seconds."""
        self._next = self._most
        return self.pause()

    def bound(self, most: float) -> None:
        """Never wait longer than this (or than was said at first)."""
        self._most = min(self._longest, max(self._first, most))
        self._next = min(self._next, self._most)

    def reset(self) -> None:
        """It worked."""
        self._next = self._first


def later(reactor: Timers, seconds: float) -> Deferred[None]:
    """Fires after `seconds`; cancelling it fires it with CancelledError at once."""
    done: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = reactor.callLater(seconds, lambda: done.callback(None))
    return done


async def sleep(reactor: Timers, seconds: float) -> None:
    """A pause on the reactor that was handed in."""
    await later(reactor, seconds)


def in_background(work: Coroutine[Any, Any, Any], what: str) -> Deferred[Any]:
    """Run `work` by itself; what it did not expect goes to the log with `what`."""
    done = ensureDeferred(work)
    done.addErrback(lambda failure: _log.failure("{what} failed", failure=failure, what=what))
    return done
