"""What the books of files, events and dependencies must say, whatever happened; see `oracle` for jobs and attempts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from cpc.core import ids
from cpc.core.manifest import Manifest
from cpc.core.spec import Dependency, JobSpec
from cpc.queue.job import State
from cpc.store.references import Kind


class Rows(Protocol):
    """How the database is asked."""

    def __call__(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]: ...


def often(rows: Rows) -> Iterator[str]:
    """What is wrong between any two events, in words."""
    for count, first, last in rows(
        "SELECT count(*), min(number), max(number) FROM events WHERE NOT EXISTS (SELECT 1 FROM trimmed) GROUP BY number >> 52"
    ):  # of each life of the server, as long as retention has removed nothing
        if count != last - first + 1:
            yield f"the log has {count} events from {first} to {last}: some were lost, or never were"
    for project, booked, used in rows(
        "SELECT p.name, p.storage, coalesce((SELECT sum(c.size) FROM chunks c WHERE c.digest IN "
        '(SELECT r.digest FROM "references" r WHERE r.project = p.id)), 0) FROM projects p'
    ):
        if booked != used:
            yield f"project {project} is charged for {booked} bytes and uses {used}"
    yield from _kept(rows, Kind.CHECKPOINT, "SELECT job, number, manifest FROM checkpoints")


def at_the_end(rows: Rows, known: Iterable[int]) -> Iterator[str]:
    """What is wrong when all has settled, in words. `known`: submissions that people have been told of."""
    yield from _kept(rows, Kind.RESULT, "SELECT job, number, manifest FROM results")
    told = set(known)
    for (array,) in rows("SELECT id FROM arrays WHERE id NOT IN (SELECT array FROM step_jobs)"):
        if array not in told:
            yield f"submission {ids.show(array)} is on record and nobody has made it: something was done twice"


def _kept(rows: Rows, kind: Kind, query: str) -> Iterator[str]:
    """Every chunk of a manifest on record is referred to, so that nobody takes it away."""
    for job, number, manifest in rows(query):
        wanted = {
            digest
            for _, content in msgspec.msgpack.decode(manifest, type=Manifest).files()
            for digest in content.chunks
        }  # fmt: skip
        if wanted:
            held = rows(
                'SELECT digest FROM "references" WHERE kind = ? AND owner = ? AND number = ?', int(kind), job, number
            )
            if not wanted <= {digest for (digest,) in held}:
                yield f"files of the {kind.name.lower()} {number} of job {ids.show(job, True)} are not kept"


def too_early(rows: Rows, job: int, spec: JobSpec) -> Iterator[str]:
    """Why a job that begins now should still wait for others, in words."""
    for dependency in spec.after:
        number, element = ids.read(dependency.job)
        first, end = _range(number, element, dependency, ids.index(job))
        live = rows("SELECT count(*) FROM jobs WHERE id >= ? AND id < ?", first, end)[0][0]
        query = "SELECT count(*) FROM finished WHERE id >= ? AND id < ? AND state != ?"
        bad = rows(query, first, end, int(State.SUCCEEDED))[0][0]
        if live or (bad and dependency.on == "success"):
            yield (
                f"job {ids.show(job, True)} begins although it waits for the {dependency.on} of {dependency.job}: "
                f"{live} not ended, {bad} not succeeded"
            )


def _range(number: int, element: bool, dependency: Dependency, index: int) -> tuple[int, int]:
    if dependency.pairwise:
        return number + index, number + index + 1
    return (number, number + 1) if element else (number, number + ids.MAX_ARRAY)
