"""A worker whose own time ends: it begins nothing that it could not finish, and the server knows it; in virtual time."""

from __future__ import annotations

from cpc.core.outcome import Outcome
from cpc.wire.messages import Orders
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]

GRACE = 20.0
LAST = 600.0 - GRACE - 30.0  # seconds after its start a worker with ten minutes begins nothing new


def test_the_server_hears_at_once_that_nothing_new_is_begun() -> None:
    """And not with the next heartbeat: the jobs that it gave until then would be ended before they had done anything."""
    here = world()
    here.script.beat = 400.0
    here.worker(until_in=600.0, grace=GRACE)
    here.reactor.advance(LAST - 1.0)
    assert here.script.turns[-1].wants
    here.reactor.advance(1.5)
    assert not here.script.turns[-1].wants
    assert "time is nearly over" in here.script.turns[-1].note


def test_a_job_that_was_on_its_way_then_is_handed_back_before_it_begins() -> None:
    here = world(long=Program(10_000.0))
    worker = here.worker(until_in=600.0, grace=GRACE)
    here.reactor.advance(LAST + 1.0)
    job = here.script.add(1, "long")
    here.server.push(Orders(tasks=(here.script.tasks.pop(),)))
    here.until(lambda: here.script.settled(job), within=2.0)
    assert here.script.results[job][0].outcome is Outcome.PREEMPTED
    assert "own time is nearly over" in here.script.results[job][0].message
    assert worker.processes.launched == []
    assert not worker.ended


def test_a_job_that_comes_to_a_worker_that_has_stepped_back_is_not_one_more_that_fails() -> None:
    here = world(bad=Program(1.0, code=1))
    for number in range(1, 6):
        here.script.add(number, "bad")
    worker = here.worker(cores=5)
    here.until(lambda: any("stepping back" in line for line in here.said))
    job = here.script.add(6, "bad")
    here.server.push(Orders(tasks=(here.script.tasks.pop(),)))
    here.until(lambda: here.script.settled(job), within=2.0)
    assert here.script.results[job][0].outcome is Outcome.PREEMPTED
    assert len(worker.processes.launched) == 5


def test_a_worker_with_too_little_time_hands_in_what_others_left_and_begins_nothing() -> None:
    here = world()
    job = here.script.add(1, "true")
    first = here.worker()
    here.until(lambda: first.processes.launched)
    here.stop_server()
    here.reactor.advance(30.0)
    first.kill()
    here.restart_server(away=1.0)
    other = here.script.add(2, "true")
    second = here.worker(pid=101, until_in=25.0)
    here.until(lambda: second.ended)
    assert here.script.results[job][0].outcome is Outcome.OK
    assert other not in here.script.leased
    assert here.script.goodbyes == ["the worker's own time is over"]
