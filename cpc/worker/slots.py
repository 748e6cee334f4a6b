"""Who has this worker's cores and memory, and who waits for them: oldest first, nobody is overtaken.

The server gives brief jobs ahead of the worker's room; what does not fit yet waits here, with its files in place.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from cpc.core.clock import Clock
from cpc.core.lease import Lease
from cpc.core.resources import Amounts


class Slots:
    """`free` is what nobody has."""

    def __init__(self, total: Amounts, clock: Clock) -> None:
        self.free = total
        self._clock = clock
        self._held: dict[Lease, Amounts] = {}
        self._waiting: dict[Lease, tuple[Amounts, float, Deferred[None]]] = {}

    def take(self, lease: Lease, wanted: Amounts) -> Deferred[None]:
        """Fires when `wanted` is this attempt's; cancelled by `give` before that, it fails with CancelledError."""
        granted: Deferred[None] = Deferred()
        self._waiting[lease] = (wanted, self._clock.monotonic(), granted)
        if len(self._waiting) == 1:
            self._next()
        return granted

    def give(self, lease: Lease) -> None:
        """What the attempt has is free again; or it does not wait any more."""
        waiting = self._waiting.pop(lease, None)
        if waiting is not None:
            waiting[2].cancel()
        held = self._held.pop(lease, None)
        if held is not None:
            self.free += held
        self._next()

    @property
    def crowded(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def has_room(self, wanted: Amounts) -> bool:
        """Whether who asks now need not wait."""
        return not self._waiting and self.free.covers(wanted)

    def waiting(self, seconds: float = 0.0) -> list[Lease]:
        """Who has waited for at least so long."""
        limit = self._clock.monotonic() - seconds
        return [lease for lease, (_, since, _) in self._waiting.items() if since <= limit]

    def _next(self) -> None:
        while self._waiting:
            lease = next(iter(self._waiting))
            wanted, _, granted = self._waiting[lease]
            if not self.free.covers(wanted):
                return
            del self._waiting[lease]
            self._held[lease] = wanted
            self.free -= wanted
            granted.callback(None)
