"""The waiting jobs of one project and class that are held in memory: every eligible row up to a watermark.

What lies past the watermark is on disk only. So memory is bounded however deep the queue, and still the first job of the
window is the first of all.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from cpc.queue.journal import Journal

Key = tuple[int, int]  # (−priority, job id): ascending is the order of the claim

CAPACITY = 2000
LOW = 200


class Window:
    """`watermark` None: everything eligible is here. `total` counts what is on disk too."""

    __slots__ = ("_journal", "entries", "project", "requirement", "stuck", "total", "tried", "watermark")

    def __init__(self, project: int, requirement: int, journal: Journal) -> None:
        self.project = project
        self.requirement = requirement
        self.entries: list[Key] = []
        self.tried: dict[int, int] = {}  # job → number of its last attempt, where there was one
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

    def add(self, key: Key, attempts: int) -> None:
        """A job became eligible."""
        self._count(1)
        if self.watermark is not None and key > self.watermark:
            return
        self._insert(key, attempts)
        self._journal.note(self._take_out, key)
        if len(self.entries) > 2 * CAPACITY:
            self._shrink()

    def remove(self, key: Key) -> None:
        """A job is leased, or is no longer eligible."""
        self._count(-1)
        place = bisect_left(self.entries, key)
        if place < len(self.entries) and self.entries[place] == key:
            del self.entries[place]
            attempts = self.tried.pop(key[1], 0)
            self._journal.note(self._insert, key, attempts)

    def fill(self, rows: list[tuple[int, int, int]], limit: int) -> None:
        """Rows (rank, id, attempts) that follow the watermark on disk, at most `limit`; fewer means that is all."""
        before = (list(self.entries), dict(self.tried), self.watermark)
        self._journal.note(self._restore, before)
        for rank, job, attempts in rows:
            self._insert((rank, job), attempts)
        self.watermark = (rows[-1][0], rows[-1][1]) if len(rows) >= limit else None

    def forget(self, change: int) -> None:
        """Many rows changed on disk at once: hold nothing and read again; `change` more are eligible than before."""
        before = (self.entries, self.tried, self.watermark)
        self._journal.note(self._restore, before)
        self._count(change)
        self.entries = []
        self.tried = {}
        self.watermark = (-(1 << 30), 0)

    def _count(self, change: int) -> None:
        self.total += change
        self._journal.note(self._uncount, change)

    def _uncount(self, change: int) -> None:
        self.total -= change

    def _insert(self, key: Key, attempts: int) -> None:
        if self.entries and key < self.entries[-1]:
            insort(self.entries, key)
        else:
            self.entries.append(key)
        if attempts:
            self.tried[key[1]] = attempts

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

    def _restore(self, before: tuple[list[Key], dict[int, int], Key | None]) -> None:
        self.entries, self.tried, self.watermark = before
