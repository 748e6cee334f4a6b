"""An allocation's life: what the batch system says, believes and forgets."""

from __future__ import annotations

import pytest

from cpc.core.resources import Amounts
from cpc.pools import learning
from cpc.pools.allocation import TABLE, Effect, Event, Reason, State, apply, orphan
from cpc.pools.facts import Learned
from tests.helpers.pools import NOW, allocation

PENDING = [state for state in State if state.pending]


def test_every_pair_is_in_the_table() -> None:
    assert set(TABLE) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize("state", State)
def test_what_has_ended_and_is_seen_again_is_cancelled(state: State) -> None:
    seen = (Event.SEEN_WAITING, Event.SEEN_RUNNING, Event.SEEN_AGAIN, Event.ACCEPTED, Event.DUPLICATE, Event.JOINED)
    for event in seen:
        after, effects = TABLE[State.ENDED, event]
        assert after is State.ORPHANED
        assert Effect.CANCEL in effects
    if state.live:
        assert TABLE[state, Event.SEEN_ENDED] == (State.ENDED, (Effect.CLOSE,))


@pytest.mark.parametrize("state", State)
def test_only_the_batch_system_ends_what_it_may_have(state: State) -> None:
    """Until it says so, an allocation counts against the limits; but for one of a pool that goes."""
    ends = {event for event in Event if TABLE[state, event][0] is State.ENDED}
    if state.live:
        assert ends <= {Event.REFUSED, Event.SEEN_ENDED, Event.MISSING, Event.FORGOTTEN}
        assert Event.FORGOTTEN in ends
    for event in ends:
        assert not state.live or Effect.CLOSE in TABLE[state, event][1]


@pytest.mark.parametrize("state", PENDING)
def test_whatever_has_not_started_can_be_cancelled_and_can_turn_out_to_run(state: State) -> None:
    assert TABLE[state, Event.CANCELLED][0] is State.LEAVING
    for event in (Event.SEEN_RUNNING, Event.SEEN_AGAIN, Event.JOINED):
        assert TABLE[state, event] == (State.RUNNING, (Effect.START,))


def test_a_lost_answer_is_looked_for_and_never_asked_again_before_that_is_known() -> None:
    one, effects = apply(allocation(state=State.ASKED), Event.SILENT, NOW)
    assert (one.state, effects) == (State.UNSURE, (Effect.LOOK,))
    assert one.state.live
    found, _ = apply(one, Event.SEEN_WAITING, NOW)
    assert found.state is State.WAITING
    gone, effects = apply(one, Event.MISSING, NOW)
    assert (gone.state, gone.reason, effects) == (State.ENDED, Reason.REFUSED, (Effect.CLOSE,))


def test_an_answer_that_is_still_to_come_is_waited_for() -> None:
    assert TABLE[State.ASKED, Event.MISSING] == (State.ASKED, ())


def test_one_that_is_cancelled_before_the_answer_is_cancelled_when_it_comes() -> None:
    one, effects = apply(allocation(state=State.ASKED), Event.CANCELLED, NOW, words="no need")
    assert (one.state, effects) == (State.LEAVING, ())
    one, effects = apply(one, Event.ACCEPTED, NOW + 1)
    assert (one.state, effects) == (State.LEAVING, (Effect.CANCEL,))
    one, _ = apply(one, Event.SEEN_ENDED, NOW + 9, reason=Reason.REMOVED, words="CANCELLED by 0")
    assert (one.state, one.reason, one.words) == (State.ENDED, Reason.CANCELLED, "no need")


def test_an_accepted_one_that_the_batch_system_has_forgotten_has_vanished() -> None:
    one, effects = apply(allocation(state=State.SUBMITTED), Event.MISSING, NOW)
    assert (one.state, one.reason, effects) == (State.ENDED, Reason.VANISHED, (Effect.CLOSE,))


def test_its_walltime_runs_from_when_the_batch_system_started_it() -> None:
    one, effects = apply(allocation(), Event.SEEN_RUNNING, NOW, at=NOW - 20)
    assert effects == (Effect.START,)
    assert (one.started_at, one.ends_at) == (NOW - 20, NOW - 20 + one.walltime)
    ahead, _ = apply(allocation(), Event.SEEN_RUNNING, NOW, at=NOW + 500)  # its clock is wrong
    assert ahead.started_at == NOW


def test_a_restart_by_the_batch_system_begins_a_new_run() -> None:
    one = allocation(state=State.RUNNING, joined=1, joined_at=NOW - 10, used=True)
    again, effects = apply(one, Event.SEEN_AGAIN, NOW)
    assert effects == (Effect.RESTART, Effect.START)
    assert (again.restarts, again.joined, again.joined_at, again.used, again.started_at) == (1, 0, 0.0, False, NOW)
    waits, effects = apply(one, Event.SEEN_WAITING, NOW)
    assert (waits.state, waits.restarts, waits.started_at, effects) == (State.WAITING, 1, 0.0, (Effect.RESTART,))


def test_workers_are_counted_and_a_hello_after_the_end_is_of_an_orphan() -> None:
    one = allocation(state=State.RUNNING)
    for count in (1, 2):
        one, effects = apply(one, Event.JOINED, NOW + count)
        assert (one.joined, one.joined_at, effects) == (count, NOW + 1, ())
    left, effects = apply(one, Event.DISMISSED, NOW, words="idle")
    assert (left.state, left.reason, effects) == (State.LEAVING, Reason.LEFT, (Effect.TELL,))
    ended, _ = apply(left, Event.SEEN_ENDED, NOW + 5)
    back, effects = apply(ended, Event.JOINED, NOW + 6)
    assert (back.state, back.reason, set(effects)) == (State.ORPHANED, Reason.ORPHAN, {Effect.CANCEL, Effect.TELL})
    assert back.state.live


def test_what_comes_back_is_charged_from_then_on_and_not_twice() -> None:
    one = allocation(state=State.RUNNING, started_at=NOW - 3600, joined=1, used=True)
    one, _ = apply(one, Event.SEEN_ENDED, NOW, reason=Reason.LEFT)
    known = learning.ended(Learned(), one)
    one, _ = apply(one, Event.SEEN_RUNNING, NOW + 100, at=NOW - 3600)
    one, _ = apply(one, Event.SEEN_ENDED, NOW + 160)
    known = learning.ended(known, one)
    assert sum(amount for _, amount in known.spent) == pytest.approx(16 * (3600 + 60))
    assert known.brief.count == 0
    waits, _ = apply(one, Event.SEEN_WAITING, NOW + 200)
    assert (waits.state, waits.started_at) == (State.ORPHANED, 0.0)


def test_one_without_a_worker_is_cancelled_and_says_so() -> None:
    one, effects = apply(allocation(state=State.RUNNING), Event.OVERDUE, NOW)
    assert (one.state, one.reason, effects) == (State.LEAVING, Reason.UNJOINED, (Effect.CANCEL,))
    later, effects = apply(one, Event.OVERDUE, NOW + 900)
    assert (later.leaving_at, effects) == (NOW + 900, (Effect.CANCEL,))


def test_what_ends_by_itself_says_why() -> None:
    one = allocation(state=State.RUNNING)
    ended, _ = apply(one, Event.SEEN_ENDED, NOW, at=NOW - 5, reason=Reason.NODE, words="NODE_FAIL", ran_on=("n1",))
    assert (ended.reason, ended.words, ended.ended_at, ended.ran_on) == (Reason.NODE, "NODE_FAIL", NOW - 5, ("n1",))
    assert apply(one, Event.SEEN_ENDED, NOW, at=1.0)[0].ended_at == one.started_at  # never before its start
    assert apply(one, Event.SEEN_ENDED, NOW)[0].reason is Reason.FAILED


def test_an_unknown_one_with_our_token_is_an_orphan_from_the_start() -> None:
    one = orphan("t9", 1, NOW, Amounts(cores=8), nodes=2)
    assert (one.state, one.cores, one.reason) == (State.ORPHANED, 16, Reason.ORPHAN)
    assert apply(one, Event.MISSING, NOW)[0].state is State.ENDED
