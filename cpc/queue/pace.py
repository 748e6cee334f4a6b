"""How long jobs of a submission take: quick to believe that they are long, slow to believe that they are short.

Only what was seen in this server's life; it decides nothing but how many jobs a worker is given ahead of its room.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 1000
TRUST = 0.25  # how much of a shorter time is believed at once
DOUBT = 60.0  # seconds: about fifteen brief ones must end before the submission counts as brief again


class Pace:
    """Seconds from a program's start to its end, by submission."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, float] = OrderedDict()

    def note(self, array: int, seconds: float) -> None:
        """A job of the submission has run so long."""
        before = self._seconds.pop(array, seconds)
        self._seconds[array] = max(seconds, before + TRUST * (seconds - before))
        if len(self._seconds) > KEPT:
            self._seconds.popitem(last=False)

    def doubt(self, array: int) -> None:
        """Jobs of it were given ahead and found no room in time: some take longer than was thought."""
        self.note(array, DOUBT)

    def of(self, array: int) -> float | None:
        """About how long the next one takes; None when none has been seen."""
        return self._seconds.get(array)
