"""A whole database from one place to another: for backups (always into a SQLite file) and restores (into either kind)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cpc.core.errors import CopernicusError
from cpc.store import database, migrate, schema, statement
from cpc.store.database import Connection
from cpc.store.statement import Statement

PAGE = 5000


def snapshot(url: str, target: Path) -> None:
    """A consistent copy of the database as a SQLite file, while the server goes on working."""
    if not database.is_postgresql(url):
        _copy_sqlite(database.sqlite_path(url), target)
        return
    migrate.upgrade(f"sqlite:///{target}")
    source = database.connect(url, read_only=True)
    copy = database.SQLite(target)
    try:
        source.begin(read_only=True)  # repeatable read: every table as of one moment
        transfer(source, copy)
        source.rollback()
    finally:
        source.close()
        copy.close()
    settle(target)


def snapshot_as_it_is(url: str, target: Path) -> None:
    """The same of a database that an older release has shaped: the copy has that shape too."""
    if not database.is_postgresql(url):
        _copy_sqlite(database.sqlite_path(url), target)
        return
    migrate.upgrade(f"sqlite:///{target}", migrate.current(url))
    shape = sa.MetaData()
    engine = database.engine(url)
    shape.reflect(engine, only=lambda name, _: name != "alembic_version")
    engine.dispose()
    source = database.connect(url, read_only=True)
    copy = database.SQLite(target)
    try:
        source.begin(read_only=True)
        transfer(source, copy, shape)
        source.rollback()
    finally:
        source.close()
        copy.close()
    settle(target)


def is_of_this_moment(url: str, copy: Path) -> bool:
    """Whether nothing has been written to the database, in this shape, since the copy was made of it."""
    try:
        return _moment(url) == _moment(f"sqlite:///{copy}")
    except (sa.exc.SQLAlchemyError, CopernicusError):
        return False  # not a copy, or of a shape that has no such table: another one is made


def _moment(url: str) -> tuple[object, ...]:
    engine = database.engine(url)
    try:
        with engine.connect() as connection:
            row = connection.execute(sa.text("SELECT incarnation, seq FROM writer")).one()
        return migrate.current(url), *row
    finally:
        engine.dispose()


def _copy_sqlite(source: Path, target: Path) -> None:
    original = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    copy = sqlite3.connect(target)
    try:
        original.backup(copy, pages=4000)
    finally:
        copy.close()
        original.close()
    settle(target)


def settle(path: Path) -> None:
    """One file without a journal beside it."""
    copy = sqlite3.connect(path)
    try:
        copy.execute("PRAGMA journal_mode=DELETE").fetchone()
    finally:
        copy.close()


def load(source: Path, url: str) -> None:
    """Put a snapshot into an empty database of either kind."""
    migrate.upgrade(url)
    original = database.SQLite(source, read_only=True)
    target = database.connect(url)
    try:
        original.begin(read_only=True)
        transfer(original, target)
        original.rollback()
    finally:
        original.close()
        target.close()


def transfer(source: Connection, target: Connection, shape: sa.MetaData = schema.metadata) -> None:
    """Every row of every table, in one transaction of the target."""
    target.begin()
    for table in shape.sorted_tables:
        insert = statement.insert(table)
        sql, _, _ = insert.on(target.dialect)
        for rows in _pages(source, table):
            target.executemany(sql, insert.arguments(target.dialect, rows))
    target.commit()


def _pages(source: Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows in the order of the primary key, a page at a time."""
    keys = list(table.primary_key.columns)
    columns = list(table.columns)
    flags = {place for place, column in enumerate(columns) if isinstance(column.type, sa.Boolean)}
    first = Statement(sa.select(*columns).order_by(*keys).limit(PAGE))
    after = sa.tuple_(*keys) > sa.tuple_(*[sa.cast(sa.bindparam(f"after_{key.name}"), key.type) for key in keys])
    following = Statement(sa.select(*columns).where(after).order_by(*keys).limit(PAGE))
    rows = source.fetch(first.on(source.dialect)[0], first.arguments(source.dialect, [{}])[0])
    while rows:
        yield [
            {
                column.name: bool(value) if place in flags else value
                for place, (column, value) in enumerate(zip(columns, row, strict=True))
            }
            for row in rows
        ]
        last = dict(zip((column.name for column in columns), rows[-1], strict=True))
        given = {f"after_{key.name}": last[key.name] for key in keys}
        rows = source.fetch(following.on(source.dialect)[0], following.arguments(source.dialect, [given])[0])


def new_life(url: str, above: int = 0) -> int:
    """Begin a new incarnation: leases, ids and tokens of the lost one are recognised from now on; its number.

    `above` is the highest one that is known to have been lived, which a backup made before it does not know.
    """
    engine = database.engine(url)
    writer = schema.writer
    try:
        with engine.begin() as connection:
            last = int(connection.execute(sa.select(writer.c.incarnation)).scalar_one())
            following = max(last, above) + 1
            connection.execute(sa.update(writer).values(incarnation=following, holder=""))
            return following
    finally:
        engine.dispose()
