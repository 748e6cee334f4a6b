"""What an operator limits holds for the next job, whoever gives it: at the owner, at the home, and at each server between; for
workers that are on loan already, too, whose owner gives them one job after the other with the answers to reports."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.peer import Agreement, Bound, Limits
from cpc.core.resources import Amounts
from cpc.store import projects
from cpc.wire.peer_messages import Offer
from tests.helpers import fake_ways
from tests.helpers.lending_fixture import Make, chain, make, two
from tests.helpers.lending_world import World
from tests.helpers.stores import HeldThreads, InlineThreads

__all__ = ["chain", "make", "two"]

FAR = Agreement(lend_on=16)
SIM = Limits(executables=("sim",))


def agree(world: World, one: str, other: str, agreement: Agreement) -> None:
    """As the operator of `one` does it."""
    world.net.agree(one, other, agreement)
    world[one].lending.agreed(other)
    world.run(1)


def used(world: World, owner: str) -> int:
    """Cores that the owner's jobs have."""
    return sum(run.granted.cores for run in world[owner].queue.index.running.values())


def test_what_a_server_between_lends_no_more_is_given_to_no_worker_that_is_on_loan(chain: World) -> None:
    """One job of the worker's goes on all the time, so that the loan does not end."""
    chain["c"].submit("plain", array=100)
    chain["c"].submit("sim", executable="sim", array=100)
    worker = chain["a"].worker(cores=2, programs=(("sim", "1"),))
    chain.run(1)
    stays, *others = worker.tasks
    for _ in range(3):
        worker.finish(*others)
        chain.run(1)
        others = [lease for lease in worker.tasks if lease != stays]
        assert [worker.tasks[lease].executable for lease in others] == [""]
    asked = chain.net.count("ask-work")
    agree(chain, "b", "c", Agreement(lent=SIM))
    for _ in range(3):
        worker.finish(*others)
        chain.run(1)
        others = [lease for lease in worker.tasks if lease != stays]
        assert [worker.tasks[lease].executable for lease in others] == ["sim"]
    assert stays in worker.tasks, "what runs may end"
    assert chain.net.count("ask-work") == asked, "all of it came with reports"


def test_what_several_servers_lend_is_what_all_of_them_do(make: Make) -> None:
    world = make("a", "b", "c", "d")
    for here, there in ("ab", "bc", "cd"):
        world.net.trust(here, there, FAR, FAR)
    programs = ("one", "two", "three", "four")
    for name in programs:
        world["d"].submit(name, executable=name, array=100)
    worker = world["a"].worker(cores=5, programs=tuple((name, "1") for name in programs))
    world.run(1)
    stays, *others = worker.tasks
    given = {worker.tasks[lease].executable for lease in others}
    assert given == set(programs)
    agree(world, "b", "c", Agreement(lent=Limits(executables=("one", "two", "three")), lend_on=16))
    agree(world, "c", "d", Agreement(lent=Limits(executables=("four", "three", "two"))))
    agree(world, "d", "c", Agreement(accepted=Limits(executables=("four", "one", "three"))))
    worker.finish(*others)
    world.run(1)
    others = [lease for lease in worker.tasks if lease != stays]
    assert [worker.tasks[lease].executable for lease in others] == ["three"] * 4


def test_a_loan_that_began_with_little_is_used_for_more_when_more_is_lent(chain: World) -> None:
    agree(chain, "b", "c", Agreement(lent=SIM))
    chain["c"].submit("plain", array=100)
    chain["c"].submit("sim", executable="sim")
    worker = chain["a"].worker(cores=2, programs=(("sim", "1"),))
    worker.drive(60)
    assert [task.executable for task in worker.tasks.values()] == ["sim"]
    agree(chain, "b", "c", Agreement())
    worker.drive(60)
    assert sorted(task.executable for task in worker.tasks.values()) == ["", "sim"]


@pytest.mark.parametrize("less", [Agreement(lent=SIM), Agreement(lent=Limits(off=True))], ids=["executables", "off"])
def test_what_a_server_between_lends_again_is_given_again(chain: World, less: Agreement) -> None:
    chain["c"].submit("plain", array=100)
    worker = chain["a"].worker(cores=2)
    chain.run(1)
    stays, other = worker.tasks
    agree(chain, "b", "c", less)
    worker.finish(other)
    worker.drive(300)
    assert list(worker.tasks) == [stays]
    agree(chain, "b", "c", Agreement())
    worker.drive(60)
    assert len(worker.tasks) == 2


@pytest.mark.parametrize(
    ("one", "other_server", "far", "said"), [("a", "b", 1, True), ("a", "b", 1, False), ("b", "c", 0, True)]
)
def test_who_lends_less_far_gives_no_more_to_who_is_farther_away(
    make: Make, monkeypatch: pytest.MonkeyPatch, one: str, other_server: str, far: int, said: bool
) -> None:
    """`said`: with its reports, which an owner of an older release does not know."""
    if not said:
        monkeypatch.setattr(fake_ways, "BOUND", frozenset())
    world = make("a", "b", "c", "d")
    for here, there in ("ab", "bc", "cd"):
        world.net.trust(here, there, FAR, FAR)
    world["d"].submit("plain", array=100)
    worker = world["a"].worker(cores=2)
    world.run(1)
    stays, other = worker.tasks
    worker.finish(other)
    world.run(1)
    assert [lease.route for lease in worker.tasks] == [("b", "c", "d")] * 2
    agree(world, one, other_server, Agreement(lend_on=far))
    worker.finish(*(lease for lease in worker.tasks if lease != stays))
    worker.drive(60)
    assert list(worker.tasks) == [stays]
    near = world["c"].submit("plain")
    worker.drive(10)
    assert worker.jobs == ["1 of c", "1 of d"]
    assert world["c"].state(near).label == "running"


@pytest.mark.parametrize(
    "less", [Limits(off=True), Limits(cores=1), SIM], ids=["off", "cores", "executables"],
)  # fmt: skip
def test_room_that_an_owner_gets_no_more_of_is_somebody_elses(make: Make, less: Limits) -> None:
    """While a job of the owner that came first goes on at the worker."""
    world = make("a", "b", "c")
    for name in "bc":
        world.net.trust("a", name)
        world[name].submit("plain", array=100)
    worker = world["a"].worker(cores=2)
    world.run(1)
    stays, other = worker.tasks
    agree(world, "a", "b", Agreement(lent=less))
    worker.finish(other)
    worker.drive(10)
    assert worker.jobs == ["1 of b", "1 of c"]
    assert stays in worker.tasks


def test_no_more_cores_than_a_server_between_lends_are_used_by_way_of_it(make: Make) -> None:
    """Of all homes before it and all their workers together, also when many of their jobs end at once."""
    world = make("a", "b", "c", "d")
    world.net.trust("a", "b", FAR, FAR)
    world.net.trust("d", "b", FAR, FAR)
    world.net.trust("b", "c", Agreement(lent=Limits(cores=3)))
    world["c"].submit("plain", array=1000)
    workers = [world[name].worker(cores=2, ahead=10) for name in "aad"]
    most = 0
    for turn in range(60):
        world.run(1)
        most = max(most, used(world, "c"))
        for worker in workers[turn % 2 :]:
            worker.finish()
    assert most == 3
    agree(world, "b", "c", Agreement())
    world.run(60)
    assert used(world, "c") == 6
    agree(world, "b", "c", Agreement(lent=Limits(cores=1)))
    assert used(world, "c") == 6, "what runs may end"
    for _ in range(5):
        for worker in workers:
            worker.finish()
        world.run(10)
        assert used(world, "c") <= 1


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_own_workers_of_a_server_between_count_together_with_those_that_it_passes_on(make: Make, names: str) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b", FAR, FAR)
    world.net.trust("b", "c", Agreement(lent=Limits(cores=3)))
    world["c"].submit("plain", array=1000)
    workers = []
    for name in names:
        workers.append(world[name].worker(cores=2))
        world.run(1)
    assert [len(worker.jobs) for worker in workers] == [2, 1]
    for _ in range(10):
        for worker in workers:
            worker.finish()
        world.run(1)
        assert used(world, "c") == 3


def test_no_more_cores_are_used_than_a_limit_lets_when_two_questions_are_answered_in_one_commit(two: World) -> None:
    """Of workers that were never lent before."""
    two["c"].submit("plain", array=10)
    give = two["c"].lending.owner.give
    room = Amounts(cores=2)
    offers = [Offer(worker=number, name="w", host="h", total=room, free=room) for number in (101, 102)]
    writer, held = two["c"].store.writer, HeldThreads()
    writer._threads = held
    two["c"].store.write(lambda tx: None)  # what comes while it is written waits, and is written together
    answers = [ensureDeferred(give(("a",), (offer,), (Bound(0, cores=3),))) for offer in offers]
    held.go()
    writer._threads = InlineThreads()
    found = [two.reactor.finish(answer) for answer in answers]
    assert [len(tasks) for each in found for tasks in each.values()] == [2, 1]


def test_no_more_cores_than_are_accepted_are_used_when_many_jobs_end_at_once(two: World) -> None:
    two.net.agree("c", "a", Agreement(accepted=Limits(cores=3)))
    two["c"].submit("plain", array=1000)
    workers = [two["a"].worker(cores=2, ahead=10) for _ in range(3)]
    two.run(1)
    assert used(two, "c") == 3
    for _ in range(10):
        for worker in workers:
            worker.finish()
        two.run(1)
        assert used(two, "c") == 3


def test_no_more_cores_than_are_accepted_are_used_though_the_owner_has_been_restarted(make: Make) -> None:
    """What runs at a home that is away counts."""
    world = make("a", "b", "c", "d")
    world.net.trust("a", "b", FAR, FAR)
    world.net.trust("d", "b", FAR, FAR)
    world.net.trust("b", "c", others=Agreement(accepted=Limits(cores=3)))
    world["c"].submit("plain", array=1000)
    away = world["a"].worker(cores=2)
    world.run(1)
    assert used(world, "c") == len(away.tasks) == 2
    world.net.cut("a", "b")
    world["c"].kill()
    world["c"].start()
    world["d"].worker(cores=2)
    world.run(30)
    assert used(world, "c") == 3


@pytest.mark.parametrize("far", [False, True], ids=["neighbour", "behind it"])
def test_what_an_owner_accepts_no_more_is_given_to_no_worker_that_is_on_loan(make: Make, far: bool) -> None:
    names = "abc" if far else "ac"
    world = make(*names)
    for here, there in pairwise(names):
        world.net.trust(here, there, FAR, FAR)
    owner = world["c"]
    secret = owner.do(lambda tx: projects.add(tx, "secret", 1, 0, 1.0)).id
    owner.submit("plain", array=100)
    worker = world["a"].worker(cores=2)
    world.run(1)
    stays, other = worker.tasks
    owner.submit("secret", array=100, project=secret, priority=5)
    worker.finish(other)
    world.run(1)
    assert [task.argv for lease, task in worker.tasks.items() if lease != stays] == [("secret",)]
    agree(world, "c", names[-2], Agreement(accepted=Limits(projects=("p",))))
    for _ in range(3):
        worker.finish(*(lease for lease in worker.tasks if lease != stays))
        world.run(1)
        assert [task.argv for lease, task in worker.tasks.items() if lease != stays] == [("plain",)]
    agree(world, "c", names[-2], Agreement(accepted=SIM))
    worker.finish(*(lease for lease in worker.tasks if lease != stays))
    worker.drive(60)
    assert list(worker.tasks) == [stays]
