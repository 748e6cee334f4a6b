"""A worker that takes so many jobs and no more: for allocations that are made for one."""

from __future__ import annotations

from cpc.core.outcome import Outcome
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]


def test_it_runs_so_many_jobs_hands_them_in_and_leaves() -> None:
    here = world(make=Program(5.0))
    jobs = [here.script.add(number, "make") for number in range(3)]
    worker = here.worker(cores=1, most_jobs=2)
    here.until(lambda: worker.ended)
    assert worker.ended == ["its jobs are done"]
    done = [job for job in jobs if here.script.settled(job) and here.script.results[job][-1].outcome is Outcome.OK]
    assert len(done) == 2
    assert here.script.goodbyes == ["its jobs are done"]


def test_it_asks_for_no_more_and_hands_back_what_it_is_given_beyond() -> None:
    here = world(make=Program(5.0))
    jobs = [here.script.add(number, "make") for number in range(2)]
    worker = here.worker(cores=4, most_jobs=1)
    here.until(lambda: worker.ended)
    outcomes = sorted(here.script.results[job][-1].outcome for job in jobs if here.script.settled(job))
    assert outcomes == [Outcome.OK, Outcome.PREEMPTED]
    assert any(not turn.wants for turn in here.script.turns)
    assert here.script.hellos[0].ahead == 0
