"""The store as the server holds it: one writer, one reader, made from a database URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from cpc.core.clock import Clock, Timers
from cpc.core.errors import Unavailable
from cpc.store import database
from cpc.store.database import Connection, DatabaseAway, DatabaseBroken, DatabaseFull
from cpc.store.transaction import Tx
from cpc.store.writer import Threads, Unit, Writer

T = TypeVar("T")


class Store:
    """`write` decides and commits in order; `read` sees a consistent, committed snapshot and never delays a write."""

    def __init__(
        self,
        url: str,
        *,
        writing: Threads,
        reading: Threads,
        clock: Clock,
        reactor: Timers,
        fatal: Callable[[str], None],
        holder: str,
        connect: Callable[..., Connection] = database.connect,
    ) -> None:
        self.url = url
        self._connect = connect  # as `database.connect`: the simulation has databases that break
        self._clock = clock
        self._reading = reading
        self._reader: Connection | None = None
        self.writer = Writer(lambda: connect(url), writing, clock, reactor, fatal, holder)
        self.journal = self.writer.journal
        self.incarnation = self.writer.incarnation

    def write(self, unit: Unit[T], guest: str = "", weight: int = 1) -> Deferred[T]:
        """Run `unit(tx)` in the writer; its value once it is on disk. `guest`, `weight`: of what a peer causes (see `turns`)."""
        return self.writer.write(unit, guest, weight)

    def read(self, unit: Unit[T]) -> Deferred[T]:
        """Run `unit(tx)` on a read-only snapshot. Keep it short: page through what may be long.

        Unavailable when the database cannot be read now.
        """
        return self._reading.run(lambda: self._snapshot(unit))

    def _snapshot(self, unit: Unit[T]) -> T:
        try:
            try:
                return self._try(unit)
            except DatabaseAway:
                # A restarted database: one new connection, then it is the caller's error.
                self._drop_reader()
                return self._try(unit)
        except (DatabaseAway, DatabaseFull, DatabaseBroken) as error:
            self._drop_reader()
            raise Unavailable(f"the database cannot be read now: {error}", "see `cpc-server doctor`") from error

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _try(self, unit: Unit[T]) -> T:
        if self._reader is None:
            self._reader = self._connect(self.url, read_only=True)
        tx = Tx(self._reader, self._clock.now())
        try:
            return unit(tx)
        finally:
            if tx.open:
                self._reader.rollback()

    async def close(self) -> None:
        """Finish what was accepted and close both connections."""
        await self.writer.close()
        if self._reader is not None:
            await self._reading.run(self._reader.close)
