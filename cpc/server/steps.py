"""Steps, unit by unit: given out, answered, stopped; and the jobs that they wait for.

    open ─▶ take ─▶ (the function runs, outside the writer) ─▶ answer ─▶ closed
              ▲                                                  │ jobs asked for, or left
              └───────────────── job_ended ◀─────────────────────┘

`take` writes nothing of what it gives out: a server that is killed under a running function gives the same step out again. It
ends a step that cannot run any more, because a required input was unset since it opened. `answer` is carried out only if the
step is open and no other answer was since it was given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cpc.core import ids, plain
from cpc.core.errors import CopernicusError
from cpc.core.manifest import Manifest
from cpc.core.spec import JobSpec
from cpc.dataflow import conditions
from cpc.dataflow.answer import Answer, FinishedJob, Job, StepInput
from cpc.dataflow.functions import Function
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.step import Event, State, after
from cpc.queue.job import State as QueueState
from cpc.server import closing, submission
from cpc.server.changes import Change
from cpc.server.dataflow import Dataflow
from cpc.store import attempts, instance_logs, instances, jobs, projects, steps
from cpc.store.packed import unpack
from cpc.store.steps import JobState, StepJob, StepRow
from cpc.store.transaction import Tx

MAX_LOG = 1 << 20  # bytes that one answer may add
MAX_MESSAGE = 64 << 10  # characters
TAIL = 2000


class Kept(msgspec.Struct, frozen=True):
    """What a step has started from, in the wire form: its later runs start from the same."""

    inputs: dict[str, Any]
    sub_inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a function. `ordinals`: of the finished jobs in `given`; `directory`: its persistent one as it was left."""

    step: StepRow
    function: Function
    given: StepInput
    ordinals: tuple[int, ...]
    directory: str


def take(flow: Dataflow, tx: Tx, step: int) -> Run | None:
    """What the step's function is to be run on; None when there is nothing to run now."""
    row = steps.get(tx, step)
    if row is None or row.state is not State.READY:
        return None
    graph = flow.graphs.get(tx, row.project)
    instance = graph.instances.get(row.instance)
    if instance is None or instance.step != row.id or not instance.state.runs:
        return None
    asked = steps.jobs(tx, step)
    ended = [job for job in asked if job.state is JobState.ENDED]
    kept = _kept(tx, row)
    if kept is None and any(conditions.missing(instance)):
        change = Change(flow, tx, row.project, graph)
        change.withdraw(instance)
        change.write("server", "edited", 0, lambda: {"edits": []})  # replayed, a network opens no steps by itself
        return None
    updated: tuple[str, ...] = ()
    if kept is None:
        snapshot = graph.step_taken(instance, row.since)
        kept, updated = Kept(_wire(snapshot.inputs), _wire(snapshot.sub_inputs)), snapshot.updated
    controller = instance.function.controller
    memory, directory = instances.memory(tx, instance.id)
    given = StepInput(
        project=graph.name,
        instance=instance.path,
        function=instance.function.name,
        number=row.number,
        inputs=kept.inputs,
        sub_inputs=kept.sub_inputs,
        outputs=_values(instance, Tree.OUT) if controller and controller.access_outputs else None,
        sub_outputs=_values(instance, Tree.SUB_OUT) if controller and controller.access_subnet_outputs else None,
        instances=tuple(instance.children or ()),
        updated=updated,
        finished=tuple(_finished(flow, tx, job) for job in ended),
        pending=sum(job.state in (JobState.LIVE, JobState.PARKED) for job in asked),
        state=memory,
        base_dir=instance.function.directory,
    )
    return Run(row, instance.function, given, tuple(job.ordinal for job in ended), directory)


def _kept(tx: Tx, row: StepRow) -> Kept | None:
    packed = steps.snapshot(tx, row.id) if row.run else None
    return None if packed is None else unpack(packed, Kept, "what a step has started from")


def _wire(values: dict[str, plain.Plain]) -> dict[str, Any]:
    return {name: plain.wire(value) for name, value in values.items()}


def _values(instance: Instance, tree: Tree) -> dict[str, Any]:
    found = instance.value(tree)
    return _wire(found) if isinstance(found, dict) else {}


def _finished(flow: Dataflow, tx: Tx, job: StepJob) -> FinishedJob:
    """A job that has ended, as a function sees it."""
    spec = flow.queue.specs.get(tx, job.array).spec
    done = jobs.done(tx, job.array)
    assert done is not None, "a job that has ended has a row that says how"
    number = done.accepted or done.attempts
    manifest, tail, _ = attempts.result(tx, job.array, number) or (Manifest(), "", False)
    return FinishedJob(
        ordinal=job.ordinal,
        job=ids.show(job.array),
        succeeded=done.state is QueueState.SUCCEEDED,
        key=job.key,
        exit_code=done.exit_code,
        reason=done.reason,
        tail=tail,
        argv=(spec.executable, *spec.argv) if spec.executable else spec.argv,
        cpu_seconds=sum(attempt.cpu for attempt in attempts.of_job(tx, job.array)),
        files=manifest,
    )


# --- answers -------------------------------------------------------------------------------------------------------------


def answer(flow: Dataflow, tx: Tx, run: Run, given: Answer, directory: str = "") -> bool:
    """Carry out what a run has returned; whether the step is over. `directory`: its persistent one as it is now.

    An answer that comes too late is dropped: its step is over.

    All of it is one commit: outputs, instances, connections, what follows from them, new jobs, the step's next state.
    """
    row = steps.get(tx, run.step.id)
    if row is None or not row.state.open or row.run != run.step.run:
        return True
    graph = flow.graphs.get(tx, row.project)
    instance = graph.instances[row.instance]
    given = _checked(tx, row.project, instance, given)
    change = Change(flow, tx, row.project, graph)
    outcome = _apply(change, instance, row, given, run.given.finished)
    instance_logs.append(tx, row.project, instance.id, given.log.encode("utf-8", "replace")[:MAX_LOG])
    seconds = sum(job.cpu_seconds for job in run.given.finished)
    if seconds:
        graph.spent(instance, seconds)
    change.note(instance)
    steps.set_job_states(tx, row.id, run.ordinals, JobState.GIVEN)
    if given.cancel_jobs:
        change.cancel_jobs(row, f"{instance.path} has cancelled it")
    change.settle(outcome)
    closed = True
    if not outcome.refused and not given.error:
        _keep(tx, run, instance, given, directory)
        closed = _go_on(change, instance, row, run, given)
    change.answered(instance, row, closed)
    kind = "stopped" if outcome.refused or given.error else "answered"
    path, error = instance.path, instance.error
    change.write(f"instance:{path}", kind, row.id, lambda: _details(path, row, given, error))
    return closed


def _checked(tx: Tx, project: int, instance: Instance, given: Answer) -> Answer:
    """The answer; an error instead when it asks for jobs that cannot be submitted."""
    for number, job in enumerate(given.jobs):
        try:
            if job.spec.array:
                return Answer(error=f"job {number} is an array: ask for single jobs", log=given.log)
            submission.validate(tx, project, _named(instance, number, job.spec))
        except CopernicusError as error:
            return Answer(error=f"job {job.key or number} cannot be submitted: {error}", log=given.log)
    return given


def _apply(
    change: Change, instance: Instance, row: StepRow, given: Answer, finished: Sequence[FinishedJob]
) -> Outcome:  # fmt: skip
    """The answer carried out in memory; what it has led to, also if that is only an error."""
    graph, journal = change.graph, change.graph.journal
    if given.error:
        outcome = graph.stopped(instance, _message(given.error, finished))
        change.check(outcome)
        return outcome
    mark = journal.mark()
    outcome = graph.answer(instance, given, lambda: change.tx.next("instance"), origin=row.id)
    try:
        change.check(outcome)
    except CopernicusError as error:
        journal.undo_to(mark)
        outcome = graph.stopped(instance, f"the answer of {instance.function.name} cannot be kept: {error}")
        outcome.refused = str(error)
        change.check(outcome)
    return outcome


def _message(error: str, finished: Sequence[FinishedJob]) -> str:
    """What went wrong, with the last lines of the failed jobs that the function was told of."""
    parts = [error[:MAX_MESSAGE]]
    for job in finished:
        if not job.succeeded and job.tail.strip() and job.tail.strip() not in error:
            parts.append(f"the last lines of job {job.job} ({job.reason or 'failed'}):\n{job.tail.strip()[-TAIL:]}")
    return "\n\n".join(parts)


def _keep(tx: Tx, run: Run, instance: Instance, given: Answer, directory: str) -> None:
    """What the function wants to find again in its next run."""
    if given.state is not None and given.state != run.given.state:
        instances.set_memory(tx, instance.id, given.state)
    if directory:
        instances.set_directory(tx, instance.id, directory)


def _go_on(change: Change, instance: Instance, row: StepRow, run: Run, given: Answer) -> bool:
    """Submit what was asked for; the step waits, runs again or is closed. Whether it is closed."""
    tx = change.tx
    before = steps.jobs(tx, row.id)
    _submit(change, instance, row, given.jobs, len(before))
    states = [job.state for job in steps.jobs(tx, row.id)]
    # Given out, the step has stayed READY in the database. A job that has ended meanwhile is for the next run.
    left = JobState.LIVE in states or JobState.PARKED in states
    waits = after(State.RUNNING, Event.CONTINUED if left else Event.ANSWERED)
    state = State.READY if JobState.ENDED in states else waits
    if state.open and not row.run:
        kept = Kept(run.given.inputs, run.given.sub_inputs)
        contents = [file.content for file in plain.files([kept.inputs, kept.sub_inputs])]
        steps.keep_snapshot(tx, row, msgspec.msgpack.encode(kept), contents)
    steps.answered(tx, row, state)
    if not state.open:
        change.settle(change.graph.step_closed(instance))
        return True
    if state is State.READY:
        change.tell(row.id)
    if not instance.state.runs:
        change.park(change.step(instance))
    return False


def _submit(change: Change, instance: Instance, row: StepRow, asked: Sequence[Job], first: int) -> None:
    project = projects.by_id(change.tx, row.project)
    assert project is not None
    made = []
    for ordinal, job in enumerate(asked, first):
        array = submission.submit(
            change.flow.queue,
            change.tx,
            row.project,
            project.owner,
            "server",
            _named(instance, ordinal, job.spec),
            row.id,
        )
        made.append(StepJob(ordinal, array.id, job.key, JobState.LIVE))
    steps.add_jobs(change.tx, row.id, made)


def _named(instance: Instance, ordinal: int, spec: JobSpec) -> JobSpec:
    """The spec with a name that says whose it is."""
    return spec if spec.name else msgspec.structs.replace(spec, name=f"{instance.path}.{ordinal}"[-200:])


def _details(path: str, row: StepRow, given: Answer, error: str) -> dict[str, Any]:
    """For the record: what the answer has changed. Jobs are not part of the network."""
    if error:
        return {"instance": path, "step": row.number, "error": error}
    told = msgspec.structs.replace(given, jobs=(), log="", state=None)
    return {"instance": path, "step": row.number, "answer": msgspec.to_builtins(told, builtin_types=(bytes,))}


# --- jobs ----------------------------------------------------------------------------------------------------------------


def job_ended(flow: Dataflow, tx: Tx, step: int, array: int) -> None:
    """A job has ended, in this unit: its step can run, unless it does not wait for it any more."""
    row = steps.get(tx, step)
    if row is None or not row.state.open or not steps.job_ended(tx, step, array):
        return
    state = after(row.state, Event.JOB_ENDED)
    if state is not row.state:
        steps.set_state(tx, row, state)
    tx.after(lambda: flow.ready(step))


def job_waits(flow: Dataflow, tx: Tx, step: int, array: int) -> None:
    """The attempt of a job has ended and another may follow: not while its instance is held."""
    row = steps.get(tx, step)
    if row is None or not row.state.open or instances.runs(tx, row.instance):
        return
    asked = [job.ordinal for job in steps.jobs(tx, step) if job.array == array and job.state is JobState.LIVE]
    if asked and closing.hold(flow.queue, tx, array):
        steps.set_job_states(tx, step, asked, JobState.PARKED)
