"""Databases for tests: a fresh SQLite file, or a fresh database on a PostgreSQL server, with our tables in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet import defer
from twisted.internet.task import Clock as FakeReactor

from cpc.core.clock import SECOND
from cpc.store import database, schema
from cpc.store.store import Store

T = TypeVar("T")


class InlineThreads:
    """The thread seam without threads: the call has happened when `run` returns."""

    def run(self, call: Callable[[], T]) -> defer.Deferred[T]:
        return defer.execute(call)


class HeldThreads:
    """The thread seam held back, so that units collect into one batch."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, defer.Deferred[Any]]] = []

    def run(self, call: Callable[[], Any]) -> defer.Deferred[Any]:
        waiting: defer.Deferred[Any] = defer.Deferred()
        self.held.append((call, waiting))
        return waiting

    def go(self) -> None:
        while self.held:
            call, waiting = self.held.pop(0)
            defer.execute(call).chainDeferred(waiting)


class ManualClock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> int:
        return 1_790_000_000 * SECOND + int(self.seconds * SECOND)


def create(url: str, *, server: str = "00000000-0000-4000-8000-000000000001", incarnation: int = 1) -> None:
    """The tables, as the newest migration leaves them, and the rows that setup makes."""
    engine = database.engine(url)
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        connection.execute(sa.insert(schema.server).values(one=1, id=server, name="test", created=0))
        connection.execute(sa.insert(schema.writer).values(one=1, incarnation=incarnation, seq=0, holder=""))
    engine.dispose()


def empty(url: str) -> None:
    """A database as `create` makes it, once more."""
    engine = database.engine(url)
    with engine.begin() as connection:
        rows = [table for table in schema.metadata.sorted_tables if table.name not in ("server", "writer")]
        for table in reversed(rows):
            connection.execute(sa.delete(table))
        connection.execute(sa.update(schema.writer).values(incarnation=1, seq=0, holder=""))
    engine.dispose()


def sqlite_url(directory: Path) -> str:
    """A fresh SQLite database in this directory."""
    url = f"sqlite:///{directory}/test.db"
    create(url)
    return url


def open_store(url: str, clock: ManualClock | None = None, *, holder: str = "me") -> Store:
    """A store without threads; a fatal error is raised at once."""

    def fatal(reason: str) -> None:
        raise AssertionError(f"the store is broken: {reason}")

    threads = InlineThreads()
    return Store(
        url, writing=threads, reading=threads, clock=clock or ManualClock(), reactor=FakeReactor(),
        fatal=fatal, holder=holder,
    )  # fmt: skip


def result(deferred: defer.Deferred[T]) -> T:
    """The value of a Deferred that has fired; its error is raised."""
    found: list[object] = []
    deferred.addBoth(found.append)
    assert found, "not fired yet"
    value = found[0]
    if hasattr(value, "raiseException"):
        value.raiseException()
    return value  # type: ignore[return-value]
