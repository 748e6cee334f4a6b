"""A watcher or waiter who has left ends the service's waiting, also when nothing happens any more."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock as FakeReactor

from cpc.server.results import Results


def waiting(reactor: FakeReactor, news: Deferred[None]) -> tuple[Deferred[bool], list[Any]]:
    none = cast(Any, None)
    results = Results(
        store=none, gate=none, queue=none, jobs=none, files=none, machines=none, timers=cast(Any, reactor), clock=none
    )
    found: list[Any] = []
    work = ensureDeferred(results._within(news, 5.0))
    work.addBoth(found.append)
    return work, found


def test_a_wait_tells_news_from_the_end_of_its_time() -> None:
    reactor = FakeReactor()
    news: Deferred[None] = Deferred()
    _, found = waiting(reactor, news)
    news.callback(None)
    _, late = waiting(reactor, Deferred())
    reactor.advance(5)
    assert (found, late) == ([True], [False])
    assert not reactor.getDelayedCalls()


def test_a_wait_that_is_stopped_from_outside_does_not_go_on() -> None:
    reactor = FakeReactor()
    work, found = waiting(reactor, Deferred())
    work.cancel()
    assert found[0].check(CancelledError)
    assert not reactor.getDelayedCalls()
