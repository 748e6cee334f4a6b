"""What retention removes: finished submissions, results nobody fetches any more, old events. Each function is one small step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from cpc.core.ids import MAX_ARRAY
from cpc.store import references, schema, statement
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_arrays = schema.arrays.c
_finished = schema.finished.c
_results = schema.results.c
_events = schema.events.c

# A step of a project's network that is open wants to see how its jobs have ended, and may submit one again.
_UNWANTED = ~sa.exists().where(
    schema.steps.c.id == _arrays.step, schema.steps.c.state < 4, _arrays.step != 0
).correlate(schema.arrays)  # fmt: skip
_CLOSED = Statement(
    sa.select(_arrays.id)
    .where(_arrays.id > sa.bindparam("after"), _arrays.open == 0, _arrays.submitted < sa.bindparam("before"), _UNWANTED)
    .order_by(_arrays.id)
    .limit(sa.bindparam("limit"))
)
_OF_DELETED = Statement(
    sa.select(_arrays.id)
    .join(schema.projects, schema.projects.c.id == _arrays.project)
    .where(schema.projects.c.deleted.isnot(None), _arrays.open == 0)
    .limit(sa.bindparam("limit"))
)
#: Kinds of events of which there are many: about jobs, and about what networks do by themselves.
_BUSY = ("job.", "network.answered")
#: The event that says so of a submission which goes in several steps.
FORGETTING = "submission.forgotten"
# The condition is the one of the index `ix_events_other`, word by word.
_OF_FORGOTTEN = Statement(
    sa.select(_arrays.id)
    .distinct()
    .join(schema.events, _events.subject == _arrays.id)
    .where(
        sa.text("(events.kind < 'job.' OR events.kind > 'job/')"),
        _events.kind == sa.bindparam("kind"),
        _arrays.open == 0,
    )
    .limit(sa.bindparam("limit"))
)
_IS_CLOSED = Statement(sa.select(_arrays.id).where(_arrays.id == sa.bindparam("id"), _arrays.open == 0, _UNWANTED))
_RECENT = Statement(
    sa.select(_finished.id)
    .where(
        _finished.id >= sa.bindparam("first"),
        _finished.id <= sa.bindparam("last"),
        _finished.ended >= sa.bindparam("since"),
    )
    .limit(1)
)
_JOBS = Statement(
    sa.select(_finished.id)
    .where(_finished.id >= sa.bindparam("first"), _finished.id <= sa.bindparam("last"))
    .order_by(_finished.id)
    .limit(sa.bindparam("limit"))
)


def _delete_range(table: sa.Table, column: str) -> Statement:
    key = table.c[column]
    return Statement(sa.delete(table).where(key >= sa.bindparam("first"), key <= sa.bindparam("last")))


_DELETE_JOBS = [
    _delete_range(schema.attempts, "job"),
    _delete_range(schema.results, "job"),
    _delete_range(schema.checkpoints, "job"),
    _delete_range(schema.finished, "id"),
]
_DELETE_EDGES = [_delete_range(schema.dependencies, "before"), _delete_range(schema.dependencies, "after")]
_DELETE_ARRAY = statement.delete(schema.arrays)

_OLD_RESULTS = Statement(
    sa.select(_results.job, _results.number, _finished.ended)
    .join(schema.finished, _finished.id == _results.job)
    .where(_results.job > sa.bindparam("after"))
    .order_by(_results.job)
    .limit(sa.bindparam("limit"))
)
_DELETE_RESULT = statement.delete(schema.results, "job", "number")

_OLD_EVENTS = Statement(
    sa.select(_events.number, _events.time, _events.kind, _events.project)
    .where(_events.number > sa.bindparam("after"))
    .order_by(_events.number)
    .limit(sa.bindparam("limit"))
)
_NEWEST = Statement(sa.select(sa.func.max(_events.number)))
_DELETE_EVENT = statement.delete(schema.events, "number")


def _trimmed(insert: Any) -> sa.Executable:
    row = insert(schema.trimmed).values(project=sa.bindparam("project"), number=sa.bindparam("number"))
    new = row.excluded.number
    made: sa.Executable = row.on_conflict_do_update(
        index_elements=["project"], set_={"number": new}, where=schema.trimmed.c.number < new
    )
    return made


_TRIMMED = Statement(_trimmed)


def _jobs_of(array: int) -> dict[str, int]:
    return {"first": array, "last": array + MAX_ARRAY - 1}


def closed_arrays(tx: Tx, after: int, before: int, limit: int) -> list[int]:
    """Ids, after one, of submissions made before a time whose jobs have all ended."""
    return [row[0] for row in tx.rows(_CLOSED, {"after": after, "before": before, "limit": limit})]


def arrays_of_deleted_projects(tx: Tx, limit: int) -> list[int]:
    """Ids of submissions whose project is gone and whose jobs have all ended."""
    return [row[0] for row in tx.rows(_OF_DELETED, {"limit": limit})]


def half_forgotten(tx: Tx, limit: int) -> list[int]:
    """Ids of submissions that somebody has forgotten and that are not gone yet."""
    return [row[0] for row in tx.rows(_OF_FORGOTTEN, {"kind": FORGETTING, "limit": limit})]


def ended_since(tx: Tx, array: int, since: int) -> bool:
    """Whether a job of this submission has ended at or after a time."""
    return tx.one(_RECENT, {**_jobs_of(array), "since": since}) is not None


def purge(tx: Tx, array: int, limit: int) -> bool:
    """One step of forgetting a submission: up to `limit` file references, else up to `limit` jobs, else itself.

    True when nothing is left. A submission with jobs that have not ended is left alone (True as well).
    """
    if tx.one(_IS_CLOSED, {"id": array}) is None:
        return True
    span = _jobs_of(array)
    for kind, last in (
        (Kind.RESULT, span["last"]),
        (Kind.CHECKPOINT, span["last"]),
        (Kind.ARRAY_INPUT, array),
    ):
        if references.drop_range(tx, kind, array, last, limit):
            return False
    jobs = tx.rows(_JOBS, {**span, "limit": limit})
    if jobs:
        for change in _DELETE_JOBS:
            tx.run(change, {"first": array, "last": jobs[-1][0]})
        return False
    for change in (*_DELETE_JOBS, *_DELETE_EDGES):
        tx.run(change, span)
    tx.run(_DELETE_ARRAY, {"id": array})
    return True


def old_results(tx: Tx, after: int, before: int, limit: int) -> tuple[list[tuple[int, int]], int]:
    """([(job, attempt)] of jobs that ended before a time, the last job looked at or 0 at the end)."""
    rows = tx.rows(_OLD_RESULTS, {"after": after, "limit": limit})
    # A job's results may lie across the end of the page: leave its last job to the next one.
    if len(rows) == limit and rows[0][0] != rows[-1][0]:
        rows = [row for row in rows if row[0] != rows[-1][0]]
    old = [(job, number) for job, number, ended in rows if ended < before]
    return old, rows[-1][0] if rows else 0


def drop_results(tx: Tx, results: Sequence[tuple[int, int]], limit: int) -> int:
    """One step of forgetting these results with their files; how many are gone now, from the first on.

    That the jobs have ended, and how, stays. A job's results go together.
    """
    left = limit
    gone = 0
    for job, number in results:
        dropped = references.drop_range(tx, Kind.RESULT, job, job, left)
        if dropped == left:
            break
        tx.run(_DELETE_RESULT, {"job": job, "number": number})
        gone += 1
        left -= dropped
    return gone


def trim_events(tx: Tx, after: int, jobs_before: int, others_before: int, limit: int) -> int:
    """One step through the event log from number `after`: removes job events, and others, older than these times.

    Where to go on; 0 when the rest is too young. The newest event stays: new numbers go on from it. What has been
    removed up to which number is kept per project, so that a reader who asks for it is told that it is gone.
    """
    rows = tx.rows(_OLD_EVENTS, {"after": after, "limit": limit})
    newest = tx.scalar(_NEWEST) if rows else 0
    gone: list[int] = []
    trimmed: dict[int, int] = {}
    for number, time, kind, project in rows:
        old = time < (jobs_before if kind.startswith(_BUSY) else others_before)
        if old and number != newest:
            gone.append(number)
            trimmed[project] = number
    tx.many(_DELETE_EVENT, [{"number": number} for number in gone])
    tx.many(_TRIMMED, [{"project": project, "number": number} for project, number in trimmed.items()])
    young = max(jobs_before, others_before)
    return 0 if len(rows) < limit or rows[-1][1] >= young else int(rows[-1][0])
