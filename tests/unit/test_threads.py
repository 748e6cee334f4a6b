"""Work in threads comes back on the reactor, in order, whatever it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import CancelledError

from cpc.core.threads import Threads


class Reactor:
    """Runs in the test's own thread what other threads ask for."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.soon: list[Callable[..., Any]] = []
        self.later: list[Callable[..., Any]] = []

    def callFromThread(self, callable: Callable[..., Any]) -> None:
        self.asked.put(callable)

    def callLater(self, delay: float, callable: Callable[..., Any]) -> None:
        (self.later if delay else self.soon).append(callable)

    def end_turn(self) -> None:
        """What was to come after all else of this turn comes now."""
        calls, self.soon = self.soon, []
        for call in calls:
            call()

    def turn(self) -> None:
        self.end_turn()
        self.asked.get(timeout=10)()

    def time_passes(self) -> None:
        """All that was to be called later is."""
        calls, self.later = self.later, []
        for call in calls:
            call()


def test_values_and_errors_come_back_on_the_reactor_in_order() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test")
    told: list[tuple[Any, int]] = []

    def tell(value: Any) -> None:
        told.append((value, threading.get_ident()))

    threads.run(lambda: 1).addCallback(tell)
    threads.run(lambda: 1 // 0).addErrback(lambda failure: tell(failure.type))
    threads.run(threading.get_ident).addCallback(lambda ident: tell(ident != threading.get_ident()))
    while len(told) < 3:
        reactor.turn()
    assert [value for value, _ in told] == [1, ZeroDivisionError, True]
    assert {ident for _, ident in told} == {threading.get_ident()}
    threads.stop()


def test_what_is_done_while_the_reactor_is_busy_wakes_it_once() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test")
    answers = [threads.run(lambda: None) for _ in range(100)]
    threads.stop()
    assert reactor.asked.qsize() == 1
    reactor.turn()
    assert all(answer.called for answer in answers)


def test_a_thread_begins_when_the_reactor_has_done_what_it_was_at() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test")
    begun: list[int] = []
    for number in range(3):
        threads.run(lambda number=number: begun.append(number))  # type: ignore[misc]
    assert (begun, len(reactor.soon)) == ([], 1)
    while len(begun) < 3:
        reactor.turn()
    assert begun == [0, 1, 2]
    threads.stop()


def test_what_is_cancelled_is_not_answered() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test")
    told: list[object] = []
    answer = threads.run(lambda: 1)
    answer.addCallbacks(told.append, lambda failure: told.append(failure.type))
    answer.cancel()
    threads.stop()
    reactor.turn()
    assert told == [CancelledError]


def test_several_threads_lose_no_answer() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test", 4)
    done: list[int] = []
    for number in range(2000):
        threads.run(lambda number=number: number).addCallback(done.append)  # type: ignore[misc]
    while len(done) < 2000:
        reactor.turn()
    assert sorted(done) == list(range(2000))
    threads.stop()


def test_what_waits_behind_a_long_call_gets_a_thread_of_its_own() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test", 3)
    begun, end = threading.Event(), threading.Event()
    told: list[str] = []

    def long() -> None:
        begun.set()
        end.wait(10)

    threads.run(long).addCallback(lambda _: told.append("long"))
    reactor.end_turn()
    assert begun.wait(10)
    for name in ("one", "two"):
        threads.run(lambda name=name: name).addCallback(told.append)  # type: ignore[misc]
    reactor.end_turn()
    reactor.time_passes()
    while len(told) < 2:
        reactor.turn()
    assert told == ["one", "two"]
    end.set()
    reactor.turn()
    assert told == ["one", "two", "long"]
    threads.stop()


def test_one_thread_does_what_is_brief_and_the_others_sleep() -> None:
    reactor = Reactor()
    threads = Threads(reactor, "test", 3)
    who: set[int] = set()
    done: list[None] = []
    for _ in range(500):
        threads.run(lambda: who.add(threading.get_ident())).addCallback(done.append)
    while len(done) < 500:
        reactor.turn()
    assert len(who) == 1
    threads.stop()
