"""Whether this worker wants jobs now, and if not, why: drained, leaving, out of time, or stepped back. Pure.

A node on which jobs end badly within seconds, again and again, would eat a whole queue: it steps back for a growing
pause and says so. The same holds when the node itself cannot do its part (a full disk).
"""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import show_span

QUICK = 5.0  # seconds: a failure after so little time may be the node's
QUICK_IN_A_ROW = 5
FIRST_PAUSE = 15.0
LONGEST_PAUSE = 3600.0
USELESS = 30.0  # seconds, on top of the grace: with less time left no job is worth starting


class Standing:
    """Facts in, words out. All times are monotonic seconds; `until` is when the worker's own time is over."""

    def __init__(self, until: float | None = None, grace: float = 30.0) -> None:
        self.draining = ""
        self.leaving = ""
        self.until = until
        self._grace = grace
        self._back_until = 0.0
        self._back_why = ""
        self._pause = FIRST_PAUSE
        self._quick: dict[tuple[str, int], None] = {}  # jobs, with the path to their owners
        self._stuck: dict[Lease, str] = {}

    def time_left(self, now: float) -> float | None:
        """Seconds until the worker's own time is over; None when it has no end."""
        return None if self.until is None else max(0.0, self.until - now)

    def must_stop(self, now: float) -> bool:
        """Whether jobs must be stopped now, so that what they leave can be handed in before the end."""
        left = self.time_left(now)
        return left is not None and left <= self._grace + USELESS / 2

    def left_to_begin(self, now: float) -> float | None:
        """Seconds until it begins nothing new because its own time is nearly over; None when that has no end."""
        left = self.time_left(now)
        return None if left is None else left - self._grace - USELESS

    def wants(self, now: float) -> bool:
        """Whether to take jobs."""
        return not (
            self.draining or self.leaving or self._out_of_time(now) or self._stuck or now < self._back_until
        )  # fmt: skip

    def _out_of_time(self, now: float) -> bool:
        left = self.left_to_begin(now)
        return left is not None and left <= 0

    def declines(self, now: float) -> str:
        """Why a job that comes now, because the server could not know yet, is not begun; empty if it is."""
        if self.leaving:
            return f"the worker is leaving ({self.leaving})"
        if now < self._back_until:
            return "the worker has stepped back"
        return "the worker's own time is nearly over" if self._out_of_time(now) else ""

    def note(self, now: float) -> str:
        """Why not, in words; empty while nothing is wrong."""
        if self.leaving:
            return f"leaving: {self.leaving}"
        if self._stuck:
            return next(iter(self._stuck.values()))
        if now < self._back_until:
            return f"{self._back_why}; tries again in {show_span(self._back_until - now)}"
        if self._out_of_time(now):
            return "its own time is nearly over: it begins nothing new"
        return ""

    def fault(self, now: float, why: str) -> bool:
        """The node could not do its part. True when this begins a pause (and is worth a line)."""
        if now < self._back_until:
            return False
        self._step_back(now, why)
        return True

    def stuck(self, lease: Lease, why: str) -> bool:
        """A result cannot be kept; an empty `why` ends it. True when this is news."""
        if not why:
            return self._stuck.pop(lease, None) is not None
        news = lease not in self._stuck
        self._stuck[lease] = why
        return news

    def ended(self, now: float, lease: Lease, outcome: Outcome, seconds: float) -> bool:
        """A job's program has ended. True when the worker steps back because of it."""
        if outcome in (Outcome.FAILED, Outcome.REFUSED) and seconds < QUICK:
            self._quick[lease.path, lease.job] = None
            if len(self._quick) >= QUICK_IN_A_ROW and now >= self._back_until:
                why = (
                    f"{len(self._quick)} jobs in a row failed within {QUICK:.0f} s; is something missing on this node?"
                )
                self._step_back(now, why)
                return True
        elif outcome in (Outcome.OK, Outcome.FAILED, Outcome.EXCEEDED):
            self._quick.clear()
            self._pause = FIRST_PAUSE
        return False

    @property
    def back_until(self) -> float:
        """When the pause ends."""
        return self._back_until

    def _step_back(self, now: float, why: str) -> None:
        self._back_why = why
        self._back_until = now + self._pause
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        # After the pause it takes fewer to step back again: one more failure is enough until a job succeeds.
        self._quick = dict.fromkeys(list(self._quick)[-(QUICK_IN_A_ROW - 1) :])
