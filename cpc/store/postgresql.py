"""Connections to PostgreSQL; see `database`, which makes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import Dialect

from cpc.core.errors import Unavailable
from cpc.store.database import DatabaseAway, DatabaseFull, Rows, StatementError


class PostgreSQL:
    """PostgreSQL through psycopg 3, with server-side parameters and pipelined executemany."""

    def __init__(self, url: str, read_only: bool = False) -> None:
        self.dialect: Dialect = PGDialect_psycopg(paramstyle="format")
        try:
            self._db = psycopg.connect(_libpq(url), autocommit=True, prepare_threshold=3, connect_timeout=10)
            # A site may have turned durability down for its other databases; never for this one.
            self._db.execute("SET synchronous_commit TO on")
            self._db.execute("SET lock_timeout TO '10s'")
            self._db.execute("SET timezone TO 'UTC'")
            if read_only:
                self._db.execute("SET default_transaction_read_only TO on")
                self._db.execute("SET default_transaction_isolation TO 'repeatable read'")
        except psycopg.Error as error:
            raise Unavailable(
                f"the PostgreSQL database cannot be reached: {_first_line(error)}",
                "check the database URL with `cpc-server config database` and that the server runs",
            ) from error
        self._cursor = self._db.cursor()

    def begin(self, read_only: bool = False) -> None:
        self._guard(self._cursor.execute, "BEGIN")

    def commit(self) -> None:
        self._guard(self._cursor.execute, "COMMIT")

    def rollback(self) -> None:
        if not self._db.closed and self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._guard(self._cursor.execute, "ROLLBACK")

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        self._guard(self._cursor.execute, sql, arguments)
        return self._cursor.rowcount

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._guard(self._cursor.executemany, sql, rows)

    def fetch(self, sql: str, arguments: Sequence[Any] = ()) -> Rows:
        self._guard(self._cursor.execute, sql, arguments)
        return self._cursor.fetchall()

    def together(self, changes: Callable[[], None]) -> None:
        """One way to the server and back for all of them."""
        self._guard(self._in_pipeline, changes)

    def _in_pipeline(self, changes: Callable[[], None]) -> None:
        with self._db.pipeline():
            changes()

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._db.close()

    def tidy(self) -> None:
        """PostgreSQL checkpoints by itself."""

    def _guard(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except psycopg.errors.DiskFull as error:
            raise DatabaseFull(f"PostgreSQL has no space left: {_first_line(error)}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DatabaseAway(_first_line(error)) from error
        except psycopg.errors.IntegrityError as error:
            raise StatementError(_first_line(error)) from error
        except psycopg.Error as error:
            raise StatementError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _libpq(url: str) -> str:
    return "postgresql" + url[url.index("://") :]
