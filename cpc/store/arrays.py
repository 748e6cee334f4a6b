"""Submissions: what many jobs share."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from cpc.core.spec import JobSpec
from cpc.queue.requirement import Requirement
from cpc.store import statement
from cpc.store.packed import unpack
from cpc.store.schema import arrays, classes
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_COLUMNS = (
    "id", "project", "submitter", "name", "command", "class", "priority", "size", "elements", "submitted",
    "open", "succeeded", "failed", "cancelled", "step",
)  # fmt: skip
_ADD = statement.insert(arrays)
_GET = statement.select(arrays, *_COLUMNS)
_SPEC = statement.select(arrays, "spec")
_COUNT = Statement(
    sa.update(arrays)
    .where(arrays.c.id == sa.bindparam("array"))
    .values(
        open=arrays.c.open - sa.bindparam("closed"),
        succeeded=arrays.c.succeeded + sa.bindparam("good"),
        failed=arrays.c.failed + sa.bindparam("bad"),
        cancelled=arrays.c.cancelled + sa.bindparam("ended"),
    )
    .returning(arrays.c.open, arrays.c.size, arrays.c.succeeded)
)
_PRIORITY = statement.update(arrays, "priority")
_PAGE = Statement(
    sa.select(*[arrays.c[name] for name in _COLUMNS])
    .where(arrays.c.project == sa.bindparam("project"), arrays.c.id < sa.bindparam("before"))
    .order_by(arrays.c.id.desc())
    .limit(sa.bindparam("count"))
)
_DELETE = statement.delete(arrays)
_CLASS_BY_KEY = statement.select(classes, "id", key=["key"])
_CLASS = statement.select(classes, "key")
_ADD_CLASS = statement.insert(classes)


@dataclass(frozen=True, slots=True)
class ArrayRow:
    """A submission without its spec. `elements`: its jobs show indexes. `open` jobs have no terminal state yet.

    `step`: the step of a project's network that asked for it; 0: somebody did.
    """

    id: int
    project: int
    submitter: int
    name: str
    command: str
    requirement: int
    priority: int
    size: int
    elements: bool
    submitted: int
    open: int
    succeeded: int
    failed: int
    cancelled: int
    step: int = 0


def add(tx: Tx, row: ArrayRow, spec: JobSpec) -> None:
    """Store a new submission."""
    tx.run(
        _ADD,
        {
            "id": row.id, "project": row.project, "submitter": row.submitter, "name": row.name,
            "command": row.command, "spec": msgspec.msgpack.encode(spec), "class": row.requirement,
            "priority": row.priority, "size": row.size, "elements": row.elements, "submitted": row.submitted,
            "open": row.open, "succeeded": 0, "failed": 0, "cancelled": 0, "step": row.step,
        },
    )  # fmt: skip


def get(tx: Tx, array: int) -> ArrayRow | None:
    """The submission, if it is there."""
    found = tx.one(_GET, {"id": array})
    return ArrayRow(*found) if found else None


def spec(tx: Tx, array: int) -> JobSpec | None:
    """Its description."""
    found = tx.scalar(_SPEC, {"id": array})
    return unpack(found, JobSpec, "the specification of a job") if found else None


def count(tx: Tx, array: int, good: int = 0, bad: int = 0, ended: int = 0) -> tuple[int, int, int]:
    """Jobs of the array got terminal states (negative: were retried); (open, size, succeeded) after it."""
    closed = good + bad + ended
    row = {"array": array, "closed": closed, "good": good, "bad": bad, "ended": ended}
    return tx.change(_COUNT, row)[0]


def set_priority(tx: Tx, array: int, priority: int) -> None:
    """For jobs of the array that are retried later, and for display."""
    tx.run(_PRIORITY, {"priority": priority, "key_id": array})


def page(tx: Tx, project: int, before: int, limit: int) -> list[ArrayRow]:
    """Newest first, those older than id `before`."""
    return [ArrayRow(*row) for row in tx.rows(_PAGE, {"project": project, "before": before, "count": limit})]


def delete(tx: Tx, array: int) -> None:
    """Forget it; its jobs must be gone."""
    tx.run(_DELETE, {"id": array})


def class_number(tx: Tx, requirement: Requirement) -> int:
    """The number of a requirement class, made when it is new."""
    key = msgspec.msgpack.encode(requirement)
    found = tx.scalar(_CLASS_BY_KEY, {"key": key})
    if found is not None:
        return int(found)
    number = tx.next("class")
    tx.run(_ADD_CLASS, {"id": number, "key": key})
    return number


def requirement(tx: Tx, number: int) -> Requirement:
    """The class with this number."""
    return unpack(tx.scalar(_CLASS, {"id": number}), Requirement, "what a kind of job needs")
