"""SQLite as the simulated server has it: the real thing, that can be killed, full or away at any commit."""

from __future__ import annotations

import enum
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpc.core.errors import Unavailable
from cpc.store.database import DatabaseAway, DatabaseBroken, DatabaseFull, Rows, SQLite, sqlite_path


class Killed(BaseException):
    """The process is gone: nothing of it may go on."""


class Strike(enum.StrEnum):
    """What happens at a commit, or at any statement."""

    KILL_BEFORE = "killed before COMMIT"
    KILL_AFTER = "killed after COMMIT"
    AWAY_BEFORE = "database lost before COMMIT"
    AWAY_AFTER = "database lost after COMMIT, its answer too"
    KILL = "killed at a statement"
    AWAY = "database lost at a statement"
    FULL = "no space left at a statement"
    BROKEN = "input/output error at a statement"


@dataclass
class Trouble:
    """What the database of one server is going to do. `away_until` and `full_until` in virtual seconds."""

    now: Callable[[], float]
    killed: Callable[[str], None] = lambda how: None
    committed: Callable[[], None] = lambda: None
    strike: Strike | None = None
    strike_in: int = 0  # commits from now
    away_until: float = 0.0
    away_for: float = 0.0
    full_until: float = 0.0
    statement: Strike | None = None
    statement_in: int = 0  # statements from now
    happened: Callable[[str], None] = lambda what: None
    open: list[Connection] = field(default_factory=list)

    def plan(self, strike: Strike, commits: int, away_for: float = 0.0) -> None:
        """Strike at a coming commit."""
        self.strike, self.strike_in, self.away_for = strike, commits, away_for

    def plan_statement(self, strike: Strike, statements: int, away_for: float = 0.0) -> None:
        """Strike at a coming statement."""
        self.statement, self.statement_in, self.away_for = strike, statements, away_for

    def heal(self) -> None:
        """No more trouble."""
        self.strike = self.statement = None
        self.away_until = self.full_until = 0.0

    def due(self) -> Strike | None:
        """What happens at this commit."""
        if self.strike is None or self.strike_in > 0:
            self.strike_in -= 1
            return None
        found, self.strike = self.strike, None
        self.happened(found)
        return found

    def due_now(self) -> Strike | None:
        """What happens at this statement."""
        if self.statement is None or self.statement_in > 0:
            self.statement_in -= 1
            return None
        found, self.statement = self.statement, None
        self.happened(found)
        return found


class Connection:
    """`cpc.store.database.Connection` of one process: `end` closes it, and the process can do nothing with it any more."""

    def __init__(self, trouble: Trouble, url: str, read_only: bool = False) -> None:
        if trouble.now() < trouble.away_until:
            raise Unavailable("the database cannot be reached")
        self._trouble = trouble
        self._real = SQLite(sqlite_path(url), read_only)
        self._ended = False
        self._away = False
        self.dialect = self._real.dialect
        trouble.open.append(self)

    def _check(self) -> None:
        if self._ended:
            raise Killed
        if self._away or self._trouble.now() < self._trouble.away_until:
            self._away = True
            raise DatabaseAway("the connection to the database is lost")

    def _statement(self) -> None:
        self._check()
        strike = self._trouble.due_now()
        if strike is None:
            return
        if strike is Strike.KILL:
            self._trouble.killed(strike)
            raise Killed
        if strike is Strike.AWAY:
            self._away = True
            self._real.rollback()
            self._trouble.away_until = self._trouble.now() + self._trouble.away_for
            raise DatabaseAway("the connection was lost")
        if strike is Strike.FULL:
            raise DatabaseFull("no space left")
        raise DatabaseBroken("input/output error")

    def begin(self, read_only: bool = False) -> None:
        self._statement()
        self._real.begin(read_only)

    def commit(self) -> None:
        self._check()
        trouble = self._trouble
        if trouble.now() < trouble.full_until:
            self._real.rollback()
            raise DatabaseFull("no space left")
        strike = trouble.due()
        if strike in (Strike.KILL_AFTER, Strike.AWAY_AFTER, None):
            self._real.commit()
        if strike is None:
            trouble.committed()
            return
        if strike in (Strike.KILL_BEFORE, Strike.KILL_AFTER):
            trouble.killed(strike)
            raise Killed
        self._away = True
        self._real.rollback()
        trouble.away_until = trouble.now() + trouble.away_for
        raise DatabaseAway("the connection was lost at COMMIT")

    def rollback(self) -> None:
        self._check()
        self._real.rollback()

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        self._statement()
        return self._real.execute(sql, arguments)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._statement()
        self._real.executemany(sql, rows)

    def fetch(self, sql: str, arguments: Sequence[Any] = ()) -> Rows:
        self._statement()
        return self._real.fetch(sql, arguments)

    def together(self, changes: Callable[[], None]) -> None:
        self._real.together(changes)  # each of its statements comes by here

    def tidy(self) -> None:
        self._check()
        self._real.tidy()

    def close(self) -> None:
        if not self._ended:
            self._trouble.open.remove(self)
            self.end()

    def end(self) -> None:
        """What is not committed is gone."""
        self._ended = True
        self._real.rollback()
        self._real.close()


def end_all(trouble: Trouble) -> None:
    """The process that had these connections is gone."""
    connections, trouble.open = trouble.open, []
    for connection in connections:
        connection.end()


def copy(template: Path, directory: Path) -> str:
    """A fresh database from a template; its URL."""
    target = directory / "server.db"
    shutil.copyfile(template, target)
    return f"sqlite:///{target}"
