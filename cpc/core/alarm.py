"""A timer that is not believed when this process stood still: stopped, or asleep with its machine, or kept busy for seconds.

Timers come before what is to be read. So what has come in meanwhile would count as missing, if the first thing to happen
afterwards were that its time is over.
"""

from __future__ import annotations

from collections.abc import Callable

from cpc.core.clock import Clock, Timer, Timers

STOOD = 1.0  # seconds: a timer that is off by more
AGAIN = 5.0  # seconds, at most, to read what has come


class Alarm:
    """A Timer: calls back once, `seconds` from now; later if this process stands still then, and not sooner though the reactor's
    own clock is set forward."""

    __slots__ = ("_again", "_call", "_clock", "_due", "_timer", "_timers")

    def __init__(self, timers: Timers, clock: Clock, seconds: float, call: Callable[[], object]) -> None:
        self._timers = timers
        self._clock = clock
        self._call = call
        self._again = min(AGAIN, seconds)
        self._set(seconds)

    def active(self) -> int | bool:
        """Whether it has still to call back."""
        return self._timer.active()

    def cancel(self) -> None:
        """It is needed no more."""
        self._timer.cancel()
        self._call = _nothing  # and whatever it held is let go

    def _set(self, seconds: float) -> None:
        self._due = self._clock.monotonic() + seconds
        self._timer: Timer = self._timers.callLater(seconds, self._ring)

    def _ring(self) -> None:
        late = self._clock.monotonic() - self._due
        if abs(late) > STOOD:
            self._set(max(self._again, -late))
        else:
            call, self._call = self._call, _nothing
            call()


def _nothing() -> None:
    pass
