"""Finished science is never thrown away by the worker: what its program has done is told, whoever has the job now."""

from __future__ import annotations

import errno

from cpc.core.outcome import Outcome
from cpc.wire.messages import Orders
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import lease

__all__ = ["expected"]

BIG = b"".join(bytes([number]) * (4 << 20) for number in range(4))


def test_a_result_on_its_way_is_handed_in_when_only_its_attempt_is_over() -> None:
    here = world(make=Program(1.0, writes=((0.5, "big.dat", BIG),)))
    job = here.script.add(1, "make")
    here.worker()
    here.until(lambda: here.script.puts)
    here.server.push(Orders(cancel=((job, "declared lost"),), wanted=(job,)))
    here.until(lambda: here.script.settled(job))
    assert [result.outcome for result in here.script.results[job]] == [Outcome.OK]
    assert here.script.file(job, "big.dat") == BIG


def test_a_result_on_its_way_is_not_sent_when_the_job_is_cancelled() -> None:
    here = world(make=Program(1.0, writes=((0.5, "big.dat", BIG),)))
    job = here.script.add(1, "make")
    here.worker()
    here.until(lambda: here.script.puts)
    here.server.push(Orders(cancel=((job, "not needed"),)))
    here.until(lambda: here.script.settled(job))
    assert [result.outcome for result in here.script.results[job]] == [Outcome.CANCELLED]


def test_a_program_that_runs_is_ended_when_its_attempt_is_over() -> None:
    here = world(long=Program(1000.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.server.push(Orders(cancel=((job, "declared lost"),), wanted=(job,)))
    here.until(lambda: here.script.settled(job), within=10.0)
    assert here.script.results[job][0].outcome is Outcome.CANCELLED


def full(operation: str, path: str) -> OSError | None:
    return OSError(errno.ENOSPC, "No space left on device", path) if operation == "append" and "spool" in path else None


def test_a_result_that_waits_for_the_disk_outlives_the_end_of_its_attempt() -> None:
    for order in ("give up", "drop"):
        here = world(make=Program(1.0, writes=((0.5, "big.dat", BIG),)))
        job = here.script.add(1, "make")
        worker = here.worker()
        here.until(lambda worker=worker: worker.processes.launched)  # type: ignore[misc]
        here.platter.broken = full
        here.until(lambda here=here: any("cannot be written" in line for line in here.said))  # type: ignore[misc]
        if order == "drop":
            here.script.drop = (lease(1),)
            here.restart_server(away=1.0)
            here.until(lambda here=here: len(here.script.hellos) == 2)  # type: ignore[misc]
        else:
            here.server.push(Orders(cancel=((job, "declared lost"),), wanted=(job,)))
        here.reactor.advance(20.0)
        here.platter.broken = lambda operation, path: None
        here.until(lambda here=here, job=job: here.script.settled(job))  # type: ignore[misc]
        assert here.script.results[job][0].outcome is Outcome.OK, order
