"""Checkpoints that workers report: the next attempt goes on from the last one, and it goes with the job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.queue.session import Session
from cpc.server import settling, unreadable
from cpc.store import references, schema
from cpc.wire.messages import Checkpoint
from tests.helpers.benches import Bench
from tests.helpers.settlements import act, cancel, files, lose, row


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    made = Bench(url=database_url)
    yield made
    made.check()
    made.close()


def checkpoint(bench: Bench, worker: Session, lease: Lease, data: bytes) -> None:
    manifest, small = files(data)

    def unit(tx: Any) -> None:
        references.add(tx, references.Kind.UPLOAD, 999, 0, bench.project, [one for _, one in manifest.files()], small)
        settling.take_checkpoints(bench.queue, tx, worker.worker, [Checkpoint(lease=lease, files=manifest)])

    act(bench, unit)


def test_the_next_attempt_goes_on_from_the_last_checkpoint(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=9, checkpoint=("out",))
    for data in (b"one", b"two"):
        checkpoint(bench, worker, worker.leases[job], data)
    bench.tasks(worker)
    lose(bench, worker)
    assert [task.checkpoint for task in bench.tasks(worker)] == [files(b"two")[0]]


def test_a_damaged_checkpoint_is_not_begun_from_again(bench: Bench) -> None:
    worker = bench.worker("w")
    job = bench.submit(max_losses=9, checkpoint=("out",))
    checkpoint(bench, worker, worker.leases[job], b"whole once")
    lose(bench, worker)
    (chunk,) = files(b"whole once")[1]
    act(bench, lambda tx: unreadable.give_up(bench.queue, tx, worker.leases[job], chunk, "not what it was"))
    assert row(bench, job).state is State.RUNNING
    bench.report(worker, worker.leases[job], Outcome.REFUSED)
    assert [task.checkpoint for task in bench.tasks(worker)][-1] is None


def test_a_checkpoint_of_an_old_attempt_is_dropped(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=9, checkpoint=("out",))
    old = worker.leases[job]
    lose(bench, worker)
    checkpoint(bench, worker, old, b"late")
    assert bench.count(schema.checkpoints) == 0


def test_a_checkpoint_whose_chunks_are_missing_is_sent_again(bench: Bench) -> None:
    """Else the checkpoint that goes ahead of a job handed back would be lost with it."""
    worker = bench.worker(cores=1)
    job = bench.submit(checkpoint=("out",))
    taken = [Checkpoint(lease=worker.leases[job], files=files()[0])]
    again = act(bench, lambda tx: settling.take_checkpoints(bench.queue, tx, worker.worker, taken))
    assert again == [worker.leases[job]]
    assert bench.count(schema.checkpoints) == 0


@pytest.mark.parametrize("how", ["succeeds", "late", "fails", "is cancelled", "is cancelled while it waits"])
def test_the_checkpoint_goes_with_the_end_of_the_job(bench: Bench, how: str) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=9, checkpoint=("out",))
    lease = worker.leases[job]
    checkpoint(bench, worker, lease, b"one")
    assert bench.count(schema.checkpoints) == 1
    if how == "succeeds":
        bench.report(worker, lease)
    elif how == "fails":
        bench.report(worker, lease, Outcome.FAILED)
    elif how == "late":
        lose(bench, worker)
        bench.report(worker, lease)
    elif how == "is cancelled":
        cancel(bench, job)
    else:
        bench.do(lambda tx: bench.queue.index.change(worker, wants=False))
        lose(bench, worker)
        assert bench.state(job) is State.WAITING
        cancel(bench, job)
    assert bench.state(job).terminal
    assert bench.count(schema.checkpoints) == 0
    assert bench.count(schema.references, kind=3) == 0
