"""Whoever waits for a job's end is told of that end, once it is committed, and of no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred

from cpc.server.ends import Ends
from cpc.store.transaction import Tx

ARRAY = 57 << 20


class Unit:
    """As much of a transaction as is needed; `commit` does what waits for it."""

    def __init__(self) -> None:
        self.effects: list[Callable[[], Any]] = []

    def after(self, effect: Callable[[], Any]) -> None:
        self.effects.append(effect)

    def commit(self) -> None:
        for effect in self.effects:
            effect()


def told(waiter: Deferred[None]) -> bool:
    return waiter.called


def happened(ends: Ends, jobs: list[int] | None, over: bool) -> None:
    unit = Unit()
    ends.happened(cast(Tx, unit), ARRAY, jobs, over)
    unit.commit()


def test_an_end_is_told_after_its_commit_not_before() -> None:
    ends = Ends()
    waiter = ends.next(ARRAY, ARRAY + 3)
    unit = Unit()
    ends.happened(cast(Tx, unit), ARRAY, [ARRAY + 3], over=False)
    assert not told(waiter)
    unit.commit()
    assert told(waiter)


def test_who_waits_for_one_job_hears_nothing_of_the_others() -> None:
    ends = Ends()
    first, third = ends.next(ARRAY, ARRAY), ends.next(ARRAY, ARRAY + 3)
    happened(ends, [ARRAY + 1, ARRAY + 3], over=False)
    assert not told(first)
    assert told(third)


def test_who_waits_for_an_array_is_told_when_all_of_it_is_over() -> None:
    ends = Ends()
    whole = ends.next(ARRAY)
    happened(ends, [ARRAY, ARRAY + 1], over=False)
    assert not told(whole)
    happened(ends, [ARRAY + 2], over=True)
    assert told(whole)


@pytest.mark.parametrize("over", [True, False])
def test_the_end_of_a_range_is_told_to_everybody_who_waits_for_one_of_its_jobs(over: bool) -> None:
    ends = Ends()
    one, another, whole = ends.next(ARRAY, ARRAY), ends.next(ARRAY, ARRAY + 9), ends.next(ARRAY)
    happened(ends, None, over)
    assert told(one)
    assert told(another)
    assert told(whole) is over


def test_who_waits_no_more_is_forgotten() -> None:
    ends = Ends()
    given_up, other = ends.next(ARRAY, ARRAY), ends.next(ARRAY, ARRAY)
    given_up.addErrback(lambda failure: failure.trap(CancelledError) and None)
    given_up.cancel()
    happened(ends, [ARRAY], over=False)
    assert told(other)
    assert not ends._waiting
