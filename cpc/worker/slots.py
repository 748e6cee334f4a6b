"""Who has this worker's cores and memory, and who waits for them: oldest first, nobody is overtaken.

The server gives brief jobs ahead of the worker's room; what does not fit yet waits here, with its files in place. While all
that run and the first that waits have the same amounts, whoever ends makes room for exactly one: then some of those that wait
are told that they are next, and stand in the guardian's line, so that a slot is not idle until the agent has heard of an end.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred

from cpc.core.clock import Clock
from cpc.core.lease import Lease
from cpc.core.resources import Amounts

LINE = 64  # attempts that are told that they are next


@dataclass(slots=True)
class _Waiting:
    wanted: Amounts
    since: float
    by_name: bool
    granted: Deferred[None]


class Slots:
    """`free` is what nobody has."""

    def __init__(self, total: Amounts, clock: Clock) -> None:
        self.free = total
        self._clock = clock
        self._held: dict[Lease, Amounts] = {}
        self._others = 0  # how many of those have other amounts than the one that came last
        self._last = Amounts()
        self._line: dict[Lease, float] = {}  # who is next, and has waited since when
        self._waiting: dict[Lease, _Waiting] = {}

    def take(self, lease: Lease, wanted: Amounts, by_name: bool = False) -> Deferred[None]:
        """Fires when `wanted` is this attempt's, or, unless things are set aside for it `by_name`, when it is next: see
        `beside`. Cancelled by `give` before that, it fails with CancelledError.
        """
        granted: Deferred[None] = Deferred()
        self._waiting[lease] = _Waiting(wanted, self._clock.monotonic(), by_name, granted)
        if len(self._waiting) == 1:
            self._next()
        return granted

    def give(self, lease: Lease) -> None:
        """What the attempt has is free again, or the next one's; or it does not wait any more."""
        waiting = self._waiting.pop(lease, None)
        if waiting is not None:
            waiting.granted.cancel()
        self._line.pop(lease, None)
        held = self._held.pop(lease, None)
        if held is not None:
            self._others -= held != self._last
            if self._line:
                following = next(iter(self._line))
                del self._line[following]
                self._held[following] = held
            else:
                self.free += held
        self._next()

    @property
    def beside(self) -> int:
        """Who has taken room, or is next, begins as soon as fewer than so many run; 0: at once, nobody is next."""
        return len(self._held) if self._line else 0

    @property
    def crowded(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting or self._line)

    def has_room(self, wanted: Amounts) -> bool:
        """Whether who asks now need not wait."""
        return not self.crowded and self.free.covers(wanted)

    def waiting(self, seconds: float = 0.0) -> list[Lease]:
        """Who has waited for at least so long, as far as is known here."""
        limit = self._clock.monotonic() - seconds
        line = [lease for lease, since in self._line.items() if since <= limit]
        return line + [lease for lease, each in self._waiting.items() if each.since <= limit]

    def _next(self) -> None:
        while self._waiting:
            lease, first = next(iter(self._waiting.items()))
            if not self._line and self.free.covers(first.wanted):
                del self._waiting[lease]
                self._hold(lease, first.wanted)
                first.granted.callback(None)
            elif len(self._line) < LINE and self._suits(first):
                del self._waiting[lease]
                self._line[lease] = first.since
                first.granted.callback(None)
            else:
                return

    def _hold(self, lease: Lease, wanted: Amounts) -> None:
        if wanted != self._last:
            self._last = wanted
            self._others = sum(each != wanted for each in self._held.values())
        self._held[lease] = wanted
        self.free -= wanted

    def _suits(self, first: _Waiting) -> bool:
        """Whether whoever ends makes room for this one and no more."""
        return bool(self._held) and not self._others and first.wanted == self._last and not first.by_name
