"""Connections to the two databases, made alike: explicit transactions, durable commits, errors in four kinds.

SQLite runs in WAL mode with `synchronous=FULL`, PostgreSQL with `synchronous_commit=on`; neither can be turned down.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import Dialect

from cpc.core.errors import BadInput, Damaged


class DatabaseAway(Exception):
    """The connection is gone. Whether the last commit took place is not known."""


class DatabaseFull(Exception):
    """No space left for the transaction; it was rolled back."""


class DatabaseBroken(Exception):
    """An I/O error or damage: nothing that this process believes may be trusted now; it must stop and recover."""


class StatementError(Exception):
    """The database refused a statement: a constraint, a value. A defect of ours, as bad input is refused before."""


Rows = list[tuple[Any, ...]]


class Connection(Protocol):
    """One connection of one thread at a time."""

    dialect: Dialect

    def begin(self, read_only: bool = False) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Runs one statement; the number of rows it changed."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None: ...
    def fetch(self, sql: str, arguments: Sequence[Any] = ()) -> Rows: ...
    def together(self, changes: Callable[[], None]) -> None:
        """Runs what executes several statements whose outcome it does not look at: their errors come at the end."""

    def close(self) -> None: ...
    def tidy(self) -> None:
        """Between batches: what the writer alone may do (checkpointing the WAL)."""


class SQLite:
    """SQLite through the standard library's driver."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.dialect: Dialect = SQLiteDialect_pysqlite()
        self._path = path
        self._commits = 0
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=400)
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL").fetchone()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA busy_timeout=5000")
            self._db.execute("PRAGMA cache_size=-32768")
            self._db.execute("PRAGMA temp_store=MEMORY")
            # Readers never checkpoint; the writer does it when it is idle or the WAL has grown.
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            if read_only:
                self._db.execute("PRAGMA query_only=ON")
        except sqlite3.DatabaseError as error:
            raise Damaged(
                f"the database {path} cannot be opened: {error}",
                "restore it from a backup with `cpc-server restore FILE`, or see `cpc-server doctor`",
            ) from error

    def begin(self, read_only: bool = False) -> None:
        self._guard(self._db.execute, "BEGIN" if read_only else "BEGIN IMMEDIATE")

    def commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if _sqlite_code(error) == sqlite3.SQLITE_FULL:
                raise DatabaseFull(f"no space left for {self._path}") from error
            raise DatabaseBroken(f"{self._path}: {error} at commit") from error
        self._commits += 1

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._guard(self._db.execute, "ROLLBACK")

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        return int(self._guard(self._db.execute, sql, arguments).rowcount)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._guard(self._db.executemany, sql, rows)

    def fetch(self, sql: str, arguments: Sequence[Any] = ()) -> Rows:
        return self._guard(self._db.execute, sql, arguments).fetchall()  # type: ignore[no-any-return]

    def together(self, changes: Callable[[], None]) -> None:
        changes()  # no network is in between

    def close(self) -> None:
        self._db.close()

    def tidy(self) -> None:
        if self._commits >= 200:
            self._commits = 0
            self._guard(self._db.execute, "PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def backup(self, target: Path) -> None:
        """A consistent copy while the server runs."""
        copy = sqlite3.connect(target)
        try:
            self._db.backup(copy, pages=2000)
        finally:
            copy.close()

    def _guard(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except sqlite3.Error as error:
            code = _sqlite_code(error) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise DatabaseFull(f"no space left for {self._path}") from error
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN):
                raise DatabaseBroken(f"{self._path}: {error}") from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise DatabaseAway(f"{self._path} is locked by another process") from error
            raise StatementError(str(error)) from error


def _sqlite_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


def is_postgresql(url: str) -> bool:
    """Whether a database URL names PostgreSQL; BadInput when it is neither that nor SQLite."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in ("postgresql", "postgres"):
        return True
    if scheme == "sqlite":
        return False
    raise BadInput(f"{url!r} is not a database URL", "write sqlite:////absolute/path or postgresql://user@host/name")


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///…` URL."""
    return Path(sa.make_url(url).database or "")


def connect(url: str, read_only: bool = False) -> Connection:
    """A connection to the database at `url`."""
    if not is_postgresql(url):
        return SQLite(sqlite_path(url), read_only)
    from cpc.store.postgresql import PostgreSQL  # its driver takes 9 MB, which most servers need not have

    return PostgreSQL(url, read_only)


def engine(url: str) -> sa.Engine:
    """An SQLAlchemy engine, for migrations only. A transaction holds everything, changes of tables too."""
    if is_postgresql(url):
        return sa.create_engine("postgresql+psycopg" + url[url.index("://") :], poolclass=sa.NullPool)
    made = sa.create_engine(url, poolclass=sa.NullPool)
    sa.event.listen(made, "connect", _leave_transactions_to_us)
    sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return made


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    """Python's driver begins a transaction before the first INSERT only: a CREATE or ALTER before it would be for good."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
