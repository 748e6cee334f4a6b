"""Jobs that a worker is given ahead of its room: they wait, begin in order, and are handed back; in virtual time."""

from __future__ import annotations

from cpc.core.outcome import Outcome
from cpc.wire.messages import Orders
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]


def test_jobs_given_ahead_begin_in_order_and_never_more_than_fit() -> None:
    here = world(brief=Program(0.5))
    jobs = [here.script.add(number, "brief") for number in range(1, 7)]
    here.script.all_at_once = True
    worker = here.worker(cores=2)
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    assert [launch.key for launch in worker.processes.launched] == [f"{job.job}.1.1" for job in jobs]
    assert worker.processes.most == 2
    assert {result.outcome for each in here.script.results.values() for result in each} == {Outcome.OK}


def test_the_files_of_a_job_given_ahead_are_in_place_before_there_is_room() -> None:
    here = world(brief=Program(1.5))
    data = here.script.put_file(b"input")
    jobs = [here.script.add(number, "brief", inputs=(("in", data, False),)) for number in range(1, 5)]
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(1.0)
    assert sum(path.endswith("/in") for path in here.platter.names) == 4
    assert len(worker.processes.launched) == 1
    here.until(lambda: all(here.script.settled(job) for job in jobs))


def test_what_finds_no_room_in_time_is_handed_back_before_it_begins() -> None:
    here = world(long=Program(1000.0))
    first, second = here.script.add(1, "long"), here.script.add(2, "long")
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: here.script.settled(second), within=30.0)
    (result,) = here.script.results[second]
    assert (result.outcome, result.exit_code, result.wall_seconds) == (Outcome.PREEMPTED, None, 0.0)
    assert "found no room in time" in result.message
    assert [launch.key for launch in worker.processes.launched] == [f"{first.job}.1.1"]
    here.reactor.advance(10.0)
    assert not any(f"/{second.job}.1.1" in path for path in here.platter.names)


def test_a_drained_worker_begins_nothing_that_it_was_given_ahead() -> None:
    here = world(brief=Program(1.5))
    jobs = [here.script.add(number, "brief") for number in range(1, 5)]
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: worker.processes.launched)
    here.server.push(Orders(drain="repair"))
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    outcomes = [here.script.results[job][0].outcome for job in jobs]
    assert outcomes == [Outcome.OK, Outcome.PREEMPTED, Outcome.PREEMPTED, Outcome.PREEMPTED]


def test_a_job_that_is_still_ending_is_waited_for() -> None:
    here = world(stubborn=Program(1000.0, term_seconds=20.0))
    first, second = here.script.add(1, "stubborn"), here.script.add(2, "true")
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: worker.processes.launched)
    here.server.push(Orders(cancel=((first, "enough"),)))
    here.until(lambda: here.script.settled(second), within=60.0)
    assert here.script.results[second][0].outcome is Outcome.OK


def test_a_job_given_ahead_can_be_cancelled_before_it_begins() -> None:
    here = world(brief=Program(1.5))
    first, second, third = (here.script.add(number, "brief") for number in (1, 2, 3))
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: worker.processes.launched)
    here.server.push(Orders(cancel=((second, "enough"),)))
    here.until(lambda: here.script.settled(first) and here.script.settled(second) and here.script.settled(third))
    assert here.script.results[second][0].outcome is Outcome.CANCELLED
    assert len(worker.processes.launched) == 2


def test_what_has_begun_when_it_is_to_be_taken_back_goes_on() -> None:
    """Ends are told some at a time while there is a line: the agent believes for a moment that the next one still waits."""
    here = world(brief=Program(1.0), long=Program(50.0))
    jobs = [here.script.add(1, "brief"), here.script.add(2, "long"), here.script.add(3, "long")]
    here.script.all_at_once = True
    worker = here.worker(cores=1)
    here.until(lambda: len(worker.processes.launched) == 2)
    worker.agent.desk.give_up_waiting("the worker is drained")
    here.until(lambda: all(here.script.settled(job) for job in jobs), within=200.0)
    outcomes = [here.script.results[job][0].outcome for job in jobs]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.PREEMPTED]
