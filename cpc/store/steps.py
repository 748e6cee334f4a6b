"""Steps and the jobs they asked for: the SQL."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cpc.core.digest import Content
from cpc.dataflow.step import State
from cpc.store import references, schema, statement
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_steps, _jobs = schema.steps, schema.step_jobs
_COLUMNS = (
    "id", "project", "instance", "number", "state", "run", "function", "version", "since", "opened",
    "closed",
)  # fmt: skip

_GET = statement.select(_steps, *_COLUMNS)
_OPEN = Statement(
    sa.select(*[_steps.c[name] for name in _COLUMNS])
    .where(sa.text("steps.state < 4"), _steps.c.id > sa.bindparam("after"))  # as the index `ix_steps_open` has it
    .order_by(_steps.c.id)
    .limit(sa.bindparam("limit"))
)
_OF_PROJECT = Statement(
    sa.select(*[_steps.c[name] for name in _COLUMNS])
    .where(_steps.c.project == sa.bindparam("project"))
    .order_by(_steps.c.id)
)
_ADD = statement.insert(_steps)
_STATE = statement.update(_steps, "state", "closed")
_ANSWERED = statement.update(_steps, "state", "run", "closed")
_SNAPSHOT = statement.select(_steps, "snapshot")
_SET_SNAPSHOT = statement.update(_steps, "snapshot")

_END = Statement(
    sa.update(_steps)
    .where(_steps.c.project == sa.bindparam("of"), sa.text("steps.state < 4"))
    .values(state=5, closed=sa.bindparam("now"))
)

_ADD_JOB = statement.insert(_jobs)
_OF_STEP = Statement(
    sa.select(_jobs.c.ordinal, _jobs.c.array, _jobs.c.key, _jobs.c.state)
    .where(_jobs.c.step == sa.bindparam("step"))
    .order_by(_jobs.c.ordinal)
)
_JOB_STATE = statement.update(_jobs, "state", key=["step", "ordinal"])
_OPEN_JOB = _jobs.c.state.in_([sa.literal_column("0"), sa.literal_column("3")])
_UNTOLD = Statement(
    sa.select(_jobs.c.ordinal)
    .join(_steps, _steps.c.id == _jobs.c.step)
    .where(
        _jobs.c.step == sa.bindparam("step"), _jobs.c.array == sa.bindparam("which"), _jobs.c.state == 1,
        sa.text("steps.state < 4"),
    )
)  # fmt: skip
_ENDED = Statement(
    sa.update(_jobs)
    .where(_jobs.c.step == sa.bindparam("of"), _jobs.c.array == sa.bindparam("which"), _OPEN_JOB)
    .values(state=1)
)


class JobState(enum.IntEnum):
    """Where a step's job stands, as far as its step is concerned. Numbers are stored."""

    LIVE = 0
    ENDED = 1  # and the function does not know yet
    GIVEN = 2  # ended, and a run that was answered knows
    PARKED = 3  # live, and held back while the instance is held


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step. `run`: how many answers were taken; what changed after change `since` is new to it; times in µs."""

    id: int
    project: int
    instance: int
    number: int
    state: State
    run: int
    function: str
    version: str
    since: int
    opened: int
    closed: int | None = None


@dataclass(frozen=True, slots=True)
class StepJob:
    """A job of a step. `array` is its id; it has one element only."""

    ordinal: int
    array: int
    key: str
    state: JobState


def _step(row: Sequence[object]) -> StepRow:
    id, project, instance, number, state, *rest = row
    return StepRow(id, project, instance, number, State(state), *rest)  # type: ignore[arg-type]


def get(tx: Tx, step: int) -> StepRow | None:
    """The step with this id."""
    found = tx.one(_GET, {"id": step})
    return _step(found) if found else None


def opened(tx: Tx, after: int, limit: int) -> list[StepRow]:
    """Steps that are open, oldest first, after an id."""
    return [_step(row) for row in tx.rows(_OPEN, {"after": after, "limit": limit})]


def of_project(tx: Tx, project: int) -> list[StepRow]:
    """All steps of a project, oldest first."""
    return [_step(row) for row in tx.rows(_OF_PROJECT, {"project": project})]


def add(tx: Tx, rows: Sequence[StepRow]) -> None:
    """New steps."""
    tx.many(
        _ADD,
        [
            {
                "id": row.id, "project": row.project, "instance": row.instance, "number": row.number,
                "state": int(row.state), "run": row.run, "function": row.function, "version": row.version,
                "since": row.since, "opened": row.opened, "closed": row.closed, "snapshot": None,
            }
            for row in rows
        ],
    )  # fmt: skip


def set_state(tx: Tx, row: StepRow, state: State) -> None:
    """It is in another state now; one that is over lets go of its snapshot."""
    tx.run(_STATE, {"key_id": row.id, "state": int(state), "closed": _end(tx, state)})
    _forget(tx, row, state)


def answered(tx: Tx, row: StepRow, state: State) -> None:
    """An answer was taken."""
    tx.run(_ANSWERED, {"key_id": row.id, "state": int(state), "run": row.run + 1, "closed": _end(tx, state)})
    _forget(tx, row, state)


def end_all(tx: Tx, project: int) -> None:
    """The project is being deleted: none of its steps goes on."""
    tx.run(_END, {"of": project, "now": tx.now})


def _end(tx: Tx, state: State) -> int | None:
    return None if state.open else tx.now


def _forget(tx: Tx, row: StepRow, state: State) -> None:
    if not state.open and row.run:
        tx.run(_SET_SNAPSHOT, {"key_id": row.id, "snapshot": None})
        references.drop(tx, Kind.STEP, row.id, 0)


def snapshot(tx: Tx, step: int) -> bytes | None:
    """What the step has started from, packed; None while it has no jobs."""
    found = tx.scalar(_SNAPSHOT, {"id": step})
    return None if found is None else bytes(found)


def keep_snapshot(tx: Tx, row: StepRow, packed: bytes, contents: Sequence[Content]) -> None:
    """The step goes on with jobs: its later runs start from the same values. `contents`: of the files in them."""
    references.add(tx, Kind.STEP, row.id, 0, row.project, contents)
    tx.run(_SET_SNAPSHOT, {"key_id": row.id, "snapshot": packed})


# --- its jobs ------------------------------------------------------------------------------------------------------------


def add_jobs(tx: Tx, step: int, jobs: Sequence[StepJob]) -> None:
    """Jobs that the step has asked for."""
    tx.many(
        _ADD_JOB,
        [
            {"step": step, "ordinal": job.ordinal, "array": job.array, "key": job.key, "state": int(job.state)}
            for job in jobs
        ],
    )  # fmt: skip


def jobs(tx: Tx, step: int) -> list[StepJob]:
    """All that the step has asked for, in that order."""
    rows = tx.rows(_OF_STEP, {"step": step})
    return [StepJob(ordinal, array, key, JobState(state)) for ordinal, array, key, state in rows]


def untold(tx: Tx, step: int, array: int) -> bool:
    """Whether the job has ended, and the step is open and does not know yet."""
    return tx.one(_UNTOLD, {"step": step, "which": array}) is not None


def set_job_states(tx: Tx, step: int, ordinals: Sequence[int], state: JobState) -> None:
    """These jobs are in another state now."""
    tx.many(_JOB_STATE, [{"key_step": step, "key_ordinal": number, "state": int(state)} for number in ordinals])


def parked(tx: Tx, step: int, array: int) -> bool:
    """Whether the job is held back with the instance that it belongs to."""
    return any(job.array == array and job.state is JobState.PARKED for job in jobs(tx, step))


def job_ended(tx: Tx, step: int, array: int) -> bool:
    """A job of the step has ended; whether the step was waiting for that."""
    return tx.run(_ENDED, {"of": step, "which": array}) > 0
