"""Reports of workers, judged: results, checkpoints, silence. The verdict table is `cpc.queue.verdict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from cpc.core import ids
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.manifest import check
from cpc.core.outcome import Outcome
from cpc.core.texts import plain
from cpc.queue.job import Event, State, after
from cpc.queue.session import Running
from cpc.queue.verdict import Relation, Verdict, gives_up, verdict
from cpc.server import closing
from cpc.server.closing import Ending
from cpc.server.queue import Queue
from cpc.store import allocations, attempts, jobs, references, workers
from cpc.store.attempts import AttemptRow, Left
from cpc.store.jobs import DoneRow, JobRow
from cpc.store.references import Kind, Owned
from cpc.store.transaction import Tx
from cpc.wire.messages import Checkpoint, Result, Settled

MAX_MESSAGE = 4000  # characters
MAX_TAIL = 8192


@dataclass(slots=True)
class Settlement:
    """The answers to a turn's results: settled, or to be sent again; `missing` chunks by lease."""

    settled: list[Settled] = field(default_factory=list)
    retry: list[Lease] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """What the results of one turn come to, gathered for few statements."""

    ended: list[AttemptRow] = field(default_factory=list)
    closed: list[DoneRow] = field(default_factory=list)
    kept: list[Left] = field(default_factory=list)
    checkpoints: set[int] = field(default_factory=set)


def settle(
    queue: Queue, tx: Tx, worker: int, results: Sequence[Result], actor: str, peer: str = ""
) -> Settlement:  # fmt: skip
    """Judge the results of one worker. Everything in `settled` is on record when this unit is committed.

    `peer`: the one that has brought them; what goes into quarantine counts against it, and of the files in the project they may
    name the jobs' own.
    """
    answer = Settlement()
    work = _Work()
    arrived = 0  # bytes
    once = {result.lease: result for result in reversed(results)}  # told twice in one turn: the first time counts
    results = [sane(result) for result in reversed(once.values())]
    for result, missing in zip(results, _refer(queue, tx, worker, results, peer), strict=True):
        if missing:
            answer.retry.append(result.lease)
            continue
        answer.settled.append(_judge(queue, tx, worker, result, work, peer))
        arrived += sum(map(len, result.small.values()))
    if arrived:
        tx.after(lambda: queue.tallies.move("in", arrived))
    attempts.end(tx, work.ended)
    attempts.add_results(tx, work.kept)
    closing.close(queue, tx, work.closed, actor, frozenset(work.checkpoints))
    return answer


def sane(result: Result) -> Result:
    """The result, its texts as they can be kept; one whose files cannot be what a worker of ours collected is the worker's
    fault, and without files."""
    try:
        check(result.files)
    except CopernicusError as error:
        words = f"the worker sent a result that cannot be taken: {error}"
        return Result(lease=result.lease, outcome=Outcome.REFUSED, message=plain(words, MAX_MESSAGE))
    if len(result.message) <= MAX_MESSAGE and len(result.tail) <= MAX_TAIL and "\0" not in result.message + result.tail:
        return result
    message, tail = plain(result.message, MAX_MESSAGE), plain(result.tail[-MAX_TAIL:], MAX_TAIL)
    return msgspec.structs.replace(result, message=message, tail=tail)


def _refer(queue: Queue, tx: Tx, worker: int, results: Sequence[Result], peer: str) -> list[bool]:
    """Make the results' files safe; which of the results lack chunks that must be sent first."""
    owned: list[Owned] = []
    places: list[int] = []
    small: dict[bytes, bytes] = {}
    missing = [False] * len(results)
    for place, result in enumerate(results):
        contents = tuple([each.content for each in result.files.entries if each.content and each.content.chunks])
        project, number = _place(queue, tx, worker, result) if contents else (0, 0)
        if project:
            of = references.LOST if number < 0 else result.lease.job if peer else 0
            owned.append(Owned(Kind.RESULT, result.lease.job, number, project, contents, of))
            places.append(place)
            small.update(result.small)
    if owned:
        for place, lacking in zip(places, references.add_many(tx, owned, small), strict=True):
            missing[place] = bool(lacking)
    return missing


def _place(queue: Queue, tx: Tx, worker: int, result: Result) -> tuple[int, int]:
    """(project, number) that an attempt's files are kept under; project 0: they are not kept, or are here already."""
    lease = result.lease
    run = queue.index.running.get(lease.job)
    if run is not None and run.lease == lease and run.worker == worker:
        return run.project, lease.attempt
    found = jobs.get(tx, lease.job) or jobs.done(tx, lease.job)
    if found is None:
        return 0, 0
    relation = _relation(queue, tx, worker, lease, attempts.get(tx, lease.job, lease.attempt), found)
    if verdict(relation, result.outcome, found.state) is Verdict.DROP:
        return 0, 0
    number = quarantined(lease) if relation is Relation.FOREIGN else lease.attempt
    return (0, 0) if attempts.result(tx, lease.job, number) else (found.project, number)


def weight(result: Result) -> int:
    """The bytes that a result takes in quarantine."""
    return result.files.size + len(result.tail) + 200 * len(result.files.entries) + 1000


def quarantined(lease: Lease) -> int:
    """The number under which a result of another server life is kept: negative, so no attempt of ours has it."""
    return -(lease.incarnation * 100_000 + lease.attempt)


def _judge(queue: Queue, tx: Tx, worker: int, result: Result, work: _Work, peer: str) -> Settled:
    lease = result.lease
    run = queue.index.running.get(lease.job)
    if run is not None and run.lease == lease and run.worker == worker:
        said = verdict(Relation.CURRENT, result.outcome, State.RUNNING)
        note = _current(queue, tx, run, result, said, work)
        return Settled(lease=lease, verdict=said.value, note=note)
    pending = next((row for row in work.closed if row.id == lease.job), None)
    live = None if pending else jobs.get(tx, lease.job)
    done = pending or (None if live else jobs.done(tx, lease.job))
    state = live.state if live else done.state if done else State.CANCELLED
    attempt = attempts.get(tx, lease.job, lease.attempt)
    said = verdict(_relation(queue, tx, worker, lease, attempt, live or done), result.outcome, state)
    if said is Verdict.ACCEPT_LATE and live is not None and attempt is not None:
        # It was told before, when the job was closed, and somebody has said since that the job is to be done again.
        there = attempts.result(tx, lease.job, lease.attempt)
        if there is not None and there[0] != result.files:
            said = Verdict.DROP  # that it failed, with other files: what it says first counts
        else:
            _accept_late(queue, tx, live, attempt, result, work, kept=there is not None)
    elif said is Verdict.KNOWN and attempts.result(tx, lease.job, lease.attempt) is None:
        work.kept.append(Left(lease.job, lease.attempt, result.files, result.tail, False))
    elif said is Verdict.QUARANTINE:
        said = _quarantine(tx, result, work, peer)
    if said is Verdict.ASIDE and not peer:
        _tell_unknown(tx, worker, result)
    return Settled(lease=lease, verdict=said.value)


def _quarantine(tx: Tx, result: Result, work: _Work, peer: str) -> Verdict:
    """Keep it apart. Who is the first to say that it had an attempt, which nobody here knows, is kept; another one that brings
    other files for it may be the one that tells the truth, and is asked to keep them."""
    lease, number = result.lease, quarantined(result.lease)
    there = attempts.result(tx, lease.job, number)
    if there is not None:
        other = result.outcome is Outcome.OK and there[0] != result.files
        return Verdict.ASIDE if other else Verdict.QUARANTINE
    work.kept.append(Left(lease.job, number, result.files, result.tail, False, peer, weight(result) if peer else 0))
    tx.event(
        "server", "result.quarantined", subject=ids.array(lease.job), outcome=result.outcome.value,
        job=ids.show(lease.job, True), attempt=lease.attempt, incarnation=lease.incarnation,
    )  # fmt: skip
    return Verdict.QUARANTINE


def _tell_unknown(tx: Tx, worker: int, result: Result) -> None:
    """Where the result of a job is that a restore has undone."""
    row, lease = workers.get(tx, worker), result.lease
    tx.event(
        "server", "result.unknown", subject=worker, job=ids.show(lease.job, True), attempt=lease.attempt,
        incarnation=lease.incarnation, worker=row.name if row else "", host=row.host if row else "",
    )  # fmt: skip


def _relation(
    queue: Queue, tx: Tx, worker: int, lease: Lease, attempt: AttemptRow | None, job: JobRow | DoneRow | None
) -> Relation:
    if job is None:
        return Relation.UNDONE if 0 < lease.incarnation < queue.incarnation else Relation.UNKNOWN
    if attempt is None or attempt.incarnation != lease.incarnation:
        return Relation.FOREIGN
    if attempt.worker != worker and not same_bundle(tx, attempt.worker, worker):
        return Relation.FOREIGN
    return Relation.OLD


def same_bundle(tx: Tx, one: int, other: int) -> bool:
    """A spool may be handed in by another worker that was set up with the same bundle, or that the same pool has sent; of a
    borrowed one, by another of the same home that was lent by the same way: the servers on it answer for both."""
    first, second = workers.get(tx, one), workers.get(tx, other)
    if first is None or second is None:
        return False
    if first.bundle != second.bundle:
        pools = [allocations.by_bundle(tx, worker.bundle) for worker in (first, second)]
        return all(pools) and len({row.pool for row in pools if row is not None}) == 1
    if first.bundle:
        return True
    # The way to its home. Which home that is, the neighbour says: by the home alone each peer could speak for all.
    return first.boot == second.boot


def of_another(queue: Queue, tx: Tx, worker: int, lease: Lease) -> bool:
    """Whether a lease of another server was given to somebody else than this worker of ours, by another bundle: then it says
    nothing of it. Whether it was given to anybody is for its owner to say."""
    others = queue.loans.others(worker, lease)
    return bool(others) and not any(same_bundle(tx, other, worker) for other in others)


def _ending(result: Result, late: bool = False) -> Ending:
    return Ending(
        result.outcome, result.exit_code, result.message, result.wall_seconds, result.cpu_seconds,
        result.max_memory, late,
    )  # fmt: skip


def _current(queue: Queue, tx: Tx, run: Running, result: Result, said: Verdict, work: _Work) -> str:
    """The current attempt has ended; what the job does next, in words where it is not plain."""
    work.ended.append(closing.end_attempt(queue, tx, run, _ending(result)))
    queue.tallies.stage(tx, result.stage_in_seconds, result.stage_out_seconds)
    if result.wall_seconds:
        queue.pace.note(run.array, result.wall_seconds)
        queue.pace.note_alike(run.project, run.requirement, result.wall_seconds)
    elif run.ahead and result.outcome is Outcome.PREEMPTED:
        queue.pace.doubt(run.array)
    if result.files.entries or result.tail:
        accepted = said is Verdict.ACCEPT
        work.kept.append(Left(run.lease.job, run.lease.attempt, result.files, result.tail, accepted))
    if said is Verdict.ACCEPT:
        work.closed.append(_done(tx, run, State.SUCCEEDED, result, run.lease.attempt, ""))
        if run.checkpoint:
            work.checkpoints.add(run.lease.job)
        return ""
    return _again_or_end(queue, tx, run, result, said, work)


def _again_or_end(queue: Queue, tx: Tx, run: Running, result: Result, said: Verdict, work: _Work) -> str:
    queue.index.alter(run, failures=run.failures + (said is Verdict.COUNT), losses=run.losses + (said is Verdict.LOSS))
    spec = queue.specs.get(tx, run.array).spec
    reason = ""
    if said in (Verdict.COUNT, Verdict.LOSS):
        reason = gives_up(run.failures, run.losses, spec.max_failures, spec.max_losses)
    if reason:
        words = f"{result.message}; {reason}" if result.message else reason
        work.closed.append(_done(tx, run, after(State.RUNNING, Event.GAVE_UP), result, 0, words))
        if run.checkpoint:
            work.checkpoints.add(run.lease.job)
        return reason
    closing.requeue(queue, tx, run)
    queue.tallies.retry(tx, result.outcome.value)
    row = queue.specs.get(tx, run.array).row
    if row.step:
        queue.step_job_waits(tx, row.step, run.array)
    tx.event(
        "server", "job.requeued", project=run.project, subject=run.array,
        jobs=[ids.show(run.lease.job, row.elements)], outcome=result.outcome.value, reason=result.message,
    )  # fmt: skip
    return "requeued"


def _done(tx: Tx, run: Running, state: State, result: Result, accepted: int, reason: str) -> DoneRow:
    return DoneRow(
        id=run.lease.job, project=run.project, state=state, outcome=result.outcome.value, exit_code=result.exit_code,
        attempts=run.lease.attempt, accepted=accepted, failures=run.failures, losses=run.losses, ended=tx.now,
        reason=reason,
    )  # fmt: skip


def _accept_late(
    queue: Queue, tx: Tx, job: JobRow, attempt: AttemptRow, result: Result, work: _Work, kept: bool
) -> None:  # fmt: skip
    """Finished science of an attempt whose lease is over: it closes the job; whoever runs it now stops. `kept`: its files are
    here already."""
    run = queue.index.running.get(job.id)
    if run is not None:
        closing.cancel_run(queue, tx, run, "an earlier attempt has delivered the result")
    elif job.state is State.WAITING:
        queue.index.not_waiting(job.project, job.requirement, job.key)
    ending = _ending(result, late=True)
    queue.tallies.stage(tx, result.stage_in_seconds, result.stage_out_seconds)
    work.ended.append(
        AttemptRow(
            job=job.id, number=attempt.number, incarnation=attempt.incarnation, worker=attempt.worker,
            session=attempt.session, granted=attempt.granted, started=attempt.started, ended=tx.now,
            outcome=Outcome.OK.value, exit_code=ending.exit_code, late=True, message=ending.message,
            wall=ending.wall, cpu=ending.cpu, memory=ending.memory,
        )
    )  # fmt: skip
    if kept:
        attempts.use_result(tx, job.id, attempt.number)
    else:
        work.kept.append(Left(job.id, attempt.number, result.files, result.tail, True))
    work.checkpoints.add(job.id)
    work.closed.append(
        DoneRow(
            id=job.id, project=job.project, state=State.SUCCEEDED, outcome=Outcome.OK.value,
            exit_code=result.exit_code, attempts=job.attempts, accepted=attempt.number, failures=job.failures,
            losses=job.losses, ended=tx.now, reason="",
        )
    )  # fmt: skip


def lost(queue: Queue, tx: Tx, runs: Iterable[Running], message: str, counts: bool = True) -> int:
    """These attempts are over without a word of their own; how many. `counts`: against max_losses."""
    work = _Work()
    # One that was still waiting for room cannot have brought its worker down. Asked first, because ends make room.
    told = [(run, counts and not run.ahead) for run in runs]
    for run, guilty in told:
        outcome = Outcome.LOST if guilty else Outcome.PREEMPTED
        result = Result(lease=run.lease, outcome=outcome, message=message)
        said = verdict(Relation.CURRENT, outcome, State.RUNNING)
        _current(queue, tx, run, result, said, work)
    attempts.end(tx, work.ended)
    closing.close(queue, tx, work.closed, "server", frozenset(work.checkpoints))
    return len(told)


def take_checkpoints(
    queue: Queue, tx: Tx, worker: int, taken: Sequence[Checkpoint], peer: str = ""
) -> list[Lease]:  # fmt: skip
    """The newest checkpoints of running attempts; those that lack chunks, to be sent again if they are the last ones.

    Checkpoints of attempts that have ended are dropped. `peer`: as for `settle`.
    """
    again: list[Lease] = []
    for checkpoint in taken:
        lease = checkpoint.lease
        run = queue.index.running.get(lease.job)
        if run is None or run.lease != lease or run.worker != worker:
            continue
        try:
            contents = [content for _, content in check(checkpoint.files).files()]
        except CopernicusError:
            continue  # no worker of ours sends that; the checkpoint before it stays
        before = attempts.checkpoint(tx, lease.job)
        # Each checkpoint has a number of its own, so that dropping the old one cannot touch the new one's references.
        number = before[0] + 1 if before is not None else 1
        of = lease.job if peer else 0
        owned = Owned(Kind.CHECKPOINT, lease.job, number, run.project, tuple(contents), of)
        if references.add_many(tx, [owned])[0]:
            again.append(lease)
            continue
        attempts.set_checkpoint(tx, lease.job, number, checkpoint.files, before is not None)
        if before is not None:
            references.drop(tx, Kind.CHECKPOINT, lease.job, before[0])
        queue.index.alter(run, checkpoint=True)
        tx.event(
            "server", "job.checkpointed", project=run.project, subject=run.array,
            jobs=[ids.show(lease.job, queue.specs.get(tx, run.array).row.elements)], attempt=lease.attempt,
        )  # fmt: skip
    return again
