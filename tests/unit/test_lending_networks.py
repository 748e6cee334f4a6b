"""Lending in networks of any shape: no loops, no floods, no work twice, and a fair share for each who asks."""

from __future__ import annotations

from itertools import combinations

import pytest

from cpc.core.peer import Agreement
from cpc.queue.job import State
from tests.helpers.lending_fixture import Make, make

__all__ = ["make"]

FAR = Agreement(lend_on=16)


def test_in_a_full_mesh_of_a_hundred_servers_an_idle_worker_costs_a_question_to_each_in_five_minutes(
    make: Make,
) -> None:
    names = [f"s{number}" for number in range(100)]
    world = make(*names, monitored=False)
    for one, other in combinations(names, 2):
        world.net.trust(one, other, FAR, FAR)
    world.run(1)
    worker = world["s0"].worker()
    world.run(295)
    assert world.net.count() == world.net.count("ask-work") == 99
    world.run(300)
    assert world.net.count() <= 2 * 99
    job = world["s57"].submit("sleep")
    world.run(1)
    assert worker.jobs == ["1 of s57"]
    assert (world.net.count("demand"), world["s57"].state(job)) == (1, State.RUNNING)


def test_in_a_ring_a_question_goes_both_ways_round_and_the_work_comes_once(make: Make) -> None:
    names = "abcdef"
    world = make(*names)
    for one, other in zip(names, names[1:] + names[0], strict=True):
        world.net.trust(one, other, FAR, FAR)
    job = world["d"].submit("sleep", array=3)
    worker = world["a"].worker(cores=2)
    world.run(1)
    assert worker.jobs == ["1 of d", "1[1] of d"]
    for _ in range(2):
        worker.finish()
        world.run(1)
    assert world["d"].states(job, 3) == {"succeeded": 3}
    assert all(world["d"].outcomes(job + index) == ["ok"] for index in range(3))
    world.run(1)
    before = world.net.count()
    world.run(290)
    assert world.net.count() - before <= 2 * len(names) ** 2


def test_servers_in_between_keep_nothing(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b", FAR)
    world.net.trust("b", "c")
    world["c"].submit("sleep", array=4)
    worker = world["a"].worker()
    world.run(1)
    worker.finish()
    world.run(1)
    relay = world["b"]
    assert (relay.queue.index.sessions, relay.queue.index.running) == ({}, {})
    assert relay.lending.home.totals() == relay.lending.owner.totals() == {}


def test_peers_that_have_asked_in_vain_are_called_in_turn(make: Make) -> None:
    world = make("a", "b", "c", "owner")
    workers = []
    for name in "abc":
        world.net.trust(name, "owner")
        workers.append(world[name].worker(cores=1))
    world.run(1)
    served = []
    for _ in range(9):
        world["owner"].submit("sleep")
        world.run(1)
        busy = [worker for worker in workers if worker.jobs]
        assert len(busy) == 1
        served.append(busy[0].name)
        busy[0].finish()
        world.run(1)
    assert sorted(served.count(worker.name) for worker in workers) == [3, 3, 3]
    assert world.net.count("demand") == 9


def test_many_jobs_call_as_many_peers_as_they_can_use(make: Make) -> None:
    names = [f"s{number}" for number in range(8)]
    world = make("owner", *names)
    for name in names:
        world.net.trust(name, "owner")
    workers = [world[name].worker(cores=2) for name in names]
    world.run(1)
    world["owner"].submit("sleep", array=6)
    world.run(2)
    assert sum(len(worker.jobs) for worker in workers) == 6
    assert world.net.count("demand") == 3


def test_a_worker_on_loan_is_given_brief_jobs_ahead_of_its_room(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    job = world["c"].submit("brief", array=60)
    worker = world["a"].worker(cores=2, ahead=50)
    world.run(1)
    for _ in range(3):
        worker.finish(*list(worker.tasks)[:2], wall_seconds=0.1)
        world.run(0.2)
    assert len(worker.tasks) == 2 + 2 * 0.5 / 0.1
    session = world["a"].queue.index.of_worker(worker.row)
    assert session is not None
    assert (session.free.cores, len(session.ahead)) == (0, 10)
    while worker.tasks:
        worker.finish(*list(worker.tasks)[:2], wall_seconds=0.1)
        world.run(0.2)
    assert world["c"].states(job, 60) == {"succeeded": 60}
    assert session.free.cores == 2


@pytest.mark.parametrize(("one_way", "seconds"), [(0.05, 0.5), (0.2, 1.05), (0.5, 1.5)])
def test_what_is_given_ahead_covers_the_way_to_the_owner_as_far_as_a_worker_waits(
    make: Make, one_way: float, seconds: float
) -> None:
    world = make("a", "c")
    world.net.trust("a", "c").latency = one_way
    job = world["c"].submit("brief", array=400)
    worker = world["a"].worker(cores=2, ahead=100)
    world.run(3)
    for _ in range(3):
        worker.finish(*list(worker.tasks)[:2], wall_seconds=0.1)
        world.run(3)
    session = world["a"].queue.index.of_worker(worker.row)
    assert session is not None
    assert abs(len(session.ahead) - 2 * seconds / 0.1) <= 1
    told = len(session.ahead)
    worker.kill()
    world.run(150)
    assert world["c"].states(job, 400) == {"succeeded": 6, "waiting": 394}
    lost = [world["c"].outcomes(job + each) for each in range(6, 8 + told)]
    assert lost == [["lost"]] * 2 + [["preempted"]] * told, "what never began is not lost with its worker"


def test_own_work_does_not_wait_for_what_others_have_ahead_of_it_to_end_for_good(make: Make) -> None:
    """Its worker always has brief jobs of a peer ahead, and is never without one."""
    world = make("a", "c")
    world.net.trust("a", "c")
    world["c"].submit("brief", array=300)
    worker = world["a"].worker(cores=2, ahead=50)
    world.run(1)
    for _ in range(3):
        worker.finish(*list(worker.tasks)[:2], wall_seconds=0.1)
        world.run(0.2)
    before = len(worker.tasks)
    assert before > 10
    own = world["a"].submit("long", array=2)
    ended = 0
    while world["a"].states(own, 2) != {"running": 2}:
        worker.finish(*[lease for lease in worker.tasks if lease.path][:2], wall_seconds=0.1)
        ended += 2
        world.run(0.2)
        assert ended <= before + 4, world["a"].states(own, 2)
    worker.finish(wall_seconds=0.1)
    world.run(1)
    assert worker.tasks
    assert all(lease.path for lease in worker.tasks), "and then others have it again"


def test_the_messages_of_a_loan_are_few(make: Make) -> None:
    """Batches: a report for all that happened, whose answer brings the next tasks."""
    world = make("a", "c")
    world.net.trust("a", "c")
    job = world["c"].submit("sleep", array=64)
    worker = world["a"].worker(cores=16)
    world.run(1)
    before = world.net.count()
    for _ in range(4):
        worker.finish()
        world.run(1)
    assert world["c"].states(job, 64) == {"succeeded": 64}
    assert world.net.messages["a", "c", "report"] <= 8
    assert world.net.count() - before <= 10


# --- hostile peers ---------------------------------------------------------------------------------------------------------


def test_whoever_may_be_lent_on_to_hears_of_it_in_whatever_order_the_operators_agree(make: Make) -> None:
    """The home first: nobody beyond its peer may be asked then, and its workers are promised a call."""
    world = make("a", "b", "c", "d")
    for one, other in (("a", "b"), ("b", "c"), ("c", "d")):
        world.net.trust(one, other)
    worker = world["a"].worker()
    world["d"].submit("sleep")
    for one, other in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "c")):
        world.run(1)
        world.net.agree(one, other, Agreement(lend_on=2))
        world[one].lending.agreed(other)
    world.run(1)
    assert worker.jobs == ["1 of d"]


def test_a_server_that_is_connected_later_gets_workers_from_beyond_at_once(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b", FAR, FAR)
    worker = world["a"].worker()
    world["c"].submit("sleep")
    world.run(10)
    world.net.trust("b", "c", FAR, FAR)
    world.run(1)
    assert worker.jobs == ["1 of c"]
