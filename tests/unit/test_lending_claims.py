"""What a hostile peer says of what is not its own, and in numbers that nothing has: it changes nothing, and costs little."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.errors import TooLarge
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.resources import MAX_NAME, MOST_OTHERS, Amounts
from cpc.queue.job import State
from cpc.server.federation import portions
from cpc.server.federation.owner import MOST_CANCELLED
from cpc.store import attempts, workers
from cpc.wire.messages import Checkpoint, Orders, Program, Settled, Tail
from cpc.wire.peer_messages import AskWork, Offer, Report, ReportAnswer, WorkerOrders, WorkerReport, WorkGiven
from tests.helpers.fake_ways import FakeWays
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import Hand, World

__all__ = ["make"]

ONE = Amounts(cores=1)


def ask(world: World, evil: FakeWays, offer: Offer, id: str = "1") -> list[Lease]:
    """`e` offers this worker to c; what it is given."""
    question = AskWork(id=id, route=("e",), hops=0, seconds=5.0, offers=(offer,))
    said = world.reactor.finish(ensureDeferred(evil.ask("c", "ask-work", question, WorkGiven, 5.0)))
    return [task.lease for given in said.given for task in given.tasks]


def report(world: World, evil: FakeWays, *said: WorkerReport, route: tuple[str, ...] = ("e", "c")) -> ReportAnswer:
    """`e` reports this to c."""
    question = Report(number=1, workers=said)
    return world.reactor.finish(ensureDeferred(evil.ask_far(route, "report", question, ReportAnswer, 60.0)))


@pytest.fixture
def world(make: Make) -> World:
    """`c` has jobs, and trusts `a` as well as `e`, which is hostile."""
    made = make("a", "c")
    made.net.trust("a", "c")
    made.net.server("e")
    made.net.trust("e", "c")
    return made


def evil_of(world: World) -> FakeWays:
    return world.net._ways["e"]


def lent(world: World) -> tuple[int, Hand, Lease]:
    """A job that runs at a worker of a."""
    job = world["c"].submit("sleep")
    worker = world["a"].worker(cores=1)
    world.run(1)
    (lease,) = worker.tasks
    return job, worker, lease.of_owner()


def test_a_peer_says_nothing_of_the_jobs_of_another_ones_workers(world: World) -> None:
    """Not that they are lost, nor what they have saved or written; under their number at their home, or its own."""
    job, worker, lease = lent(world)
    evil, owner = evil_of(world), world["c"]
    tails = owner.machines.tails
    tails.follow(lease)
    offer = Offer(worker=worker.row, name="w", host="h", total=ONE, free=ONE)
    said = WorkerReport(
        worker=worker.row, offer=offer, holds=(lease,), checkpoints=(Checkpoint(lease=lease, files=Manifest()),),
        tails=(Tail(lease=lease, stream="stdout", offset=0, data=b"forged"),),
    )  # fmt: skip
    for one in (said, msgspec.structs.replace(said, worker=9), WorkerReport(worker=worker.row, gone="it burned")):
        report(world, evil, one)
    worker.beat(tails=(Tail(lease=lease.on("c"), stream="stdout", offset=0, data=b"true"),))
    world.run(1)
    assert tails.read(lease, "stdout", 0, 100) == (0, b"true")
    assert owner.do(lambda tx: attempts.checkpoint(tx, job)) is None
    assert owner.outcomes(job) == ["runs"]
    assert worker.cancelled == []


def test_an_owner_orders_nothing_for_the_jobs_of_another_owner(make: Make) -> None:
    """Though both have jobs at the same worker, and the same numbers for them."""
    world = make("a", "c", "e")
    world.net.trust("a", "c")
    world.net.trust("a", "e")
    worker = world["a"].worker(cores=2)
    world["c"].submit("sleep")
    world.run(1)
    world["e"].submit("sleep")
    world.run(1)
    one, other = sorted(worker.tasks, key=lambda lease: lease.path)
    assert (one.path, other.path, one.of_owner()) == ("c", "e", other.of_owner())
    claimed = one.of_owner()
    orders = Orders(
        settled=(Settled(lease=claimed, verdict="accepted"),), cancel=((claimed, "stop"),), hand_back=(claimed,),
        retry=(claimed,), wanted=(claimed,),
    )  # fmt: skip
    evil = world.net._ways["e"]
    told = ReportAnswer(workers=(WorkerOrders(worker=worker.row, orders=orders),))
    evil.tell_far(("e", "a"), "far-orders", told)
    evil.tell_far(("c", "e", "a"), "far-orders", told)  # "c, which I reach, says so"
    world.run(1)
    assert worker.cancelled == [(other, "stop")]
    assert worker.handed_back == [other]
    assert set(worker.verdicts) <= {other}
    assert one in worker.tasks


def test_a_worker_writes_into_nobody_elses_output(make: Make) -> None:
    world = make("c")
    job = world["c"].submit("sleep")
    worker, spy = world["c"].worker(cores=1), world["c"].worker(cores=1)
    world.run(1)
    (lease,) = worker.tasks
    assert lease.job == job
    tails = world["c"].machines.tails
    tails.follow(lease)
    spy.beat(tails=(Tail(lease=lease, stream="stdout", offset=0, data=b"forged"),))
    world.run(1)
    assert tails.read(lease, "stdout", 0, 100) == (0, b"")
    worker.beat(tails=(Tail(lease=lease, stream="stdout", offset=0, data=b"true"),))
    world.run(1)
    assert tails.read(lease, "stdout", 0, 100) == (0, b"true")


MANY = {f"n{number}": 1 for number in range(MOST_OTHERS + 1)}
LONG = {"x" * (MAX_NAME + 1): 1}


@pytest.mark.parametrize(
    "offer",
    [
        Offer(worker=1, name="w", host="h", total=Amounts(cores=1, other=MANY), free=ONE),
        Offer(worker=1, name="w", host="h", total=ONE, free=Amounts(cores=1, other=MANY)),
        Offer(worker=1, name="w", host="h", total=Amounts(cores=1, other=LONG), free=ONE),
        Offer(worker=1, name="w", host="h", total=Amounts(cores=1, other={"x": -1}), free=ONE),
        Offer(worker=1, name="w", host="h", total=ONE, free=ONE, programs=(Program(name="x" * 501, version="1"),)),
        Offer(worker=1, name="w", host="h", total=ONE, free=ONE, programs=(Program(name="x", version="1" * 501),)),
        Offer(worker=1, name="w", host="h", total=Amounts(cores=1 << 21), free=ONE),
        Offer(worker=1, name="w", host="h", total=ONE, free=Amounts(cores=1, gpus=-1)),
    ],
)
def test_a_worker_that_cannot_be_is_given_nothing_and_kept_nowhere(world: World, offer: Offer) -> None:
    world["c"].submit("sleep")
    evil = evil_of(world)
    assert ask(world, evil, offer) == []
    report(world, evil, WorkerReport(worker=1, offer=offer, free=ONE, wants=True))
    assert world["c"].do(workers.borrowed) == []
    assert world["c"].queue.index.sessions == {}


@pytest.mark.parametrize("free", [Amounts(cores=4, other=MANY), Amounts(cores=4, memory=-1), Amounts(cores=-4)])
def test_room_that_cannot_be_is_none(world: World, free: Amounts) -> None:
    world["c"].submit("sleep", array=3)
    evil = evil_of(world)
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=4), free=ONE)
    (lease,) = ask(world, evil, offer)
    answer = report(world, evil, WorkerReport(worker=1, holds=(lease,), free=free, wants=True))
    assert [one.orders.tasks for one in answer.workers] == []
    (session,) = world["c"].queue.index.sessions.values()
    assert session.free == Amounts()


def test_a_report_that_names_more_than_there_can_be_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "MOST_HELD", 20)
    evil = evil_of(world)
    leases = [Lease((1 << 52) + number, 1, 1) for number in range(21)]
    said = [WorkerReport(worker=number + 1, holds=(lease,)) for number, lease in enumerate(leases)]
    with pytest.raises(TooLarge, match="names at most 20 leases"):
        report(world, evil, *said)
    report(world, evil, *said[:20])


def test_an_answer_says_so_much_and_the_rest_with_the_next(world: World) -> None:
    """Whoever names a hundred thousand leases that nobody gave it gets no answer that is many times as large."""
    world["c"].submit("sleep")
    evil = evil_of(world)
    offer = Offer(worker=1, name="w", host="h", total=ONE, free=ONE)
    (mine,) = ask(world, evil, offer)
    named = tuple(Lease(mine.job + 1 + number, 1, 1) for number in range(MOST_CANCELLED))
    said = [WorkerReport(worker=1, holds=(mine, *named)), WorkerReport(worker=2, holds=named)]
    (orders,) = report(world, evil, *said).workers
    assert (orders.worker, len(orders.orders.cancel)) == (1, MOST_CANCELLED)
    (orders,) = report(world, evil, said[1]).workers
    assert (orders.worker, len(orders.orders.cancel)) == (2, MOST_CANCELLED)
    assert world["c"].state(mine.job) is State.RUNNING


def test_what_is_named_is_looked_at_in_portions(world: World) -> None:
    """So that own workers have their turns in between."""
    held = tuple(Lease((1 << 52) + number, 1, 1) for number in range(portions.HELD * portions.PORTION // 2))
    parts = portions.portions(Report(number=1, workers=tuple(WorkerReport(worker=n, holds=held) for n in range(4))))
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    few = portions.portions(Report(number=1, workers=tuple(WorkerReport(worker=n, holds=held[:9]) for n in range(9))))
    assert [len(part) for part in few] == [9]
