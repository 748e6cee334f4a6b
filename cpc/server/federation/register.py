"""Which of the workers that are known here belong to other servers, and by which way each is lent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cpc.server.federation.borrowed import key_of
from cpc.store import attempts, workers
from cpc.store.transaction import Tx
from cpc.wire.messages import Result


class Register:
    """All borrowed workers that have a row, by their numbers here. `here` is this server's id."""

    def __init__(self, here: str) -> None:
        self.on_end: Callable[[tuple[str, ...]], None] = lambda back: (
            None
        )  # nobody is known any more that was lent by this way
        self._here = here
        self._rows: dict[str, int] = {}  # key → worker, as far as it is known in memory
        self._ways: dict[int, tuple[str, ...]] = {}  # worker → the servers from here to it, as it was lent

    def load(self, tx: Tx) -> None:
        """At start: those in the database."""
        for number, key, way in workers.borrowed(tx):
            self._rows[key] = number
            self._ways[number] = (self._here, *way.split("/"))

    def add(self, worker: int, back: tuple[str, ...], number: int) -> None:
        """After the commit: a worker, by its number at its home, which this way leads to."""
        self._rows[key_of(back, number)] = worker
        self._ways[worker] = back

    def row(self, tx: Tx, back: tuple[str, ...], number: int) -> int:
        """The id here of the worker that is lent by this way; 0 when it has none yet."""
        key = key_of(back, number)
        known = self._rows.get(key)
        if known is None:
            row = workers.by_key(tx, key)
            return row.id if row is not None else 0
        return known

    def home_of(self, worker: int) -> str:
        """The home of a borrowed worker; empty for one of ours."""
        back = self._ways.get(worker)
        return back[-1] if back is not None else ""

    def way_to(self, worker: int) -> tuple[str, ...]:
        """The servers from here to its home; empty for one of ours."""
        return self._ways.get(worker, ())

    def in_place_of(self, tx: Tx, back: tuple[str, ...], results: Iterable[Result]) -> int:
        """Which worker, lent by this way, has had what one brings that is not known here yet; 0: none."""
        found = (attempts.get(tx, result.lease.job, result.lease.attempt) for result in results)
        lent = (attempt.worker for attempt in found if attempt is not None)
        return next((worker for worker in lent if self.way_to(worker) == back), 0)

    def leads(self, back: tuple[str, ...]) -> bool:
        """Whether a worker was lent by this way."""
        return back in self._ways.values()

    def by(self, back: tuple[str, ...]) -> list[int]:
        """Those that were lent by this way, in order."""
        return sorted(worker for worker, way in list(self._ways.items()) if way == back)

    def through(self, peer: str) -> list[int]:
        """Those at this server, or beyond it, in order."""
        return sorted(worker for worker, way in list(self._ways.items()) if peer in way)

    def forget(self, tx: Tx, before: int, limit: int) -> int:
        """Remove some of those that have no job of ours and were not here since a time (µs); how many. Of the attempts that
        they had, and that are still kept, it is not known any more where they ran."""
        gone = workers.forget_borrowed(tx, before, limit)
        for _, key in gone:
            self._rows.pop(
                key, None
            )  # now: who comes in the same commit gets a new row. Were it undone, `row` looks anew

        def effect() -> None:
            ended = {self._ways.pop(number, ()) for number, _ in gone}
            for back in ended.difference(self._ways.values()):
                self.on_end(back)

        tx.after(effect)
        return len(gone)
