"""Live jobs and finished ones, apart: what is waiting costs the same however much is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from cpc.core import ids
from cpc.queue.dependency import Kind
from cpc.queue.job import State
from cpc.queue.window import Key
from cpc.store import statement
from cpc.store.schema import dependencies, finished, jobs
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_LIVE = ("id", "project", "class", "state", "rank", "attempts", "failures", "losses", "blockers", "since")
_DONE = (
    "id", "project", "state", "outcome", "exit_code", "attempts", "accepted", "failures", "losses", "ended", "reason",
)  # fmt: skip


def _elements() -> sa.Subquery:
    """The numbers first … first + count − 1, made in the database: 10⁵ elements cost one statement."""
    start = sa.select(sa.cast(sa.bindparam("first"), sa.BigInteger).label("n"))
    numbers = start.cte("numbers", recursive=True)
    numbers = numbers.union_all(
        sa.select(numbers.c.n + 1).where(numbers.c.n + 1 < sa.cast(sa.bindparam("end"), sa.BigInteger))
    )
    return sa.select(numbers.c.n).subquery()


def _add() -> Statement:
    numbers = _elements()
    values = [
        numbers.c.n,
        *(
            sa.cast(sa.bindparam(name), jobs.c[name].type)
            for name in ("project", "class", "state", "rank")
        ),
        sa.literal_column("0"), sa.literal_column("0"), sa.literal_column("0"),
        *(sa.cast(sa.bindparam(name), jobs.c[name].type) for name in ("blockers", "since")),
    ]  # fmt: skip
    return Statement(sa.insert(jobs).from_select(list(_LIVE), sa.select(*values)))


_ADD = _add()
_GET = statement.select(jobs, *_LIVE)
_LEASE = Statement(
    sa.update(jobs)
    .where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"))
    .values({name: sa.bindparam(name) for name in ("state", "attempts", "since")})
)
_RETURN = statement.update(jobs, "state", "failures", "losses", "since")
_DELETE = Statement(sa.delete(jobs).where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end")))
_ELIGIBLE = Statement(
    sa.select(jobs.c.rank, jobs.c.id, jobs.c.attempts, jobs.c.failures, jobs.c.losses)
    .where(
        jobs.c.project == sa.bindparam("project"),
        jobs.c["class"] == sa.bindparam("class"),
        jobs.c.state == sa.literal_column("1"),  # literal, so that the partial index serves it
        sa.tuple_(jobs.c.rank, jobs.c.id) > sa.tuple_(
            sa.cast(sa.bindparam("rank"), sa.SmallInteger), sa.cast(sa.bindparam("after"), sa.BigInteger)
        ),
    )
    .order_by(jobs.c.rank, jobs.c.id)
    .limit(sa.bindparam("count"))
)  # fmt: skip
_WAITING = Statement(
    sa.select(jobs.c.project, jobs.c["class"], sa.func.count())
    .where(jobs.c.state == sa.literal_column("1"))
    .group_by(jobs.c.project, jobs.c["class"])
)
_AHEAD = Statement(
    sa.select(sa.func.count())
    .select_from(jobs)
    .where(
        jobs.c.project == sa.bindparam("project"),
        jobs.c["class"] == sa.bindparam("class"),
        jobs.c.state == sa.literal_column("1"),
        sa.tuple_(jobs.c.rank, jobs.c.id) < sa.tuple_(
            sa.cast(sa.bindparam("rank"), sa.SmallInteger), sa.cast(sa.bindparam("job"), sa.BigInteger)
        ),
    )
)  # fmt: skip
_OF_ARRAY = Statement(
    sa.select(*[jobs.c[name] for name in _LIVE])
    .where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"))
    .order_by(jobs.c.id)
    .limit(sa.bindparam("count"))
)
_HOLD = Statement(
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.state <= int(State.WAITING))
    .values(state=int(State.BLOCKED), blockers=jobs.c.blockers + 1, since=sa.bindparam("now"))
)
_UNBLOCK = Statement(
    sa.update(jobs)
    .where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"), jobs.c.blockers > 0)
    .values(blockers=jobs.c.blockers - 1)
)
_FREE = Statement(
    sa.update(jobs)
    .where(
        jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"),
        jobs.c.blockers == 0, jobs.c.state == int(State.BLOCKED),
    )
    .values(state=int(State.WAITING), since=sa.bindparam("now"))
)  # fmt: skip
_before = jobs.alias("before")
_COUNT_BLOCKERS = Statement(
    sa.update(jobs)
    .where(
        jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"), jobs.c.state == int(State.BLOCKED),
    )
    .values(
        blockers=sa.select(sa.func.count())
        .select_from(dependencies)
        .where(
            dependencies.c.after == sa.bindparam("array"),
            sa.or_(
                dependencies.c.kind != int(Kind.PAIR),
                sa.select(_before.c.id)
                .where(_before.c.id == dependencies.c.before + jobs.c.id - sa.bindparam("array"))
                .correlate(jobs, dependencies)
                .exists(),
            ),
        )
        .correlate(jobs)
        .scalar_subquery()
    )
)  # fmt: skip
_DONE_ADD = statement.insert(finished, *_DONE)
_DONE_GET = statement.select(finished, *_DONE)
_DONE_OF_ARRAY = Statement(
    sa.select(*[finished.c[name] for name in _DONE])
    .where(finished.c.id >= sa.bindparam("first"), finished.c.id < sa.bindparam("end"))
    .order_by(finished.c.id)
    .limit(sa.bindparam("count"))
)
_CLOSE_RANGE = Statement(
    sa.insert(finished).from_select(
        list(_DONE),
        sa.select(
            jobs.c.id, jobs.c.project,
            sa.cast(sa.bindparam("state"), finished.c.state.type),
            sa.cast(sa.bindparam("outcome"), sa.Text), sa.null(), jobs.c.attempts, sa.literal_column("0"),
            jobs.c.failures, jobs.c.losses,
            sa.cast(sa.bindparam("now"), sa.BigInteger), sa.cast(sa.bindparam("why"), sa.Text),
        ).where(
            jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"), jobs.c.state <= sa.bindparam("most"),
        ),
    )
)  # fmt: skip
_DELETE_RANGE = Statement(
    sa.delete(jobs).where(
        jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"), jobs.c.state <= sa.bindparam("most")
    )
)  # fmt: skip
_COUNT_RANGE = Statement(
    sa.select(jobs.c.state, sa.func.count())
    .where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"))
    .group_by(jobs.c.state)
)
_RANK_RANGE = Statement(
    sa.update(jobs)
    .where(jobs.c.id >= sa.bindparam("first"), jobs.c.id < sa.bindparam("end"))
    .values(rank=sa.bindparam("new_rank"))
)
_REVIVE = Statement(
    sa.insert(jobs).from_select(
        list(_LIVE),
        sa.select(
            finished.c.id, finished.c.project, sa.cast(sa.bindparam("class"), sa.BigInteger),
            sa.cast(sa.bindparam("state"), jobs.c.state.type), sa.cast(sa.bindparam("rank"), jobs.c.rank.type),
            finished.c.attempts, sa.literal_column("0"), sa.literal_column("0"), sa.literal_column("0"),
            sa.cast(sa.bindparam("now"), sa.BigInteger),
        ).where(
            finished.c.id >= sa.bindparam("first"), finished.c.id < sa.bindparam("end"),
            finished.c.state.in_([sa.literal_column("4"), sa.literal_column("5")]),
        ),
    )
)  # fmt: skip
_DEAD_COUNT = Statement(
    sa.select(finished.c.state, sa.func.count())
    .where(finished.c.id >= sa.bindparam("first"), finished.c.id < sa.bindparam("end"))
    .group_by(finished.c.state)
)
_DELETE_DEAD = Statement(
    sa.delete(finished).where(
        finished.c.id >= sa.bindparam("first"), finished.c.id < sa.bindparam("end"),
        finished.c.state.in_([sa.literal_column("4"), sa.literal_column("5")]),
    )
)  # fmt: skip
_DELETE_DONE = Statement(
    sa.delete(finished).where(finished.c.id >= sa.bindparam("first"), finished.c.id < sa.bindparam("end"))
)
_STATES = Statement(
    sa.select(jobs.c.state, sa.func.count()).where(jobs.c.project == sa.bindparam("project")).group_by(jobs.c.state)
)
_DONE_STATES = Statement(
    sa.select(finished.c.state, sa.func.count())
    .where(finished.c.project == sa.bindparam("project"))
    .group_by(finished.c.state)
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A live job."""

    id: int
    project: int
    requirement: int
    state: State
    rank: int
    attempts: int
    failures: int
    losses: int
    blockers: int
    since: int

    @property
    def key(self) -> Key:
        """Its place in the order of the claim."""
        return self.rank, self.id


@dataclass(frozen=True, slots=True)
class DoneRow:
    """A job with a terminal state. `accepted`: the attempt whose result counts; 0 when there is none."""

    id: int
    project: int
    state: State
    outcome: str | None
    exit_code: int | None
    attempts: int
    accepted: int
    failures: int
    losses: int
    ended: int
    reason: str


def _job(row: Sequence[Any]) -> JobRow:
    return JobRow(*(*row[:3], State(row[3]), *row[4:]))


def _done(row: Sequence[Any]) -> DoneRow:
    return DoneRow(*(*row[:2], State(row[2]), *row[3:]))


def _range(array: int, **more: Any) -> dict[str, Any]:
    return {"first": array, "end": array + ids.MAX_ARRAY, **more}


def add(tx: Tx, first: int, size: int, row: JobRow) -> None:
    """`size` jobs alike, with ids from `first` on; `row` gives the rest."""
    tx.run(
        _ADD,
        {
            "first": first, "end": first + size, "project": row.project, "class": row.requirement,
            "state": int(row.state), "rank": row.rank, "blockers": row.blockers, "since": row.since,
        },
    )  # fmt: skip


def get(tx: Tx, job: int) -> JobRow | None:
    """The job, if it is live."""
    found = tx.one(_GET, {"id": job})
    return _job(found) if found else None


def done(tx: Tx, job: int) -> DoneRow | None:
    """The job, if it has a terminal state."""
    found = tx.one(_DONE_GET, {"id": job})
    return _done(found) if found else None


def of_array(tx: Tx, array: int, after: int = 0, limit: int = 1000) -> list[JobRow]:
    """Live jobs of an array with ids above `after`."""
    row = _range(array, count=limit)
    row["first"] = max(array, after + 1)
    return [_job(found) for found in tx.rows(_OF_ARRAY, row)]


def done_of_array(tx: Tx, array: int, after: int = 0, limit: int = 1000) -> list[DoneRow]:
    """Finished jobs of an array with ids above `after`."""
    row = _range(array, count=limit)
    row["first"] = max(array, after + 1)
    return [_done(found) for found in tx.rows(_DONE_OF_ARRAY, row)]


def lease(tx: Tx, leases: Iterable[tuple[int, int]], now: int) -> None:
    """(job, attempt) pairs run now."""
    by_attempt: dict[int, list[int]] = {}
    for job, number in leases:
        by_attempt.setdefault(number, []).append(job)
    for number, group in by_attempt.items():
        values = {"state": int(State.RUNNING), "attempts": number, "since": now}
        tx.many(_LEASE, [{**run, **values} for run in statement.runs(group)])


def give_back(tx: Tx, job: int, failures: int, losses: int, now: int) -> None:
    """The job waits again."""
    row = {"state": int(State.WAITING), "failures": failures, "losses": losses, "since": now, "key_id": job}
    tx.run(_RETURN, row)


def finish(tx: Tx, rows: Sequence[DoneRow]) -> None:
    """The jobs have terminal states and leave the live table."""
    tx.many(_DELETE, statement.runs(row.id for row in rows))
    tx.many(
        _DONE_ADD,
        [
            {
                "id": row.id, "project": row.project, "state": int(row.state), "outcome": row.outcome,
                "exit_code": row.exit_code, "attempts": row.attempts, "accepted": row.accepted,
                "failures": row.failures, "losses": row.losses, "ended": row.ended, "reason": row.reason,
            }
            for row in rows
        ],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range:
    """Jobs that are neighbours: one job, or all of an array."""

    first: int
    end: int

    @classmethod
    def of(cls, number: int, element: bool) -> Range:
        """One element, or the whole submission."""
        return cls(number, number + 1) if element else cls(ids.array(number), ids.array(number) + ids.MAX_ARRAY)

    @property
    def row(self) -> dict[str, int]:
        """As parameters."""
        return {"first": self.first, "end": self.end}


def close_open(tx: Tx, which: Range, most: State, state: State, outcome: str, reason: str) -> None:
    """Jobs of the range that are blocked (or, with `most` WAITING, wait) get a terminal state, in two statements however
    many they are."""
    row = {**which.row, "state": int(state), "outcome": outcome, "now": tx.now, "why": reason, "most": int(most)}
    tx.run(_CLOSE_RANGE, row)
    tx.run(_DELETE_RANGE, {**which.row, "most": int(most)})


def count(tx: Tx, which: Range) -> dict[State, int]:
    """How many live jobs of the range are in each state."""
    return {State(state): number for state, number in tx.rows(_COUNT_RANGE, which.row)}


def count_done(tx: Tx, which: Range) -> dict[State, int]:
    """How many finished jobs of the range are in each state."""
    return {State(state): number for state, number in tx.rows(_DEAD_COUNT, which.row)}


def set_rank(tx: Tx, which: Range, rank: int) -> None:
    """Another priority (as −priority) for all live jobs of the range."""
    tx.run(_RANK_RANGE, {**which.row, "new_rank": rank})


def revive(tx: Tx, which: Range, state: State, requirement: int, rank: int) -> None:
    """Failed and cancelled jobs of the range are live again, with nothing counted against them."""
    tx.run(_REVIVE, {**which.row, "state": int(state), "class": requirement, "rank": rank, "now": tx.now})
    tx.run(_DELETE_DEAD, which.row)


def count_blockers(tx: Tx, array: int) -> int:
    """Count anew what each blocked job of the array waits for; how many of them wait for nothing and can run now."""
    tx.run(_COUNT_BLOCKERS, {**_range(array), "array": array})
    return tx.run(_FREE, _range(array, now=tx.now))


def forget(tx: Tx, which: Range) -> None:
    """Remove finished jobs of the range."""
    tx.run(_DELETE_DONE, which.row)


def eligible(tx: Tx, project: int, requirement: int, after: Key, limit: int) -> list[tuple[int, int, int, int, int]]:
    """(rank, id, attempts, failures, losses) of waiting jobs past `after`, in the order of the claim."""
    row = {"project": project, "class": requirement, "rank": after[0], "after": after[1], "count": limit}
    return tx.rows(_ELIGIBLE, row)


def waiting(tx: Tx) -> list[tuple[int, int, int]]:
    """(project, class, number of waiting jobs) of every window that is not empty."""
    return tx.rows(_WAITING)


def ahead(tx: Tx, row: JobRow) -> int:
    """How many waiting jobs of the same project and class come before this one."""
    query = {"project": row.project, "class": row.requirement, "rank": row.rank, "job": row.id}
    return int(tx.scalar(_AHEAD, query))


def hold(tx: Tx, job: int) -> None:
    """The job has one thing more to wait for, of which `unblock` tells; it is not running."""
    tx.run(_HOLD, {"job": job, "now": tx.now})


def unblock(tx: Tx, array: int, index: int | None, now: int) -> int:
    """One dependency of the array (or of one element) is met, or it is held no more; how many jobs can run now."""
    row = _range(array)
    if index is not None:
        row = {"first": array + index, "end": array + index + 1}
    tx.run(_UNBLOCK, row)
    return tx.run(_FREE, {**row, "now": now})


def states(tx: Tx, project: int) -> dict[str, int]:
    """How many jobs of a project are in each state."""
    rows = tx.rows(_STATES, {"project": project}) + tx.rows(_DONE_STATES, {"project": project})
    return {State(state).label: number for state, number in rows}


@lru_cache(maxsize=128)
def _page(live: bool, project: bool, states: tuple[int, ...]) -> Statement:
    table, columns = (jobs, _LIVE) if live else (finished, _DONE)
    query = sa.select(*[table.c[name] for name in columns]).where(
        table.c.id >= sa.bindparam("first"), table.c.id < sa.bindparam("end")
    )
    if project:
        query = query.where(table.c.project == sa.bindparam("project"))
    query = query.where(table.c.state.in_([sa.literal_column(str(state)) for state in states]))
    return Statement(query.order_by(table.c.id.desc()).limit(sa.bindparam("count")))


def page(tx: Tx, project: int | None, states: Iterable[State], which: Range, limit: int) -> list[JobRow | DoneRow]:
    """Jobs of a project (None: of all), newest first, with ids in the range."""
    wanted = sorted(set(states))
    row: dict[str, int] = {**which.row, "count": limit, "project": project or 0}
    found: list[JobRow | DoneRow] = []
    live = tuple(int(state) for state in wanted if not state.terminal)
    dead = tuple(int(state) for state in wanted if state.terminal)
    if live:
        found += [_job(one) for one in tx.rows(_page(True, project is not None, live), row)]
    if dead:
        found += [_done(one) for one in tx.rows(_page(False, project is not None, dead), row)]
    return sorted(found, key=lambda job: -job.id)[:limit]
