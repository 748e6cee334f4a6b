"""Time as an argument. Two clocks: one that only runs forward, for timers and leases; one for people and certificates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """What may be asked about time. Nothing above `core` reads a clock that it was not handed."""

    def monotonic(self) -> float:
        """Seconds since some start; never goes back. Counts while the machine is suspended."""

    def now(self) -> int:
        """UTC in microseconds since 1970. May step; for display, certificates and retention only."""


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...
    def active(self) -> int | bool: ...


class Timers(Protocol):
    """The part of a reactor that sets timers; Twisted's name and shape (`IReactorTime.callLater`)."""

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Timer: ...


class SystemClock:
    """The machine's clocks. CLOCK_BOOTTIME, so that a suspended laptop's leases count the time it slept."""

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> int:
        return time.time_ns() // 1000


SECOND = 1_000_000
DAY = 86_400 * SECOND
