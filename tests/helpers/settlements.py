"""What tests of settling have in common: what happens to a job, and the files of its results."""

from __future__ import annotations

from typing import Any

from cpc.core.digest import of_chunks
from cpc.core.manifest import Entry, Manifest
from cpc.queue.session import Session
from cpc.server import closing, settling
from cpc.store import jobs
from cpc.store.jobs import Range
from tests.helpers.benches import Bench


def act(bench: Bench, unit: Any) -> Any:
    """A unit, and the round that follows it."""

    def whole(tx: Any) -> Any:
        value = unit(tx)
        bench.queue.round(tx)
        return value

    return bench.do(whole)


def lose(bench: Bench, session: Session, counts: bool = True) -> None:
    """Its leases have expired."""
    runs = [run for run in bench.queue.each_running() if run.worker == session.worker]
    act(bench, lambda tx: settling.lost(bench.queue, tx, runs, "silent", counts))


def cancel(bench: Bench, job: int) -> None:
    act(bench, lambda tx: closing.cancel(bench.queue, tx, job, Range.of(job, False), "enough", "user:t"))


def row(bench: Bench, job: int) -> Any:
    return bench.do(lambda tx: jobs.get(tx, job) or jobs.done(tx, job))


def files(data: bytes = b"hello") -> tuple[Manifest, dict[bytes, bytes]]:
    content = of_chunks([data])
    return Manifest((Entry(b"out", content=content),)), {content.digest: data}
