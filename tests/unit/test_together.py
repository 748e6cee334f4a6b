"""Brief work of many in one pass through a thread: all of it done, all of it told, each with its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cpc.worker.together import Together


class ByHand:
    """A thread that works when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any], /) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.asked.append((work, done))
        return done

    def work(self) -> None:
        work, done = self.asked.pop()
        done.callback(work())


def told(asked: Deferred[Any], news: list[Any]) -> None:
    asked.addCallbacks(news.append, lambda failure: news.append(failure.type))


def test_what_is_asked_for_in_one_turn_is_done_in_one_pass() -> None:
    thread, news = ByHand(), list[Any]()
    together = Together(thread)
    for number in range(3):
        told(together(lambda number=number: number), news)  # type: ignore[misc]
    assert len(thread.asked) == 1
    thread.work()
    assert news == [0, 1, 2]
    assert thread.asked == []


def test_what_fails_fails_alone() -> None:
    def fail() -> None:
        raise OSError

    thread, news = ByHand(), list[Any]()
    together = Together(thread)
    told(together(fail), news)
    told(together(lambda: 1), news)
    thread.work()
    assert news == [OSError, 1]


@pytest.mark.parametrize("within", ["work", "answer"])
def test_what_comes_during_a_pass_is_done_too(within: str) -> None:
    thread, news = ByHand(), list[Any]()
    together = Together(thread)

    def ask(_: Any = None) -> None:
        told(together(lambda: "second"), news)

    first = together(ask if within == "work" else lambda: None)
    if within == "answer":
        first.addCallback(ask)
    while thread.asked:
        thread.work()
    assert news == ["second"]
