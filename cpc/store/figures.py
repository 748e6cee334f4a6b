"""Totals for the status page and the monitoring: counted from the submissions' own counters, not from their jobs."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store.schema import arrays, jobs, projects
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_TOTALS = Statement(
    sa.select(
        arrays.c.project,
        sa.func.sum(arrays.c.open),
        sa.func.sum(arrays.c.succeeded),
        sa.func.sum(arrays.c.failed),
        sa.func.sum(arrays.c.cancelled),
    ).group_by(arrays.c.project)
)
_STORAGE = Statement(sa.select(sa.func.count(), sa.func.sum(projects.c.storage)).where(projects.c.deleted.is_(None)))
_OLDEST = Statement(sa.select(sa.func.min(jobs.c.since)).where(jobs.c.state == sa.literal_column("1")))


def totals(tx: Tx) -> dict[int, tuple[int, int, int, int]]:
    """(open, succeeded, failed, cancelled) jobs of each project."""
    return {row[0]: (int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in tx.rows(_TOTALS)}


def storage(tx: Tx) -> tuple[int, int]:
    """(projects, bytes that they refer to)."""
    count, used = tx.rows(_STORAGE)[0]
    return int(count), int(used or 0)


def oldest_waiting(tx: Tx) -> int | None:
    """Since when the job waits that has waited longest (µs)."""
    found = tx.scalar(_OLDEST)
    return None if found is None else int(found)
