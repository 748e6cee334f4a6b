"""What peers were given, older things counting less: so that those who are alike take turns."""

from __future__ import annotations

import math

HALF_LIFE = 3600.0  # seconds after which what a peer was given counts half
NOTHING = 0.01  # cores


class Served:
    """Cores by peer. Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._served: dict[str, tuple[float, float]] = {}  # peer → (cores given, at what time)

    def give(self, peer: str, cores: int, now: float) -> None:
        """It is given so many."""
        self._served[peer] = (self.of(peer, now) + cores, now)

    def of(self, peer: str, now: float) -> float:
        """How many it was given, by what they count now."""
        cores, at = self._served.get(peer, (0.0, now))
        return cores * math.exp(-math.log(2) / HALF_LIFE * max(0.0, now - at))

    def expire(self, now: float) -> None:
        """Forget what counts for next to nothing."""
        for peer in [peer for peer in self._served if self.of(peer, now) < NOTHING]:
            del self._served[peer]
