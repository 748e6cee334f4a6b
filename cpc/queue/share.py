"""Fair share: which project is next when priorities are equal.

A project's usage is its granted core-seconds, halved every half-life, divided by its weight; what runs now is charged as it
goes. The least used is first.
"""

from __future__ import annotations

import math

from cpc.core.journal import Journal

#: A job that has just been placed is charged for this long at once, so that projects alternate within one round.
ADVANCE = 60.0
_LN2 = math.log(2)


class Shares:
    """Usage per project at a common time."""

    def __init__(self, half_life: float, journal: Journal) -> None:
        self.half_life = half_life  # seconds; may be changed, and then counts from the last change of a usage on
        self._journal = journal
        self._usage: dict[int, tuple[float, float]] = {}  # project → (usage, at what time)
        self._weight: dict[int, float] = {}

    def load(self, project: int, usage: float, at: float, weight: float) -> None:
        """What the database has. Times in seconds, of any one clock."""
        self._usage[project] = (usage, at)
        self._weight[project] = weight

    def forget(self, project: int) -> None:
        """The project is gone."""
        self._usage.pop(project, None)
        self._weight.pop(project, None)

    def usage(self, project: int, now: float) -> float:
        """Decayed core-seconds."""
        found = self._usage.get(project)
        if found is None:
            return 0.0
        amount, at = found
        return amount if now <= at else amount * math.exp(_LN2 / self.half_life * (at - now))

    def standing(self, project: int, now: float) -> float:
        """What projects are ordered by: usage over weight."""
        return self.usage(project, now) / self._weight.get(project, 1.0)

    def charge(self, project: int, core_seconds: float, now: float) -> None:
        """Add to a project's usage (negative: give an advance back)."""
        before = self._usage.get(project)
        self._usage[project] = (max(0.0, self.usage(project, now) + core_seconds), now)
        self._journal.note(self._restore, project, before)

    def _restore(self, project: int, before: tuple[float, float] | None) -> None:
        if before is None:
            self._usage.pop(project, None)
        else:
            self._usage[project] = before
