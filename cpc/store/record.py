"""The record of a project's network: each change, who made it, and what it takes to make it again. The SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.store import schema, statement
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx, pack

_changes = schema.changes
_COLUMNS = ("change", "time", "actor", "kind", "step", "details")

_ADD = statement.insert(_changes)
_GET = statement.select(_changes, *_COLUMNS, key=["project", "change"])
_PAGE = Statement(
    sa.select(*[_changes.c[name] for name in _COLUMNS])
    .where(_changes.c.project == sa.bindparam("project"), _changes.c.change > sa.bindparam("after"))
    .order_by(_changes.c.change)
    .limit(sa.bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change. `kind`: edited, answered or stopped; `step`: whose answer it is (0: somebody's edits)."""

    change: int
    time: int
    actor: str
    kind: str
    step: int
    details: dict[str, Any]


def add(
    tx: Tx, project: int, change: int, actor: str, kind: str, step: int, details: dict[str, Any]
) -> None:  # fmt: skip
    """Write a change down, in its own commit."""
    tx.later(
        _ADD,
        {
            "project": project, "change": change, "time": tx.now, "actor": actor, "kind": kind, "step": step,
            "details": pack(details),
        },
    )  # fmt: skip


def restore(tx: Tx, project: int, row: ChangeRow) -> None:
    """Write down a change that was made elsewhere."""
    values = {"change": row.change, "time": row.time, "actor": row.actor, "kind": row.kind, "step": row.step}
    tx.later(_ADD, {**values, "project": project, "details": pack(row.details)})


def get(tx: Tx, project: int, change: int) -> ChangeRow | None:
    """The change with this number."""
    found = tx.one(_GET, {"project": project, "change": change})
    return _row(found) if found else None


def page(tx: Tx, project: int, after: int, limit: int) -> list[ChangeRow]:
    """Changes in their order, after a number."""
    return [_row(found) for found in tx.rows(_PAGE, {"project": project, "after": after, "limit": limit})]


def _row(found: tuple[Any, ...]) -> ChangeRow:
    change, time, actor, kind, step, details = found
    return ChangeRow(change, time, actor, kind, step, unpack(details, dict[str, Any], "a change of a network"))
