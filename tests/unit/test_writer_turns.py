"""Who waits for the writer: this server's own units come first, and each peer has its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, execute

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.queue.job import State
from cpc.server.federation.portions import HELD, PORTION, portions
from cpc.store.database import SQLite
from cpc.store.turns import GUESTS, MAX_BATCH, Turns
from cpc.wire.messages import Checkpoint, Result
from cpc.wire.peer_messages import Offer, Report, ReportAnswer, WorkerReport
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import House, World

__all__ = ["make"]

T = TypeVar("T")
_NONE = Result(lease=Lease(1, 1, 1), outcome=Outcome.OK).files


def test_own_units_come_first_and_one_guest_has_a_bounded_part_of_a_batch() -> None:
    turns: Turns[str] = Turns()
    for number in range(1000):
        turns.add(f"evil {number}", "evil", 100)
    turns.add("own")
    assert turns.take() == ["own", "evil 0", "evil 1"]
    assert turns.take() == ["evil 2", "evil 3"], "in their order"
    assert len(turns) == 996


def test_guests_take_turns_however_much_one_of_them_has() -> None:
    turns: Turns[str] = Turns()
    for _ in range(100):
        turns.add("evil", "evil", GUESTS)
    turns.add("good 1", "good", 1)
    turns.add("good 2", "good", 1)
    assert turns.take() == ["evil"]
    assert turns.take() == ["good 1", "evil"]
    assert turns.take() == ["good 2", "evil"]


def test_a_guest_is_not_kept_waiting_for_ever_by_our_own() -> None:
    turns: Turns[str] = Turns()
    for _ in range(3 * MAX_BATCH):
        turns.add("own")
    turns.add("guest", "peer", 10 * GUESTS)
    assert turns.take() == ["own"] * MAX_BATCH + ["guest"]
    assert len(turns.clear()) == 2 * MAX_BATCH
    assert turns.take() == []
    assert len(turns) == 0


def said(worker: int, results: int, checkpoints: int = 0, **fields: object) -> WorkerReport:
    first = worker << 40
    return WorkerReport(
        worker=worker,
        holds=tuple(Lease(first + number, 1, 1) for number in range(results + 5)),
        results=tuple(
            Result(lease=Lease(first + number, 1, 1), outcome=Outcome.OK, exit_code=0) for number in range(results)
        ),
        checkpoints=tuple(Checkpoint(lease=Lease(first + number, 1, 1), files=_NONE) for number in range(checkpoints)),
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    "workers",
    [
        [],
        [said(1, 0)],
        [said(1, 3, gone="away"), said(2, PORTION - 1), said(3, PORTION), said(4, 0)],
        [said(1, 3 * PORTION + 1, wants=True), said(2, 1), said(3, 50, 2 * PORTION, gone="away")],
        [said(number, 1) for number in range(1, 500)],
    ],
)
def test_a_report_in_portions_says_the_same_in_the_same_order(workers: list[WorkerReport]) -> None:
    found = portions(Report(number=1, workers=tuple(workers)))
    most = PORTION + 1 + (PORTION + 5) // HELD  # a worker is named with all that it holds in one of them
    assert all(sum(each.weight for each in portion) <= most for portion in found)
    parts = [each for portion in found for each in portion]
    assert [each.report.worker for each in parts if each.whole] == [one.worker for one in workers]
    for one in workers:
        mine = [each.report for each in parts if each.report.worker == one.worker]
        assert sum((each.results for each in mine), ()) == one.results
        assert sum((each.checkpoints for each in mine), ()) == one.checkpoints
        assert mine[-1].holds == one.holds
        assert (mine[-1].gone, mine[-1].wants) == (one.gone, one.wants)
        assert not any(each.gone or each.wants or each.holds for each in mine[:-1])
        before = [len(each.results) for each in mine if each.checkpoints][:-1]
        assert not any(before), "the checkpoint of an attempt does not come after its result"


class SlowDatabase:
    """The writer's thread of a server, on which each statement takes a millisecond of virtual time."""

    def __init__(self, world: World, house: House) -> None:
        self._reactor = world.reactor
        self._statements = 0
        writer = house.store.writer
        writer._threads = self
        assert isinstance(writer._database, SQLite)
        writer._database._db.set_trace_callback(self._count)

    def _count(self, _sql: str) -> None:
        self._statements += 1

    def run(self, call: Callable[[], T]) -> Deferred[T]:
        self._statements = 0
        outcome = execute(call)
        done: Deferred[T] = Deferred()
        self._reactor.callLater(self._statements / 1000, outcome.chainDeferred, done)
        return done


def full_report(number: int) -> Report:
    """As much as a report may say, and nothing of it true."""
    offer = Offer(worker=9, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    results = tuple(
        Result(lease=Lease((number << 40) + (each << 20), 1, 1), outcome=Outcome.OK, exit_code=0) for each in range(4000)
    )  # fmt: skip
    return Report(number=number, workers=(WorkerReport(worker=9, offer=offer, results=results),))


def test_a_peer_that_reports_without_end_holds_up_no_own_worker(make: Make) -> None:
    """Ten full reports at once: an own worker is answered after a portion of one of them, not after all."""
    world = make("c")
    house = world["c"]
    evil = world.net.server("e")
    world.net.trust("e", "c")
    worker = house.worker(cores=1)
    first = house.submit("sleep", array=30)
    world.run(1)
    SlowDatabase(world, house)

    def answered() -> float:
        """Seconds until the worker has its next job."""
        began, had = world.reactor.seconds(), tuple(worker.tasks)
        worker.finish()
        while tuple(worker.tasks) in ((), had):
            world.run(0.005)
        return world.reactor.seconds() - began

    alone = max(answered() for _ in range(5))
    flood = [
        ensureDeferred(evil.ask_far(("e", "c"), "report", full_report(number), ReportAnswer, 900.0))
        for number in range(1, 11)
    ]  # fmt: skip
    portion = 6 * PORTION / 1000  # a result that nobody knows costs five statements
    assert max(answered() for _ in range(10)) < 2 * (alone + portion)
    assert not any(answer.called for answer in flood), "there was more to be had of it"
    for answer in flood:
        (one,) = world.reactor.finish(answer, 900.0).workers
        assert len(one.orders.settled) == 4000
    assert house.state(first) is State.SUCCEEDED
