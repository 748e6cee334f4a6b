"""What a page about one job shows beside its state, in two statements: somebody waits for it, once for every job."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.core.spec import JobSpec
from cpc.store import attempts
from cpc.store.attempts import AttemptRow
from cpc.store.packed import unpack
from cpc.store.schema import arrays, checkpoints, projects, results, users, workers
from cpc.store.schema import attempts as _attempts
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_ABOUT = Statement(
    sa.select(arrays.c.spec, projects.c.name, users.c.name, checkpoints.c.taken)
    .select_from(arrays)
    .outerjoin(projects, projects.c.id == arrays.c.project)
    .outerjoin(users, users.c.id == arrays.c.submitter)
    .outerjoin(checkpoints, checkpoints.c.job == sa.bindparam("job"))
    .where(arrays.c.id == sa.bindparam("array"))
)
_TRIES = Statement(
    sa.select(
        *[_attempts.c[name] for name in attempts.COLUMNS],
        sa.func.coalesce(workers.c.name, sa.literal_column("''")),
        sa.func.coalesce(workers.c.host, sa.literal_column("''")),
        results.c.tail,
    )
    .select_from(_attempts)
    .outerjoin(workers, workers.c.id == _attempts.c.worker)
    .outerjoin(results, sa.and_(results.c.job == _attempts.c.job, results.c.number == _attempts.c.number))
    .where(_attempts.c.job == sa.bindparam("job"))
    .order_by(_attempts.c.number)
)


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt, its worker's name and host ("" when it is forgotten), and its output's last lines (None: no result)."""

    row: AttemptRow
    worker: str
    host: str
    tail: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """`project` and `submitter` are names; `checkpoint`: when the newest one was taken, in µs; `history`: first to last."""

    spec: JobSpec
    project: str
    submitter: str
    checkpoint: int | None
    history: tuple[Try, ...]


def job(tx: Tx, array: int, number: int) -> Shown | None:
    """Of the job with this number, or None when its submission is gone."""
    about = tx.one(_ABOUT, {"array": array, "job": number})
    if about is None:
        return None
    width = len(attempts.COLUMNS)
    history = tuple(Try(attempts.read(row[:width]), *row[width:]) for row in tx.rows(_TRIES, {"job": number}))
    spec = unpack(about[0], JobSpec, "the specification of a job")
    return Shown(spec, about[1] or "", about[2] or "", about[3], history)
