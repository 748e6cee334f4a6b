"""New jobs, new tries and new orders of people: what changes the queue from the outside."""

from __future__ import annotations

import shlex
from dataclasses import replace

from cpc.core import ids
from cpc.core.errors import Conflict, NotFound
from cpc.core.spec import Dependency, JobSpec, check
from cpc.queue import requirement
from cpc.queue.dependency import Kind, doomed
from cpc.queue.job import State
from cpc.server.queue import Queue
from cpc.server.specs import submission
from cpc.store import arrays, dependencies, jobs, references, steps
from cpc.store.arrays import ArrayRow
from cpc.store.dependencies import Edge
from cpc.store.jobs import JobRow, Range
from cpc.store.transaction import Tx


def command_line(spec: JobSpec) -> str:
    """The command as lists show it."""
    words = [spec.executable, *spec.argv] if spec.executable else list(spec.argv)
    text = shlex.join(words)
    return text if len(text) <= 200 else text[:199] + "…"


def validate(tx: Tx, project: int, spec: JobSpec) -> list[Edge]:
    """Everything that can be refused, before anything is written; the dependencies that are still open."""
    check(spec)
    contents = [entry.content for entry in spec.inputs]
    missing = references.missing(tx, project, [digest for content in contents for digest in content.chunks])
    if missing:
        raise references.Missing(missing)
    edges = [_edge(tx, project, spec, dependency) for dependency in spec.after]
    return list({(edge.before, edge.kind): edge for edge in edges if edge is not None}.values())


def submit(
    queue: Queue, tx: Tx, project: int, submitter: int, actor: str, spec: JobSpec, step: int = 0
) -> ArrayRow:  # fmt: skip
    """Store a submission; its jobs are eligible at once or wait for others. `step`: which one has asked for it."""
    edges = validate(tx, project, spec)
    needed = requirement.of(spec)
    number = arrays.class_number(tx, needed)
    array = tx.next("array")
    row = ArrayRow(
        id=array, project=project, submitter=submitter, name=spec.name, command=command_line(spec),
        requirement=number, priority=spec.priority, size=spec.size, elements=spec.array > 0, submitted=tx.now,
        open=spec.size, succeeded=0, failed=0, cancelled=0, step=step,
    )  # fmt: skip
    arrays.add(tx, row, spec)
    contents = [entry.content for entry in spec.inputs]
    references.add(tx, references.Kind.ARRAY_INPUT, array, 0, project, contents)
    state = State.BLOCKED if edges else State.WAITING
    jobs.add(tx, array, row.size, JobRow(0, project, number, state, -spec.priority, 0, 0, 0, len(edges), tx.now))
    dependencies.add(tx, [replace(edge, after=array) for edge in edges])
    queue.edges += len(edges)
    queue.journal.note(_fewer_edges, queue, len(edges))
    queue.index.learn(number, needed)
    queue.specs.keep(submission(row, spec))
    queue.tallies.submit(tx, row.size)
    tx.event(
        actor, "job.submitted", project=project, subject=array,
        jobs=[ids.show(array)], size=row.size, name=spec.name, command=row.command,
    )  # fmt: skip
    if not edges:
        queue.ready(tx, project, number, array, -spec.priority, row.size)
    return row


def _fewer_edges(queue: Queue, count: int) -> None:
    queue.edges -= count


def _edge(tx: Tx, project: int, spec: JobSpec, dependency: Dependency) -> Edge | None:
    """The edge for one dependency; None when it is met already. What could never run is refused."""
    number, element = ids.read(dependency.job)
    row = arrays.get(tx, ids.array(number))
    if row is None or row.project != project or ids.index(number) >= row.size:
        raise NotFound(f"job {dependency.job}, which this one should wait for, is not in the project")
    needs = dependency.on == "success"
    if dependency.pairwise:
        if element or row.size != spec.size or not row.elements:
            raise Conflict(
                f"{dependency.job} and this submission cannot be paired",
                "pairwise needs two arrays of the same size",
            )
        return _pair(tx, row, dependency.job, needs)
    single = element and row.elements
    if single:
        done = jobs.done(tx, number)
        if done is None and jobs.get(tx, number) is None:
            raise NotFound(f"job {dependency.job}, which this one should wait for, is being forgotten")
        ended, succeeded = done is not None, done is not None and done.state is State.SUCCEEDED
    else:
        ended, succeeded = row.open == 0, row.succeeded == row.size
    if not ended:
        return Edge(number if single else row.id, 0, Kind.ELEMENT if single else Kind.WHOLE, needs)
    if doomed(needs, succeeded):
        raise Conflict(f"job {dependency.job} did not succeed, so this one would never run", "retry that job first")
    return None


def _pair(tx: Tx, row: ArrayRow, shown: str, needs: bool) -> Edge | None:
    if row.open == row.size:
        return Edge(row.id, 0, Kind.PAIR, needs)
    if row.open:
        raise Conflict(f"some elements of {shown} have ended already", "submit paired arrays before the first ends")
    if doomed(needs, row.succeeded == row.size):
        raise Conflict(f"some elements of {shown} did not succeed, so theirs would never run", "retry them first")
    return None


def retry(queue: Queue, tx: Tx, array: int, which: Range, actor: str) -> int:
    """Failed and cancelled jobs of the range get a fresh start, with a fresh count of failures; how many.

    They wait for those of their dependencies that have not ended; what has ended, however that was, holds them up no more.
    """
    counts = jobs.count_done(tx, which)
    failed, cancelled = counts.get(State.FAILED, 0), counts.get(State.CANCELLED, 0)
    if not failed + cancelled:
        live = jobs.count(tx, which)
        what = "is not finished yet" if live else "has succeeded"
        raise Conflict(f"nothing to retry: {ids.show(which.first)} {what}")
    row, spec = queue.specs.get(tx, array).row, queue.specs.get(tx, array).spec
    if row.step and steps.untold(tx, row.step, array):
        raise Conflict(
            f"the instance that {ids.show(array)} belongs to is about to be told how it ended",
            "if the instance stops then, `cpcc clear-error` runs it again",
        )
    _wait_again(queue, tx, array, spec)
    blocked = bool(queue.edges) and bool(dependencies.of(tx, array))
    state = State.BLOCKED if blocked else State.WAITING
    jobs.revive(tx, which, state, row.requirement, -row.priority)
    arrays.count(tx, array, bad=-failed, ended=-cancelled)
    tx.event(
        actor, "job.retried", project=row.project, subject=array,
        jobs=[ids.show(which.first, row.elements and which.end - which.first == 1)], count=failed + cancelled,
    )  # fmt: skip
    free = jobs.count_blockers(tx, array) if blocked else failed + cancelled
    queue.freed(tx, row.project, row.requirement, free)
    if queue.edges:
        _hold_up_again(queue, tx, array)
    return failed + cancelled


def _wait_again(queue: Queue, tx: Tx, array: int, spec: JobSpec) -> None:
    """The edges to dependencies of a submission that are open (again) but have been settled before."""
    if not spec.after:
        return
    there = {(edge.before, edge.kind) for edge in dependencies.of(tx, array)}
    edges = [edge for dependency in spec.after if (edge := _open_edge(tx, array, dependency)) is not None]
    fresh = {(edge.before, edge.kind): edge for edge in edges if (edge.before, edge.kind) not in there}
    if fresh:
        dependencies.add(tx, list(fresh.values()))
        queue.edges += len(fresh)
        queue.journal.note(_fewer_edges, queue, len(fresh))


def _open_edge(tx: Tx, array: int, dependency: Dependency) -> Edge | None:
    """The edge of a dependency that was accepted once; None when it has ended, or is forgotten."""
    number, element = ids.read(dependency.job)
    row = arrays.get(tx, ids.array(number))
    if row is None or not row.open:
        return None
    needs = dependency.on == "success"
    if dependency.pairwise:
        return Edge(row.id, array, Kind.PAIR, needs)
    if element and row.elements:
        return Edge(number, array, Kind.ELEMENT, needs) if jobs.get(tx, number) is not None else None
    return Edge(row.id, array, Kind.WHOLE, needs)


def _hold_up_again(queue: Queue, tx: Tx, array: int) -> None:
    """Jobs of this submission are open again: whoever is paired with one of them and still blocked waits for it again."""
    for edge in dependencies.waiting_for(tx, array):
        if edge.kind is Kind.PAIR:
            waiting = queue.specs.get(tx, edge.after).row
            free = jobs.count_blockers(tx, edge.after)
            queue.freed(tx, waiting.project, waiting.requirement, free)


def prioritise(queue: Queue, tx: Tx, array: int, which: Range, priority: int) -> None:
    """Another priority for what has not started."""
    row = queue.specs.get(tx, array).row
    if which.end - which.first > 1:
        arrays.set_priority(tx, array, priority)
        queue.specs.forget(array)
    jobs.set_rank(tx, which, -priority)
    for run in queue.each_running():
        if which.first <= run.lease.job < which.end:
            queue.index.alter(run, rank=-priority)
    queue.freed(tx, row.project, row.requirement, 0)
