"""How long jobs of a submission take: quick to believe that they are long, slow to believe that they are short.

Only what was seen in this server's life; it decides nothing but how many jobs a worker is given ahead of its room, and how
many workers pools are asked for at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

_Key = TypeVar("_Key", int, tuple[int, int])

KEPT = 1000
TRUST = 0.25  # how much of a shorter time is believed at once
DOUBT = 60.0  # seconds: about fifteen brief ones must end before the submission counts as brief again


class Pace:
    """Seconds from a program's start to its end, by submission, and by project and class."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, float] = OrderedDict()
        self._alike: OrderedDict[tuple[int, int], float] = OrderedDict()

    def note(self, array: int, seconds: float) -> None:
        """A job of the submission has run so long."""
        _note(self._seconds, array, seconds)

    def note_alike(self, project: int, requirement: int, seconds: float) -> None:
        """A job of the project and class has."""
        _note(self._alike, (project, requirement), seconds)

    def doubt(self, array: int) -> None:
        """Jobs of it were given ahead and found no room in time: some take longer than was thought."""
        self.note(array, DOUBT)

    def of(self, array: int) -> float | None:
        """About how long the next one takes; None when none has been seen."""
        return self._seconds.get(array)

    def of_alike(self, project: int, requirement: int) -> float | None:
        """About how long jobs of the project that need the same took, whoever submitted them."""
        return self._alike.get((project, requirement))


def _note(known: OrderedDict[_Key, float], key: _Key, seconds: float) -> None:
    before = known.pop(key, seconds)
    known[key] = max(seconds, before + TRUST * (seconds - before))
    if len(known) > KEPT:
        known.popitem(last=False)
