"""Fair share between restarts: what each project had used, and when that was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from cpc.store import statement
from cpc.store.schema import projects
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_LIVE = Statement(
    sa.select(projects.c.id, projects.c.weight, projects.c.usage, projects.c.usage_at).where(
        projects.c.deleted.is_(None)
    )
)
_SAVE = statement.update(projects, "usage", "usage_at")


@dataclass(frozen=True, slots=True)
class Share:
    """`usage`: decayed core-seconds at `at` (µs)."""

    project: int
    weight: float
    usage: float
    at: int


def load(tx: Tx) -> list[Share]:
    """Of all live projects."""
    return [Share(*row) for row in tx.rows(_LIVE)]


def save(tx: Tx, usage: Iterable[tuple[int, float]]) -> None:
    """(project, usage now)."""
    tx.many(_SAVE, [{"usage": amount, "usage_at": tx.now, "key_id": project} for project, amount in usage])
