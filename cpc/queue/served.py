"""What peers were given, older things counting less: so that those who are alike take turns."""

from __future__ import annotations

import math

HALF_LIFE = 3600.0  # seconds after which what a peer was given counts half
NOTHING = 0.01


class Served:
    """Cores, or core-seconds, by peer. Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._served: dict[str, tuple[float, float]] = {}  # peer → (given, at what time)

    def give(self, peer: str, amount: float, now: float) -> None:
        """It is given so much; negative: what it was given turns out to be less."""
        self._served[peer] = (max(0.0, self.of(peer, now) + amount), now)

    def of(self, peer: str, now: float) -> float:
        """How much it was given, by what that counts now."""
        amount, at = self._served.get(peer, (0.0, now))
        return amount * math.exp(-math.log(2) / HALF_LIFE * max(0.0, now - at))

    def expire(self, now: float) -> None:
        """Forget what counts for next to nothing."""
        for peer in [peer for peer in self._served if self.of(peer, now) < NOTHING]:
            del self._served[peer]
