"""What workers are told: all of it, once, in messages that fit a frame."""

from __future__ import annotations

from twisted.internet.task import Clock as FakeReactor

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.server.outbox import PORTION, Outbox
from cpc.store.transaction import Tx
from cpc.wire import frames
from cpc.wire.messages import Orders, Task


class Committed:
    """A transaction whose effects happen at once."""

    def after(self, effect: object) -> None:
        effect()  # type: ignore[operator]


TX: Tx = Committed()  # type: ignore[assignment]


def task(number: int, argument: str = "") -> Task:
    return Task(lease=Lease(number, 1, 1), project=1, granted=Amounts(cores=1), argv=("true", argument))


def outbox() -> tuple[FakeReactor, Outbox, list[tuple[int, Orders]]]:
    reactor = FakeReactor()
    made = Outbox(reactor)  # type: ignore[arg-type]
    sent: list[tuple[int, Orders]] = []
    made.send = lambda session, orders: sent.append((session, orders))
    return reactor, made, sent


def test_all_that_happened_in_a_turn_is_one_message_per_session() -> None:
    reactor, box, sent = outbox()
    box.tasks(TX, 1, [task(1)])
    box.tasks(TX, 1, [task(2)])
    box.cancel(TX, 1, Lease(9, 1, 1), "why")
    box.tasks(TX, 2, [task(3)])
    reactor.advance(0)
    assert [(session, len(orders.tasks), len(orders.cancel)) for session, orders in sent] == [(1, 2, 1), (2, 1, 0)]


def test_large_tasks_go_in_several_messages_that_fit_a_frame() -> None:
    reactor, box, sent = outbox()
    for number in range(1, 21):
        box.tasks(TX, 1, [task(number, "x" * 900_000)])
    first = box.take(1)
    for _ in range(40):
        reactor.advance(0)
    orders = [first, *(one for _, one in sent)]
    assert [one.lease.job for each in orders for one in each.tasks] == list(range(1, 21))
    assert all(len(frames.body(each)) < 8 << 20 for each in orders)
    assert len(orders) > 1


def test_what_is_for_a_session_that_is_over_is_not_kept() -> None:
    reactor, box, sent = outbox()
    box.tasks(TX, 1, [task(1)])
    box.forget(1)
    reactor.advance(0)
    assert sent == []
    assert PORTION * 4 < 8 << 20


def test_who_listens_hears_after_the_commit_and_the_others_at_the_end_of_the_turn() -> None:
    reactor, box, sent = outbox()
    box.listens = lambda session: session == 2
    for session in (1, 2, 3):
        box.tasks(TX, session, [task(session)])
    box.hurry()
    assert [session for session, _ in sent] == [2]
    answer = box.take(1)  # the answer to its turn takes its tasks along
    assert [one.lease.job for one in answer.tasks] == [1]
    reactor.advance(0)
    assert [(session, [one.lease.job for one in orders.tasks]) for session, orders in sent] == [(2, [2]), (3, [3])]
