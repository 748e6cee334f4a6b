"""SQL that is written once with SQLAlchemy and then runs as a prepared string on the bare driver.

The query builder keeps the SQL portable; compiling it per call would cost more than running it. So each statement is
compiled once per database and after that costs a dictionary look-up.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

Row = Mapping[str, Any]


class Statement:
    """One SQL statement with named parameters (`sa.bindparam`). Made at import; kept for the life of the process.

    ON CONFLICT is the same in both databases, but SQLAlchemy has it in its dialects only: such a statement is a function of
    the dialect's own `insert`. So a server loads the dialect of its database, and not the other one (2 MB).
    """

    __slots__ = ("_compiled", "_construct")

    def __init__(self, construct: sa.Executable | Callable[[Any], sa.Executable]) -> None:
        self._construct = construct
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def on(self, dialect: Dialect) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The SQL text with positional parameters, their names in order, and the values of those that have one."""
        found = self._compiled.get(dialect.name)
        if found is None:
            construct: Any = self._construct
            if not isinstance(construct, sa.Executable):
                construct = construct(importlib.import_module(f"sqlalchemy.dialects.{dialect.name}").insert)
            compiled = construct.compile(dialect=dialect)
            fixed = {name: value for name, value in compiled.params.items() if value is not None}
            found = (str(compiled), tuple(compiled.positiontup or ()), fixed)
            self._compiled[dialect.name] = found
        return found

    def arguments(self, dialect: Dialect, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """The rows as tuples in the order of the parameters."""
        _, names, fixed = self.on(dialect)
        if fixed:
            return [tuple(row[name] if name in row else fixed[name] for name in names) for row in rows]
        return [tuple([row[name] for name in names]) for row in rows]


def insert(table: sa.Table, *columns: str) -> Statement:
    """INSERT of a row with these columns (all when none is named)."""
    names = columns or tuple(column.name for column in table.columns)
    return Statement(sa.insert(table).values({name: sa.bindparam(name) for name in names}))


def update(table: sa.Table, *columns: str, key: Sequence[str] = ("id",)) -> Statement:
    """UPDATE of these columns in the row with this key; the key's parameters are called `key_NAME`."""
    where = [table.c[name] == sa.bindparam(f"key_{name}") for name in key]
    return Statement(sa.update(table).where(*where).values({name: sa.bindparam(name) for name in columns}))


def delete(table: sa.Table, *key: str) -> Statement:
    """DELETE of the rows with this key."""
    return Statement(sa.delete(table).where(*[table.c[name] == sa.bindparam(name) for name in key or ("id",)]))


def select(table: sa.Table, *columns: str, key: Sequence[str] = ("id",)) -> Statement:
    """SELECT of these columns (all when none is named) of the rows with this key."""
    wanted = [table.c[name] for name in columns] or list(table.columns)
    return Statement(sa.select(*wanted).where(*[table.c[name] == sa.bindparam(name) for name in key]))


def runs(numbers: Iterable[int]) -> list[dict[str, int]]:
    """Keys in any order as rows of `first` and `end` (the first one behind), one for each run of neighbours."""
    runs: list[dict[str, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1]["end"] == number:
            runs[-1]["end"] = number + 1
        else:
            runs.append({"first": number, "end": number + 1})
    return runs
