"""Attempts: the ledger of every try, what it left behind, and the newest checkpoint of each live job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core import ids
from cpc.core.manifest import Manifest
from cpc.core.resources import Amounts
from cpc.store import statement
from cpc.store.packed import unpack
from cpc.store.schema import attempts, checkpoints, jobs, results
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

#: What `read` makes a row of, in this order.
COLUMNS = (
    "job", "number", "incarnation", "worker", "session", "granted", "started", "ended", "outcome", "exit_code",
    "late", "message", "wall", "cpu", "memory",
)  # fmt: skip
_KEY = ("job", "number")
_ADD = statement.insert(attempts, *COLUMNS)
_END = statement.update(
    attempts, "ended", "outcome", "exit_code", "late", "message", "wall", "cpu", "memory", key=_KEY
)  # fmt: skip
_GET = statement.select(attempts, *COLUMNS, key=_KEY)
_OF_JOB = Statement(
    sa.select(*[attempts.c[name] for name in COLUMNS])
    .where(attempts.c.job == sa.bindparam("job"))
    .order_by(attempts.c.number)
)
_RUNNING = Statement(
    sa.select(
        *[attempts.c[name] for name in COLUMNS], jobs.c.project, jobs.c["class"], jobs.c.rank,
        jobs.c.failures, jobs.c.losses,
        sa.exists(sa.select(checkpoints.c.job).where(checkpoints.c.job == attempts.c.job)),
    )
    .join(jobs, sa.and_(jobs.c.id == attempts.c.job, jobs.c.attempts == attempts.c.number))
    .where(attempts.c.ended.is_(None), jobs.c.state == sa.literal_column("2"))
)  # fmt: skip
_of_a_peer = results.c.peer != sa.literal_column("''")  # literal, so that the partial index serves it
_IN_QUARANTINE = Statement(
    sa.select(sa.func.count(), sa.func.sum(results.c.size)).where(_of_a_peer, results.c.peer == sa.bindparam("peer"))
)
_ADD_RESULT = statement.insert(results)
_USE_RESULT = statement.update(results, "used", key=_KEY)
_RESULT = statement.select(results, "manifest", "tail", "used", key=_KEY)
_CHECKPOINT = statement.select(checkpoints, "number", "taken", "manifest", key=["job"])
_ADD_CHECKPOINT = statement.insert(checkpoints)
_SET_CHECKPOINT = statement.update(checkpoints, "number", "taken", "manifest", key=["job"])
_DROP_CHECKPOINT = statement.delete(checkpoints, "job")


def _drop(table: sa.Table) -> Statement:
    return Statement(sa.delete(table).where(table.c.job >= sa.bindparam("first"), table.c.job < sa.bindparam("end")))


_DROP_ALL = tuple(_drop(table) for table in (attempts, results, checkpoints))


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try. Seconds for `wall` and `cpu`, bytes for `memory`, µs for times."""

    job: int
    number: int
    incarnation: int
    worker: int
    session: int
    granted: Amounts
    started: int
    ended: int | None = None
    outcome: str | None = None
    exit_code: int | None = None
    late: bool = False
    message: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class RunningRow:
    """An attempt that had not ended when the server stopped, with what the index needs of its job."""

    attempt: AttemptRow
    project: int
    requirement: int
    rank: int
    failures: int
    losses: int
    checkpoint: bool


def read(found: tuple[Any, ...]) -> AttemptRow:
    """The row with these columns."""
    granted = unpack(found[5], Amounts, "the resources of an attempt")
    return AttemptRow(*(*found[:5], granted, *found[6:10], bool(found[10]), *found[11:]))


def start(tx: Tx, rows: Iterable[AttemptRow]) -> None:
    """New attempts."""
    tx.many(
        _ADD,
        [
            {
                "job": row.job, "number": row.number, "incarnation": row.incarnation, "worker": row.worker,
                "session": row.session, "granted": msgspec.msgpack.encode(row.granted), "started": row.started,
                "ended": None, "outcome": None, "exit_code": None, "late": False, "message": "",
                "wall": 0.0, "cpu": 0.0, "memory": 0,
            }
            for row in rows
        ],
    )  # fmt: skip


def end(tx: Tx, rows: Iterable[AttemptRow]) -> None:
    """The attempts have ended, as the rows say."""
    tx.many(
        _END,
        [
            {
                "ended": row.ended, "outcome": row.outcome, "exit_code": row.exit_code, "late": row.late,
                "message": row.message[:2000], "wall": row.wall, "cpu": row.cpu, "memory": row.memory,
                "key_job": row.job, "key_number": row.number,
            }
            for row in rows
        ],
    )  # fmt: skip


def get(tx: Tx, job: int, number: int) -> AttemptRow | None:
    """One attempt."""
    found = tx.one(_GET, {"key_job": job, "key_number": number, "job": job, "number": number})
    return read(found) if found else None


def of_job(tx: Tx, job: int) -> list[AttemptRow]:
    """All attempts of a job, first to last."""
    return [read(found) for found in tx.rows(_OF_JOB, {"job": job})]


def running(tx: Tx) -> list[RunningRow]:
    """What ran when the database was last written."""
    return [RunningRow(*(read(found[:15]), *found[15:20], bool(found[20]))) for found in tx.rows(_RUNNING)]


@dataclass(frozen=True, slots=True)
class Left:
    """What an ended attempt has left. `used`: its job has been closed with it. In quarantine: `peer`, the one that has brought
    it ("": a worker of ours), and the bytes that count against that peer."""

    job: int
    number: int
    files: Manifest
    tail: str
    used: bool
    peer: str = ""
    size: int = 0


def add_results(tx: Tx, rows: Iterable[Left]) -> None:
    """Ended attempts have left something."""
    tx.many(
        _ADD_RESULT,
        [
            {
                "job": row.job, "number": row.number, "manifest": msgspec.msgpack.encode(row.files), "tail": row.tail,
                "used": row.used, "peer": row.peer, "size": row.size,
            }
            for row in rows
        ],
    )  # fmt: skip


def use_result(tx: Tx, job: int, number: int) -> None:
    """The job has been closed with what an attempt had left before."""
    tx.run(_USE_RESULT, {"used": True, "key_job": job, "key_number": number})


def in_quarantine(tx: Tx, peer: str) -> tuple[int, int]:
    """(results, bytes) that this peer has brought and that lie in quarantine."""
    count, size = tx.rows(_IN_QUARANTINE, {"peer": peer})[0]
    return int(count), int(size or 0)


def result(tx: Tx, job: int, number: int) -> tuple[Manifest, str, bool] | None:
    """(files, last lines, used) that an attempt left."""
    found = tx.one(_RESULT, {"job": job, "number": number})
    return (unpack(found[0], Manifest, "the files of a result"), found[1], bool(found[2])) if found else None


def checkpoint(tx: Tx, job: int) -> tuple[int, int, Manifest] | None:
    """(number, when, files) of the newest checkpoint."""
    found = tx.one(_CHECKPOINT, {"job": job})
    return (found[0], found[1], unpack(found[2], Manifest, "the files of a result")) if found else None


def set_checkpoint(tx: Tx, job: int, number: int, files: Manifest, replaces: bool) -> None:
    """The newest checkpoint of a live job."""
    row = {"number": number, "taken": tx.now, "manifest": msgspec.msgpack.encode(files)}
    if replaces:
        tx.run(_SET_CHECKPOINT, {**row, "key_job": job})
    else:
        tx.run(_ADD_CHECKPOINT, {**row, "job": job})


def drop_checkpoint(tx: Tx, job: int) -> None:
    """The job needs it no more."""
    tx.run(_DROP_CHECKPOINT, {"job": job})


def forget(tx: Tx, array: int) -> None:
    """Remove all attempts of all jobs of an array."""
    for drop in _DROP_ALL:
        tx.run(drop, {"first": array, "end": array + ids.MAX_ARRAY})
