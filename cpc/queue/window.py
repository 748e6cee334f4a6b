"""The waiting jobs of one project and class that are held in memory: every eligible row up to a watermark.

What lies past the watermark is on disk only. So memory is bounded however deep the queue, and still the first job of the
window is the first of all.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from cpc.core.journal import Journal

Key = tuple[int, int]  # (−priority, job id): ascending is the order of the claim
Tried = tuple[int, int, int]  # number of the last attempt, failures, losses
UNTRIED: Tried = (0, 0, 0)

CAPACITY = 2000
BOTTOM: Key = (-(1 << 15), 0)  # before every job; the rank still fits the database's column
LOW = 200


class Window:
    """`watermark` None: everything eligible is here. `total` counts what is on disk too."""

    __slots__ = ("_journal", "entries", "project", "requirement", "stuck", "total", "tried", "watermark")

    def __init__(self, project: int, requirement: int, journal: Journal) -> None:
        self.project = project
        self.requirement = requirement
        self.entries: list[Key] = []
        self.tried: dict[int, Tried] = {}  # only jobs that have had an attempt
        self.watermark: Key | None = None
        self.total = 0
        self.stuck: tuple[int, float] | None = None  # (head, since): it fits a worker, but not what is free there
        self._journal = journal

    @property
    def head(self) -> Key | None:
        """The next job, if the window holds one."""
        return self.entries[0] if self.entries else None

    @property
    def needs_refill(self) -> bool:
        """Whether rows from disk should be brought in before the next claim."""
        return self.watermark is not None and len(self.entries) < LOW

    def add(self, key: Key, tried: Tried = UNTRIED) -> None:
        """A job became eligible."""
        self._count(1)
        if self.watermark is not None and key > self.watermark:
            return
        self._insert(key, tried)
        self._journal.note(self._take_out, key)
        if len(self.entries) > 2 * CAPACITY:
            self._shrink()

    def remove(self, key: Key) -> None:
        """A job is leased, or is no longer eligible."""
        self._count(-1)
        place = bisect_left(self.entries, key)
        if place < len(self.entries) and self.entries[place] == key:
            del self.entries[place]
            tried = self.tried.pop(key[1], UNTRIED)
            self._journal.note(self._insert, key, tried)

    def fill(self, rows: list[tuple[int, int, int, int, int]], limit: int) -> None:
        """Rows (rank, id, attempts, failures, losses) past the watermark, at most `limit`; fewer means that is all."""
        before = (list(self.entries), dict(self.tried), self.watermark)
        self._journal.note(self._restore, before)
        for rank, job, *tried in rows:
            self._insert((rank, job), (tried[0], tried[1], tried[2]))
        self.watermark = (rows[-1][0], rows[-1][1]) if len(rows) >= limit else None

    def forget(self, change: int) -> None:
        """Many rows changed on disk at once: hold nothing and read again; `change` more are eligible than before."""
        before = (self.entries, self.tried, self.watermark)
        self._journal.note(self._restore, before)
        self._count(change)
        self.entries = []
        self.tried = {}
        self.watermark = BOTTOM

    def _count(self, change: int) -> None:
        self.total += change
        self._journal.note(self._uncount, change)

    def _uncount(self, change: int) -> None:
        self.total -= change

    def _insert(self, key: Key, tried: Tried) -> None:
        if self.entries and key < self.entries[-1]:
            insort(self.entries, key)
        else:
            self.entries.append(key)
        if tried[0]:
            self.tried[key[1]] = tried

    def _take_out(self, key: Key) -> None:
        del self.entries[bisect_left(self.entries, key)]
        self.tried.pop(key[1], None)

    def _shrink(self) -> None:
        before = (list(self.entries), dict(self.tried), self.watermark)
        self._journal.note(self._restore, before)
        for _, job in self.entries[CAPACITY:]:
            self.tried.pop(job, None)
        del self.entries[CAPACITY:]
        self.watermark = self.entries[-1]

    def _restore(self, before: tuple[list[Key], dict[int, Tried], Key | None]) -> None:
        self.entries, self.tried, self.watermark = before
