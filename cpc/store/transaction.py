"""What a unit of work sees of the database: statements, ids, events, effects that wait for the commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core import ids
from cpc.core.errors import Unavailable
from cpc.core.journal import Journal
from cpc.store import schema, statement
from cpc.store.database import Connection, Rows
from cpc.store.statement import Row, Statement

_INSERT_EVENT = statement.insert(schema.events)
_SET_COUNTER = statement.update(schema.counters, "next", key=["kind"])
_ADD_COUNTER = statement.insert(schema.counters)
_COUNTERS = Statement(sa.select(schema.counters.c.kind, schema.counters.c.next))
_LAST_EVENT = Statement(sa.select(sa.func.max(schema.events.c.number)))

pack = msgspec.msgpack.encode


class Numbers:
    """The next number of every kind, and of the event log, in memory; what a batch took is noted in its journal."""

    def __init__(self, incarnation: int, journal: Journal) -> None:
        self.incarnation = incarnation
        self._journal = journal
        self._next: dict[str, int] = {}
        self._stored: set[str] = set()
        self.event = ids.make(incarnation, 0)

    def load(self, database: Connection) -> None:
        """Continue where the database stands. An incarnation begins its event numbers above every older one."""
        rows = database.fetch(_COUNTERS.on(database.dialect)[0])
        self._next = dict(rows)
        self._stored = set(self._next)
        last = database.fetch(_LAST_EVENT.on(database.dialect)[0])[0][0] or 0
        self.event = max(self.event, last)

    def take(self, kind: str, count: int) -> int:
        first = self._next.get(kind, 1)
        if first + count > ids.MAX_SEQUENCE:
            raise Unavailable(f"the numbers for {kind}s are used up", "a restored backup begins new numbers")
        self._next[kind] = first + count
        self._journal.note(self._put_back, kind, first)
        return first

    def _put_back(self, kind: str, number: int) -> None:
        self._next[kind] = number

    def take_event(self) -> int:
        self.event += 1
        self._journal.note(self._put_back_event, self.event - 1)
        return self.event

    def _put_back_event(self, number: int) -> None:
        self.event = number

    def store(self, tx: Tx, kinds: Iterable[str]) -> None:
        """Write what the batch took."""
        for kind in kinds:
            if kind in self._stored:
                tx.run(_SET_COUNTER, {"next": self._next[kind], "key_kind": kind})
            else:
                tx.run(_ADD_COUNTER, {"kind": kind, "next": self._next[kind]})

    def stored(self, kinds: Iterable[str]) -> None:
        """The batch is committed."""
        self._stored.update(kinds)


class Tx:
    """One batch at the database. Statements run in order; `later` collects rows that only need to be there at commit."""

    def __init__(self, database: Connection, now: int, numbers: Numbers | None = None) -> None:
        self._database = database
        self._dialect = database.dialect
        self._numbers = numbers
        self.now = now
        self.open = False
        self.writes = 0
        self.kinds: dict[str, None] = {}
        self._later: dict[Statement, list[Row]] = {}
        self.effects: list[Callable[[], Any]] = []

    # --- reading ---

    def rows(self, query: Statement, row: Row | None = None) -> Rows:
        """All rows of a query."""
        self._begin()
        sql, _, _ = query.on(self._dialect)
        return self._database.fetch(sql, query.arguments(self._dialect, [row or {}])[0])

    def one(self, query: Statement, row: Row | None = None) -> tuple[Any, ...] | None:
        """The first row, or None."""
        rows = self.rows(query, row)
        return rows[0] if rows else None

    def scalar(self, query: Statement, row: Row | None = None) -> Any:
        """The first column of the first row, or None."""
        found = self.one(query, row)
        return found[0] if found else None

    # --- writing ---

    def run(self, change: Statement, row: Row | None = None) -> int:
        """One changing statement; the number of rows it changed."""
        self._begin()
        self.writes += 1
        sql, _, _ = change.on(self._dialect)
        return self._database.execute(sql, change.arguments(self._dialect, [row or {}])[0])

    def change(self, change: Statement, row: Row) -> Rows:
        """One changing statement that returns something (RETURNING): its rows."""
        self._begin()
        self.writes += 1
        sql, _, _ = change.on(self._dialect)
        return self._database.fetch(sql, change.arguments(self._dialect, [row])[0])

    def many(self, change: Statement, rows: Sequence[Row]) -> None:
        """One prepared statement for many rows."""
        if not rows:
            return
        self._begin()
        self.writes += 1
        sql, _, _ = change.on(self._dialect)
        arguments = change.arguments(self._dialect, rows)
        if len(arguments) == 1:
            self._database.execute(sql, arguments[0])  # half of the time, with PostgreSQL
        else:
            self._database.executemany(sql, arguments)

    def later(self, change: Statement, row: Row) -> None:
        """Rows nobody reads in this batch: sent together, just before the commit."""
        self.writes += 1
        self._later.setdefault(change, []).append(row)

    def next(self, kind: str, count: int = 1) -> int:
        """`count` fresh ids of a kind; the first of them. Consecutive ids differ by one sequence number."""
        numbers = self._writing()
        self.writes += 1
        self.kinds[kind] = None
        return ids.make(numbers.incarnation, numbers.take(kind, count))

    def event(self, actor: str, kind: str, *, project: int = 0, subject: int = 0, **payload: Any) -> int:
        """A line in the event log, in this commit; its number."""
        number = self._writing().take_event()
        self.later(
            _INSERT_EVENT,
            {
                "number": number, "time": self.now, "actor": actor, "kind": kind, "version": 1,
                "project": project, "subject": subject, "payload": pack(payload),
            },
        )  # fmt: skip
        return number

    def after(self, effect: Callable[[], Any]) -> None:
        """`effect()` runs on the reactor once the batch is on disk, in order; never if it is rolled back."""
        self.effects.append(effect)

    # --- for the writer ---

    def flush(self) -> None:
        """Send what was collected."""
        self._database.together(self._collected)

    def _collected(self) -> None:
        if self._numbers is not None and self.kinds:
            self._numbers.store(self, self.kinds)
        pending, self._later = self._later, {}
        for change, rows in pending.items():
            self.many(change, rows)

    def _writing(self) -> Numbers:
        if self._numbers is None:
            raise RuntimeError("a read-only unit tried to write")
        return self._numbers

    def _begin(self) -> None:
        if not self.open:
            self._database.begin(read_only=self._numbers is None)
            self.open = True
