"""Both directions off: nothing at all goes on with the peer, from that moment on, though the two stay connected."""

from __future__ import annotations

import pytest

from cpc.core.peer import Agreement, Limits
from tests.helpers.lending_fixture import Make, make, two
from tests.helpers.lending_world import World

__all__ = ["make", "two"]

OFF = Agreement(lent=Limits(off=True), accepted=Limits(off=True))
FAR = Agreement(lend_on=1)


def agree(world: World, one: str, other: str, agreement: Agreement) -> None:
    """As the operator of `one` does it."""
    world.net.agree(one, other, agreement)
    world[one].lending.agreed(other)
    world.run(1)


@pytest.mark.parametrize(("one", "other"), [("a", "c"), ("c", "a")])
def test_what_runs_ends_at_once_on_both_sides_whoever_switches_it_off(two: World, one: str, other: str) -> None:
    job = two["c"].submit("sleep", array=2, max_losses=1)
    worker = two["a"].worker()
    two.run(1)
    assert len(worker.jobs) == 2
    agree(two, one, other, OFF)
    assert two["c"].states(job, 2) == {"waiting": 2}
    worker.beat()
    two.run(10)  # the home of the worker hears from the answers to its reports that the way is closed
    assert worker.jobs == []
    assert two["c"].states(job, 2) == {"waiting": 2}
    assert two["c"].outcomes(job) == ["preempted"]  # which is not held against the job
    session = two["a"].queue.index.of_worker(worker.row)
    assert session is not None
    assert session.free.cores == 2
    two["a"].submit("sleep", array=2)
    two.run(1)
    assert worker.jobs == ["1", "1[1]"]
    worker.finish()
    worker.drive(600)
    assert two["c"].states(job, 2) == {"waiting": 2}, "nothing is lent any more"
    agree(two, one, other, Agreement())
    worker.drive(60)
    assert len(worker.jobs) == 2
    worker.finish()
    two.run(1)
    assert two["c"].states(job, 2) == {"succeeded": 2}


def test_one_direction_that_is_off_lets_what_runs_end(two: World) -> None:
    job = two["c"].submit("sleep", array=2)
    worker = two["a"].worker()
    two.run(1)
    agree(two, "a", "c", Agreement(lent=Limits(off=True)))
    worker.drive(300)
    assert len(worker.jobs) == 2
    worker.finish()
    two.run(1)
    assert two["c"].states(job, 2) == {"succeeded": 2}


def test_what_goes_on_with_others_is_not_touched(make: Make) -> None:
    """A worker of a runs jobs of b, and by way of b some of c: a has nothing more to do with d."""
    world = make("a", "b", "c", "d")
    world.net.trust("a", "b", ones=FAR)
    world.net.trust("b", "c")
    world.net.trust("a", "d")
    jobs = {name: world[name].submit("sleep") for name in "bcd"}
    worker = world["a"].worker(cores=3)
    world.run(1)
    assert sorted(worker.jobs) == ["1 of b", "1 of c", "1 of d"]
    agree(world, "a", "d", OFF)
    assert sorted(worker.jobs) == ["1 of b", "1 of c"]
    assert {name: world[name].states(job, 1) for name, job in jobs.items()} == {
        "b": {"running": 1}, "c": {"running": 1}, "d": {"waiting": 1},
    }  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [("a", "c"), ("c", "a")])
def test_what_comes_by_a_server_between_is_that_servers_affair(make: Make, one: str, other: str) -> None:
    """a runs a job of c by way of b, before the two are connected and one of them wants nothing of the other."""
    world = make("a", "b", "c")
    world.net.trust("a", "b", ones=FAR)
    world.net.trust("b", "c")
    job = world["c"].submit("sleep")
    worker = world["a"].worker()
    world.run(1)
    assert worker.jobs == ["1 of c"]
    world.net.trust(one, other, ones=OFF)
    agree(world, one, other, OFF)
    worker.drive(60)
    assert worker.jobs == ["1 of c"]
    worker.finish()
    world.run(1)
    assert world["c"].states(job, 1) == {"succeeded": 1}
