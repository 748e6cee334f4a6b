"""The end of jobs: terminal states, and what that means for those who wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpc.core import ids
from cpc.core.outcome import Outcome
from cpc.queue.dependency import Kind, doomed
from cpc.queue.job import Event, State, after
from cpc.queue.session import Running
from cpc.queue.share import ADVANCE
from cpc.server.queue import Queue
from cpc.store import arrays, attempts, dependencies, jobs, references
from cpc.store.attempts import AttemptRow
from cpc.store.dependencies import Edge
from cpc.store.jobs import DoneRow, Range
from cpc.store.transaction import Tx

_EVENT = {State.SUCCEEDED: "job.succeeded", State.FAILED: "job.failed", State.CANCELLED: "job.cancelled"}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. Seconds and bytes."""

    outcome: Outcome
    exit_code: int | None = None
    message: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    late: bool = False


def end_attempt(queue: Queue, tx: Tx, run: Running, how: Ending) -> AttemptRow:
    """The lease is over: room is free, usage is charged. The caller stores the row (`attempts.end`) and the job."""
    queue.index.end(run.lease.job)
    queue.feed(queue.index.of_worker(run.worker))
    queue.tallies.end(tx, run.started)
    # What its program ran, where the worker says so: it may have waited at the worker for room.
    leased = max(0.0, (tx.now - run.started) / 1e6)
    used = run.granted.cores * (min(leased, how.wall) if how.wall else leased)
    queue.index.shares.charge(run.project, used - run.granted.cores * ADVANCE, queue.now)
    return AttemptRow(
        job=run.lease.job, number=run.lease.attempt, incarnation=run.lease.incarnation, worker=run.worker, session=0,
        granted=run.granted, started=run.started, ended=tx.now, outcome=how.outcome.value, exit_code=how.exit_code,
        late=how.late, message=how.message, wall=how.wall, cpu=how.cpu, memory=how.memory,
    )  # fmt: skip


def close(queue: Queue, tx: Tx, rows: Sequence[DoneRow], actor: str, checkpoints: frozenset[int] = frozenset()) -> None:
    """Jobs got terminal states: one move to history, one count per submission, then whoever waits for them.

    `checkpoints`: those of the jobs that have one, which is dropped.
    """
    if not rows:
        return
    jobs.finish(tx, rows)
    for job in sorted(checkpoints):
        drop_checkpoint(tx, job)
    by_array: dict[int, list[DoneRow]] = {}
    for row in rows:
        by_array.setdefault(ids.array(row.id), []).append(row)
    for array, closed in by_array.items():
        elements = queue.specs.get(tx, array).row.elements
        for state, kind in _EVENT.items():
            shown = [ids.show(row.id, elements) for row in closed if row.state is state]
            if shown:
                reason = next(row.reason for row in closed if row.state is state)
                tx.event(actor, kind, project=closed[0].project, subject=array, jobs=shown, reason=reason)
        for row in closed:
            queue.tallies.finish(tx, row.project, row.state.label)
        counts = [sum(row.state is state for row in closed) for state in _EVENT]
        left = arrays.count(tx, array, *counts)
        queue.ends.happened(tx, array, [row.id for row in closed], over=not left[0])
        if queue.edges:
            for row in closed:
                _element_ended(queue, tx, row)
            _array_ended(queue, tx, array, left)
        _tell_step(queue, tx, array)


def _tell_step(queue: Queue, tx: Tx, array: int) -> None:
    """If a step of a project's network has asked for the job: it may go on."""
    row = queue.specs.get(tx, array).row
    if row.step:
        queue.step_job_ended(tx, row.step, array)


def drop_checkpoint(tx: Tx, job: int) -> None:
    """The job's newest checkpoint is not needed any more."""
    found = attempts.checkpoint(tx, job)
    if found is not None:
        attempts.drop_checkpoint(tx, job)
        references.drop(tx, references.Kind.CHECKPOINT, job, found[0])


def requeue(queue: Queue, tx: Tx, run: Running, event: Event = Event.RETURNED) -> None:
    """The job waits again, at its old place in the order."""
    assert after(State.RUNNING, event) is State.WAITING
    jobs.give_back(tx, run.lease.job, run.failures, run.losses, tx.now)
    key = (run.rank, run.lease.job)
    queue.index.waiting(run.project, run.requirement, key, (run.lease.attempt, run.failures, run.losses))
    queue.look(run.project, run.requirement)


def cancel_run(queue: Queue, tx: Tx, run: Running, reason: str) -> None:
    """Fence a running attempt at once and tell its worker."""
    session = queue.index.of_worker(run.worker)
    row = end_attempt(queue, tx, run, Ending(Outcome.CANCELLED, message=reason))
    attempts.end(tx, [row])
    if session is not None:
        queue.outbox.cancel(tx, session.number, run.lease, reason)


def cancel(queue: Queue, tx: Tx, array: int, which: Range, reason: str, actor: str) -> int:
    """Every live job of the range is cancelled; how many there were."""
    running = [run for run in queue.each_running() if which.first <= run.lease.job < which.end]
    waiting = _close_open(queue, tx, array, which, State.WAITING, reason, actor)
    rows = []
    for run in running:
        cancel_run(queue, tx, run, reason)
        rows.append(cancelled_row(tx, run, reason))
    close(queue, tx, rows, actor, frozenset(run.lease.job for run in running if run.checkpoint))
    return waiting + len(rows)


def hold(queue: Queue, tx: Tx, array: int) -> bool:
    """The submission of one job does not begin before it is released; False when it runs, which goes on, or has ended."""
    row = jobs.get(tx, array)
    if row is None or row.state is State.RUNNING:
        return False
    assert after(row.state, Event.HELD) is State.BLOCKED
    jobs.hold(tx, array)
    if row.state is State.WAITING:
        queue.need(tx, row.requirement)
        queue.index.not_waiting(row.project, row.requirement, row.key)
    return True


def release(queue: Queue, tx: Tx, array: int) -> None:
    """The job is held no more: it waits, unless there are others that it waits for."""
    row = queue.specs.get(tx, array).row
    freed = jobs.unblock(tx, array, None, tx.now)
    if freed:
        queue.freed(tx, row.project, row.requirement, freed)


def cancelled_row(tx: Tx, run: Running, reason: str) -> DoneRow:
    """What remains of a job whose running attempt was cancelled."""
    return DoneRow(
        id=run.lease.job, project=run.project, state=after(State.RUNNING, Event.CANCELLED),
        outcome=Outcome.CANCELLED.value, exit_code=None, attempts=run.lease.attempt, accepted=0,
        failures=run.failures, losses=run.losses, ended=tx.now, reason=reason,
    )  # fmt: skip


def _close_open(queue: Queue, tx: Tx, array: int, which: Range, most: State, reason: str, actor: str) -> int:
    """Jobs of the range that are blocked (and, with `most` WAITING, those that wait) become cancelled, however many."""
    counts = jobs.count(tx, which)
    blocked = counts.get(State.BLOCKED, 0)
    waiting = counts.get(State.WAITING, 0) if most is State.WAITING else 0
    if not waiting + blocked:
        return 0
    submission = queue.specs.get(tx, array)
    live = jobs.of_array(tx, array, which.first - 1, sum(counts.values()))
    closed = [row for row in live if row.id < which.end and row.state <= most]
    for row in closed:
        if row.attempts:
            drop_checkpoint(tx, row.id)
    jobs.close_open(tx, which, most, State.CANCELLED, Outcome.CANCELLED.value, reason)
    if waiting:
        queue.need(tx, submission.row.requirement)
        queue.index.window(submission.row.project, submission.row.requirement).forget(-waiting)
    one = which.end - which.first == 1
    shown = ids.show(which.first, submission.row.elements) if one else ids.show(array)
    tx.event(
        actor, "job.cancelled", project=submission.row.project, subject=array,
        jobs=[shown], count=waiting + blocked, reason=reason,
    )  # fmt: skip
    queue.tallies.finish(tx, submission.row.project, State.CANCELLED.label, waiting + blocked)
    left = arrays.count(tx, array, ended=waiting + blocked)
    queue.ends.happened(tx, array, None, over=not left[0])
    if queue.edges:
        _cancelled_elements(queue, tx, array, [row.id for row in closed])
        _array_ended(queue, tx, array, left)
    _tell_step(queue, tx, array)
    return waiting + blocked


def _cancelled_elements(queue: Queue, tx: Tx, array: int, closed: Sequence[int]) -> None:
    """Settle who waits for single ones of these jobs, or for one each."""
    gone = set(closed)
    for edge in dependencies.waiting_for_elements(tx, closed[0], closed[-1] + 1):
        if edge.before in gone:
            _settle_edge(queue, tx, edge, None, False)
    for edge in dependencies.waiting_for(tx, array):
        if edge.kind is Kind.PAIR:
            for job in closed:
                _settle_edge(queue, tx, edge, ids.index(job), False)


# --- those who wait -------------------------------------------------------------------------------------------------------


def _array_ended(queue: Queue, tx: Tx, array: int, left: tuple[int, int, int]) -> None:
    """If nothing of the array is open any more, settle what waits for the whole of it; itself it waits for nothing."""
    still_open, size, succeeded = left
    if still_open:
        return
    _fewer(queue, dependencies.drop(tx, array))
    for edge in dependencies.waiting_for(tx, array):
        if edge.kind is Kind.WHOLE:
            _settle_edge(queue, tx, edge, None, succeeded == size)
        elif edge.kind is Kind.PAIR:
            _met(queue, tx, edge)  # each element has been settled when it ended


def _element_ended(queue: Queue, tx: Tx, row: DoneRow) -> None:
    succeeded = row.state is State.SUCCEEDED
    for edge in dependencies.waiting_for(tx, row.id):
        if edge.kind is Kind.ELEMENT:
            _settle_edge(queue, tx, edge, None, succeeded)
    for edge in dependencies.waiting_for(tx, ids.array(row.id)):
        if edge.kind is Kind.PAIR:
            _settle_edge(queue, tx, edge, ids.index(row.id), succeeded)


def _settle_edge(queue: Queue, tx: Tx, edge: Edge, index: int | None, succeeded: bool) -> None:
    """What `edge` held up may run, or never can. `index`: only that element; the edge stays for the others."""
    if index is None:
        _met(queue, tx, edge)
    submission = queue.specs.get(tx, edge.after)
    row = submission.row
    which = Range.of(edge.after, False) if index is None else Range(edge.after + index, edge.after + index + 1)
    if doomed(edge.needs_success, succeeded):
        reason = f"{ids.show(edge.before, ids.index(edge.before) > 0)} did not succeed"
        # Only what is blocked: somebody has given a waiting one a fresh start, whatever became of this dependency.
        _close_open(queue, tx, edge.after, which, State.BLOCKED, reason, "server")
        return
    freed = jobs.unblock(tx, edge.after, index, tx.now)
    if freed:
        queue.freed(tx, row.project, row.requirement, freed)


def _met(queue: Queue, tx: Tx, edge: Edge) -> None:
    _fewer(queue, dependencies.met(tx, edge))


def _fewer(queue: Queue, count: int) -> None:
    if count:
        queue.edges -= count
        queue.journal.note(_more, queue, count)


def _more(queue: Queue, count: int) -> None:
    queue.edges += count
