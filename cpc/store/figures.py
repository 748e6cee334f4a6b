"""Totals for the status page and the monitoring: counted from the submissions' own counters, not from their jobs."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from cpc.queue.window import BOTTOM
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
# In the order of the index of the claim, which then serves it: a look at a few rows, however many there are.
_FIRST = Statement(
    sa.select(jobs.c.rank, jobs.c.since)
    .where(
        jobs.c.project == sa.bindparam("project"),
        jobs.c["class"] == sa.bindparam("class"),
        jobs.c.state == sa.literal_column("1"),
        jobs.c.rank > sa.cast(sa.bindparam("rank"), sa.SmallInteger),
    )
    .order_by(jobs.c.rank, jobs.c.id)
    .limit(sa.bindparam("count"))
)
FIRST = 20  # jobs looked at of each class and priority


def totals(tx: Tx) -> dict[int, tuple[int, int, int, int]]:
    """(open, succeeded, failed, cancelled) jobs of each project."""
    return {row[0]: (int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in tx.rows(_TOTALS)}


def storage(tx: Tx) -> tuple[int, int]:
    """(projects, bytes that they refer to)."""
    count, used = tx.rows(_STORAGE)[0]
    return int(count), int(used or 0)


def oldest_waiting(tx: Tx, classes: Iterable[tuple[int, int]]) -> int | None:
    """Since when the job waits that has waited longest (µs). `classes`: (project, class) of those that have any.

    Jobs of one class and priority are leased in their order. So only the first ones of each are looked at: several, because one
    that came back from a worker waits anew, in its old place.
    """
    found = []
    for project, requirement in classes:
        rank: int | None = BOTTOM[0]
        while rank is not None:
            rows = tx.rows(_FIRST, {"project": project, "class": requirement, "rank": rank, "count": FIRST})
            found += [row[1] for row in rows]
            rank = rows[-1][0] if len(rows) == FIRST else None
    return min(found, default=None)
