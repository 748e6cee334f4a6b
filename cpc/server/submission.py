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
from cpc.store import arrays, dependencies, jobs, references
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


def submit(queue: Queue, tx: Tx, project: int, submitter: int, actor: str, spec: JobSpec) -> ArrayRow:
    """Store a submission; its jobs are eligible at once or wait for others."""
    edges = validate(tx, project, spec)
    needed = requirement.of(spec)
    number = arrays.class_number(tx, needed)
    array = tx.next("array")
    row = ArrayRow(
        id=array, project=project, submitter=submitter, name=spec.name, command=command_line(spec),
        requirement=number, priority=spec.priority, size=spec.size, elements=spec.array > 0, submitted=tx.now,
        open=spec.size, succeeded=0, failed=0, cancelled=0,
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
    """Failed and cancelled jobs of the range wait again, with a fresh count of failures; how many."""
    counts = jobs.count_done(tx, which)
    failed, cancelled = counts.get(State.FAILED, 0), counts.get(State.CANCELLED, 0)
    if not failed + cancelled:
        live = jobs.count(tx, which)
        what = "is not finished yet" if live else "has succeeded"
        raise Conflict(f"nothing to retry: {ids.show(which.first)} {what}")
    row = queue.specs.get(tx, array).row
    jobs.revive(tx, which, row.requirement, -row.priority)
    arrays.count(tx, array, bad=-failed, ended=-cancelled)
    tx.event(
        actor, "job.retried", project=row.project, subject=array,
        jobs=[ids.show(which.first, row.elements and which.end - which.first == 1)], count=failed + cancelled,
    )  # fmt: skip
    queue.freed(tx, row.project, row.requirement, failed + cancelled)
    return failed + cancelled


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
