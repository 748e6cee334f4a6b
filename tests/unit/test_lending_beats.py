"""Leases of workers that are lent live by being named: once in a beat, whatever else there is to tell."""

from __future__ import annotations

import pytest

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.server.federation.loans import Owner, compose
from cpc.wire.messages import Orders, Result
from tests.helpers.lending_fixture import Make, make, two
from tests.helpers.lending_world import World

__all__ = ["make", "two"]

BEAT = 30.0
PERIOD = 120.0  # the heartbeat time


def test_a_long_job_lives_beside_a_worker_that_reports_all_the_time(two: World) -> None:
    long = two["c"].submit("long")
    at_it = two["a"].worker(cores=1)
    two.run(1)
    assert at_it.jobs == ["1 of c"]
    two["c"].submit("brief", array=60)
    brief = two["a"].worker(cores=1)
    two.run(1)
    for seconds in range(0, int(1.5 * PERIOD), 4):
        brief.finish()
        if not seconds % 28:
            at_it.beat()
        two.run(4)
    assert two["c"].outcomes(long) == ["runs"]
    assert at_it.jobs == ["1 of c"]


def test_a_turn_that_names_nothing_takes_nothing_back(two: World) -> None:
    job = two["c"].submit("sleep", array=3)
    worker = two["a"].worker(cores=3)
    two.run(1)
    worker.beat()
    for _ in range(int(1.5 * PERIOD / BEAT)):
        two.run(BEAT / 2)
        worker.beat(brief=True)
        two.run(BEAT / 2)
        worker.beat()
    assert two["c"].states(job, 3) == {"running": 3}
    reports = two.net.count("report")
    worker.beat(brief=True)
    two.run(1)
    assert two.net.count("report") == reports, "nothing has happened"
    first = next(iter(worker.tasks))
    worker.finish(first, brief=True)
    two.run(1)
    assert worker.verdicts == {first: "accepted"}
    assert len(two["a"].lending.home.works_for(worker.row)[0][1]) == 2
    worker.finish(brief=True)
    two.run(BEAT)
    assert two["c"].states(job, 3) == {"succeeded": 3}
    assert two["a"].lending.home.works_for(worker.row) == []


def test_what_a_worker_names_no_more_is_not_renewed(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker(cores=1)
    two.run(1)
    for _ in range(int(2 * PERIOD / 10)):
        two.run(10)
        worker.beat(brief=True)
    assert two["c"].outcomes(job)[0] == "preempted"


def test_the_verdict_on_a_result_and_what_follows_it_come_in_one_message(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two["c"].submit("sleep", array=3)
    worker = two["a"].worker(cores=1)
    two.run(1)
    heard: list[Orders] = []
    obey = worker._obey
    monkeypatch.setattr(worker, "_obey", lambda orders: (heard.append(orders), obey(orders)))
    worker.finish()
    two.run(1)
    assert [(len(orders.tasks), len(orders.settled)) for orders in heard if orders != Orders()] == [(1, 1)]


def test_what_is_held_is_named_once_in_a_beat_or_after_the_worker_has(make: Make) -> None:
    home = make("a")["a"]
    owner = Owner("c")
    loan = owner.loan(1)
    leases = [Lease(number, 1, 1, "c") for number in range(3)]

    def named(everything: bool = False) -> list[int]:
        loan.dirty = True
        _, report = compose(owner, home.queue, home.lending.asking, None, everything)
        return [lease.job for lease in report.workers[0].holds]

    loan.hold(leases, now=1.0)
    assert named() == [0, 1, 2]
    assert named() == []
    loan.ended([Result(lease=leases[0], outcome=Outcome.OK)])
    assert named() == []
    loan.settled(leases[0])
    assert named(everything=True) == [1, 2]
    loan.hold(leases[2:], now=2.0)
    assert named() == [2]
