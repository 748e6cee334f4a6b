"""The clock that leases run by: it stands still while this server could not have received a heartbeat.

Stopped, suspended, a blocked reactor, a database that is away: none of it may expire a lease. The monitor ticks at a
steady pace; a gap between ticks is our own outage and is taken out.
"""

from __future__ import annotations

PACE = 1.0  # seconds between ticks
TOLERANCE = 1.0  # a tick may be that late without being an outage


class LeaseClock:
    """Seconds since the server began to accept connections, without its own outages."""

    def __init__(self, monotonic: float) -> None:
        self._last = monotonic
        self._reading = 0.0
        self._away = False
        self.forgiven = 0.0

    def tick(self, monotonic: float, away: bool = False) -> float:
        """Called each PACE seconds; `away`: nothing could be received or recorded since the last tick."""
        gap = max(0.0, monotonic - self._last)
        self._last = monotonic
        counted = 0.0 if away or self._away else gap if gap <= PACE + TOLERANCE else PACE
        self._away = away
        self._reading += counted
        self.forgiven += gap - counted
        return self._reading

    @property
    def reading(self) -> float:
        """The last tick's reading: leases are dated by it, so between two ticks they are dated a little early."""
        return self._reading

    def at(self, monotonic: float) -> float:
        """The reading now, between ticks."""
        return self._reading if self._away else self._reading + min(max(0.0, monotonic - self._last), PACE)
