"""Workers of a home among themselves: none of them speaks of what another one was lent for, unless they are of one bundle."""

from __future__ import annotations

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.wire.messages import Checkpoint, Orders, Result, Task, Turn
from tests.helpers.lending_fixture import make, two
from tests.helpers.lending_world import Hand, World

__all__ = ["make", "two"]


def lent(world: World, **fields: object) -> tuple[int, Hand, Lease]:
    """A job of `c` that runs at a worker of `a`."""
    job = world["c"].submit("sleep")
    worker = world["a"].worker(cores=1, **fields)
    world.run(1)
    (lease,) = worker.tasks
    return job, worker, lease


def claim(spy: Hand, lease: Lease, outcome: Outcome = Outcome.OK) -> None:
    """It says that it has ended the job."""
    spy.told[lease] = Result(lease=lease, outcome=outcome, exit_code=0)
    spy.beat()
    spy.world.run(1)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.FAILED, Outcome.LOST])
def test_a_worker_does_not_end_what_another_one_was_lent_for(two: World, outcome: Outcome) -> None:
    job, worker, lease = lent(two)
    spy = two["a"].worker(cores=1, bundle=2)
    claim(spy, lease, outcome)
    assert spy.verdicts == {}
    assert spy.retried == [lease]
    assert two["c"].state(job) is State.RUNNING
    assert worker.cancelled == []
    worker.finish()
    two.run(1)
    assert two["c"].outcomes(job) == ["ok"]


def test_nor_by_saying_at_its_hello_that_it_has_it(two: World) -> None:
    job, worker, lease = lent(two)
    spy = two["a"].worker(cores=1, bundle=2)
    spy.kill()
    spy.tasks[lease] = Task(lease=lease, project=1, granted=worker.tasks[lease].granted, argv=("true",))
    welcome = spy.join()
    assert welcome.drop == (lease,)
    claim(spy, lease)
    assert spy.verdicts == {}
    assert spy.retried == [lease]
    session = two["a"].queue.index.of_worker(spy.row)
    assert session is not None
    assert session.free.cores == 1
    worker.drive(30)
    assert two["c"].state(job) is State.RUNNING
    worker.finish()
    two.run(1)
    assert two["c"].outcomes(job) == ["ok"]


def test_nor_does_it_keep_the_other_one_from_its_files(two: World) -> None:
    _, worker, lease = lent(two)
    spy, friend = two["a"].worker(cores=1, bundle=2), two["a"].worker(cores=1)
    assert spy.connection is not None
    saved = Checkpoint(lease=lease, files=Manifest())
    held = Turn(number=2, holds=(lease,), checkpoints=(saved,))
    two.reactor.finish(spy.connection.call("turn", held, Orders, timeout=30.0))
    two.run(1)
    speaks = two["a"].lending.speaks

    def asked(hand: Hand, about: Lease) -> bool:
        return two.reactor.finish(ensureDeferred(speaks(hand.row, about)))

    assert [asked(hand, lease) for hand in (worker, spy, friend)] == [True, False, True]
    unknown = Lease(lease.job, 7, 1, lease.path)  # of a worker that was here before: its owner decides
    assert [asked(hand, unknown) for hand in (worker, spy, friend)] == [True, True, True]


def test_another_one_of_the_same_bundle_hands_in_what_it_has_found(two: World) -> None:
    """As for jobs of our own: it may have the disk of one that has died, and that nobody misses yet."""
    job, worker, lease = lent(two)
    heir = two["a"].worker(cores=1)
    assert worker.connection is not None
    worker.connection.close("killed")
    claim(heir, lease)
    assert heir.verdicts == {lease: "accepted late"}
    assert two["c"].state(job) is State.SUCCEEDED


def test_whose_worker_is_gone_is_for_the_owner_to_say(two: World) -> None:
    """A home keeps no record of what it has lent: by whatever bundle a result is found later, it is not thrown away."""
    job, worker, lease = lent(two)
    heir = two["a"].worker(cores=1, bundle=2)
    heir.wants = False
    claim(heir, lease)
    assert heir.retried == [lease]
    worker.leave()
    two.run(1)
    assert two["c"].outcomes(job) == ["preempted"]
    heir.beat()
    two.run(1)
    assert heir.verdicts == {lease: "accepted late"}
    assert two["c"].state(job) is State.SUCCEEDED
