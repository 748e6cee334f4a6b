"""What has happened since the start, counted for /metrics once it is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cpc.core.clock import SECOND
from cpc.store.transaction import Tx

#: No transfer is that long (s): what a worker says beyond it is not a time.
LONGEST = 1e8


@dataclass(slots=True)
class _Jobs:
    """What one batch has done with jobs: seconds that they waited and ran, how many have ended."""

    waited: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)
    finished: Counter[tuple[int, str]] = field(default_factory=Counter)


class Tallies:
    """`waited`, `ran` and `staged` get seconds; the server connects them to histograms."""

    def __init__(self) -> None:
        self._batch: Tx | None = None
        self._jobs = _Jobs()
        self.submitted = 0
        self.finished: Counter[tuple[int, str]] = Counter()  # (project, success, failed, cancelled)
        self.retried: Counter[str] = Counter()  # by the outcome before
        self.joined = 0
        self.lost = 0
        self.heartbeats = 0
        self.missed = 0
        self.moved: Counter[str] = Counter()  # bytes of files, by direction: in, out
        self.waited: Callable[[Sequence[float]], None] = lambda seconds: None
        self.ran: Callable[[Sequence[float]], None] = lambda seconds: None
        self.staged: Callable[[str, float], None] = lambda direction, seconds: None

    def submit(self, tx: Tx, count: int) -> None:
        """Jobs were accepted."""

        def effect() -> None:
            self.submitted += count

        tx.after(effect)

    def start(self, tx: Tx, submitted: int, attempt: int) -> None:
        """An attempt begins; the first one ends the wait."""
        if attempt == 1:
            self._of(tx).waited.append(max(0.0, (tx.now - submitted) / SECOND))

    def end(self, tx: Tx, started: int) -> None:
        """An attempt has ended."""
        self._of(tx).ran.append(max(0.0, (tx.now - started) / SECOND))

    def _of(self, tx: Tx) -> _Jobs:
        """What this batch has done: counted in one go, because it may be much."""
        if self._batch is not tx:
            jobs = self._jobs = _Jobs()
            self._batch = tx
            tx.after(lambda: self._count(jobs))
        return self._jobs

    def _count(self, jobs: _Jobs) -> None:
        self.finished.update(jobs.finished)
        self.waited(jobs.waited)
        self.ran(jobs.ran)

    def stage(self, tx: Tx, into: float, out: float) -> None:
        """How long the files of an attempt were under way, to the worker and from it; 0: there were none."""
        if 0 < into < LONGEST:
            tx.after(lambda: self.staged("in", into))
        if 0 < out < LONGEST:
            tx.after(lambda: self.staged("out", out))

    def move(self, direction: str, size: int) -> None:
        """Bytes of files were taken ("in") or given ("out"). Called on the reactor."""
        self.moved[direction] += size

    def finish(self, tx: Tx, project: int, outcome: str, count: int = 1) -> None:
        """Jobs have ended."""
        self._of(tx).finished[project, outcome] += count

    def retry(self, tx: Tx, outcome: str) -> None:
        """A job goes back to the queue."""

        def effect() -> None:
            self.retried[outcome] += 1

        tx.after(effect)

    def join(self, tx: Tx) -> None:
        """A worker session begins."""

        def effect() -> None:
            self.joined += 1

        tx.after(effect)

    def silent(self, tx: Tx, sessions: int, leases: int) -> None:
        """Workers and leases were given up."""

        def effect() -> None:
            self.lost += sessions
            self.missed += leases

        tx.after(effect)
