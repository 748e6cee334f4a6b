"""Limits, budgets, back-off and nodes that are left out: a pool is never flooded, and never given up."""

from __future__ import annotations

from functools import reduce

import pytest
from msgspec.structs import replace

from cpc.core.resources import GIB, Amounts
from cpc.pools import learning, nodes
from cpc.pools.allocation import Reason, State
from cpc.pools.facts import DAY, HOUR, Learned, NodeRecord, Setback
from tests.helpers.pools import NOW, allocation, deciding, demand, pool, survey, worker

ENDED = {"state": State.ENDED, "started_at": NOW - 10, "ended_at": NOW, "joined": 1, "used": True}


def asked(*arguments: object, **fields: object) -> int:
    return len(deciding(*arguments, **fields).asks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "kind", "count"),
    [
        ({"max_allocations": 3}, "allocations", 3),
        ({"max_cores": 40}, "cores", 2),
        ({"backlog": 4}, "backlog", 4),
        ({"project_cores": 48}, "project", 3),
        ({"projects": {1: 16}}, "project", 1),
        ({"budget": 100.0}, "budget", 3),
    ],
)
def test_a_limit_is_never_exceeded_and_is_named(fields: dict[str, float], kind: str, count: int) -> None:
    decision = deciding([pool(**fields)], [demand(1000)])
    assert len(decision.asks) == count
    assert [note.kind for note in decision.notes] == [kind]


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_whatever_may_be_there_counts_against_the_limits(state: State) -> None:
    ones = [allocation(state=state, leaving_at=NOW, joined=1, used=True)]
    assert asked([pool(max_allocations=3)], [demand(1000)], ones) == 2
    assert asked([pool(max_cores=48)], [demand(1000)], ones) == 2
    assert asked([pool(budget=100.0)], [demand(1000)], ones) == 2


def test_no_limit_is_no_limit() -> None:
    assert asked([pool(max_allocations=0, backlog=1000)], [demand(16 * 500)]) == 500


# --- budget


def test_what_was_used_counts_for_a_day() -> None:
    known = learning.ended(Learned(), allocation(**{**ENDED, "started_at": NOW - 2 * HOUR}))
    assert sum(amount for _, amount in known.spent) == pytest.approx(16 * 2 * HOUR)
    assert learning.charge(known, [], NOW) == pytest.approx(32 * HOUR)
    assert learning.charge(known, [], NOW + DAY - 2 * HOUR - 1) == pytest.approx(32 * HOUR)
    assert learning.charge(known, [], NOW + DAY + HOUR) == 0
    assert learning.charge(known, [], NOW + DAY - HOUR, least=True) < 32 * HOUR
    assert asked([pool(budget=100.0)], [demand(1000)], learned={1: known}) == 2


def test_one_that_runs_is_charged_what_it_may_use_within_a_day_and_no_more() -> None:
    week = allocation(state=State.RUNNING, walltime=7 * DAY, started_at=NOW - 3 * DAY, joined=1, used=True)
    assert learning.charge(Learned(), [week], NOW) == 16 * DAY
    assert learning.spent(Learned(), [week], NOW) == 16 * DAY
    fresh = allocation(state=State.RUNNING, started_at=NOW - HOUR, joined=1)
    assert learning.charge(Learned(), [fresh], NOW) == 16 * 2 * HOUR
    assert learning.spent(Learned(), [fresh], NOW) == 16 * HOUR


def test_runs_before_a_restart_of_the_batch_system_are_charged_too() -> None:
    one = allocation(state=State.RUNNING, started_at=NOW - HOUR, joined=1)
    assert learning.spent(learning.ran(Learned(), one, NOW), [], NOW) == pytest.approx(16 * HOUR)


# --- back-off


def test_each_refusal_in_a_row_doubles_the_pause_up_to_an_hour() -> None:
    known, now, pauses = Learned(), NOW, []
    for _ in range(12):
        known = learning.refused(known, now, "Invalid qos")
        (until, _, _), *_ = learning.setbacks(known, [], now)
        pauses.append(until - now)
        now = until
    assert pauses[:4] == [30, 60, 120, 240]
    assert pauses[-1] == HOUR


def test_refusals_of_what_was_asked_for_at_the_same_time_are_one() -> None:
    known = reduce(lambda known, second: learning.refused(known, NOW + second, "full"), range(10), Learned())
    assert known.refused.count == 1


def test_a_pool_is_left_alone_tried_once_and_trusted_when_it_works() -> None:
    known = learning.refused(Learned(), NOW, "Invalid qos")
    decision = deciding([pool()], [demand(160)], learned={1: known}, now=NOW + 29)
    assert (decision.asks, decision.again_at) == ((), NOW + 30)
    assert "Invalid qos" in decision.notes[0].text
    assert asked([pool()], [demand(160)], learned={1: known}, now=NOW + 30) == 1
    probe = allocation(state=State.ASKED, asked_at=NOW + 30)
    assert asked([pool()], [demand(160)], [probe], learned={1: known}, now=NOW + 31) == 0
    assert asked([pool()], [demand(160)], [probe], learned={1: learning.accepted(known)}, now=NOW + 31) == 9


def test_another_pool_is_asked_meanwhile() -> None:
    known = learning.refused(Learned(), NOW, "Invalid qos")
    assert {ask.pool for ask in deciding([pool(1), pool(2)], [demand(160)], learned={1: known}).asks} == {2}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reason": Reason.FAILED}, "ended after 10 s"),
        ({"reason": Reason.PREEMPTED}, "ended after 10 s"),
        ({"reason": Reason.WALLTIME, "started_at": NOW - HOUR, "joined": 0}, "no worker of it joined"),
        ({"reason": Reason.LEFT, "started_at": NOW - HOUR, "joined": 0}, "no worker of it joined"),
        ({"reason": Reason.USELESS, "started_at": NOW - HOUR, "used": False}, "none of the jobs that waited"),
        ({"reason": Reason.VANISHED, "started_at": 0.0, "joined": 0}, "gone before it began"),
    ],
)
def test_an_allocation_that_was_of_no_use_is_a_setback(fields: dict[str, object], words: str) -> None:
    known = learning.ended(Learned(), allocation(**{**ENDED, **fields}))
    assert known.brief.count == 1
    assert words in known.brief.words


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": Reason.CANCELLED, "started_at": 0.0, "joined": 0},
        {"reason": Reason.ORPHAN},
        {"reason": Reason.REFUSED, "started_at": 0.0, "joined": 0},
        {"reason": Reason.LEFT},
        {"reason": Reason.LEFT, "started_at": NOW - HOUR, "used": False},
        {"reason": Reason.NODE, "started_at": NOW - HOUR},
    ],
)
def test_one_that_worked_or_was_not_wanted_any_more_is_none(fields: dict[str, object]) -> None:
    assert learning.ended(Learned(), allocation(**{**ENDED, **fields})).brief.count == 0


def test_after_ends_at_once_one_that_lasts_proves_that_it_is_over() -> None:
    known = Learned(brief=Setback(3, NOW - 500, "it ended after 2 s"))
    probe = allocation(state=State.RUNNING, asked_at=NOW - 100, started_at=NOW - 59, joined=1, used=True)
    busy = [worker(free=0)]
    assert asked([pool()], [demand(160)], [probe], busy, learned={1: known}) == 0
    assert asked([pool()], [demand(160)], [probe], busy, learned={1: known}, now=NOW + 2) == 9
    assert asked([pool()], [demand(160)], [replace(probe, used=False)], busy, learned={1: known}, now=NOW + 2) == 0
    ended = replace(probe, state=State.ENDED, ended_at=NOW + HOUR, reason=Reason.LEFT)
    assert learning.ended(known, ended).brief.count == 0


def test_a_change_by_a_person_is_a_fresh_start_except_for_the_budget() -> None:
    known = Learned(brief=Setback(9, NOW, "x"), spent=((1, 2.0),), programs=(), each=Amounts(cores=1))
    assert learning.reconfigured(known) == Learned(spent=((1, 2.0),))


# --- what is learned


def test_waits_and_joins_are_remembered_the_last_ones_count() -> None:
    known = Learned()
    for wait in range(1, 40):
        one = allocation(state=State.RUNNING, asked_at=NOW - 100 * wait - 30, started_at=NOW - 30, joined=1)
        known = learning.started(known, one)
        known = learning.joined(known, one, NOW, Amounts(cores=16, memory=GIB), (("b", "1"), ("a", "2")))
    assert learning.usual_wait(known) == pytest.approx(3150, abs=100)
    assert len(known.waits) == learning.KEPT
    assert learning.usual_join(known) == 30
    assert known.programs == (("a", "2"), ("b", "1"))
    restarted = allocation(state=State.RUNNING, restarts=1, started_at=NOW)
    assert learning.started(known, restarted) == known


def test_a_workers_patience_is_what_it_takes_to_replace_it() -> None:
    assert learning.patience(pool(), Learned()) == 60
    assert learning.patience(pool(), Learned(waits=(300.0,))) == 300
    assert learning.patience(pool(), Learned(waits=(HOUR,))) == 900
    assert learning.patience(pool(idle=5.0), Learned(waits=(HOUR,))) == 5
    shares = [learning.share(f"t{n}") for n in range(1000)]
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) / len(shares) == pytest.approx(0.58, abs=0.03)


# --- nodes


def failing(times: int, node: str = "n1", at: float = NOW) -> NodeRecord:
    return reduce(lambda one, n: nodes.failed(one, at + n, "SIGBUS"), range(times), NodeRecord(pool=1, node=node))


def test_a_node_is_left_out_after_three_failures_in_a_row() -> None:
    assert nodes.excluded(pool(), [failing(2)], NOW + 5) == ()
    assert [one.node for one in nodes.excluded(pool(), [failing(3)], NOW + 5)] == ["n1"]
    assert nodes.excluded(pool(2), [failing(3)], NOW + 5) == ()
    assert deciding([pool()], [demand()], nodes=[failing(3)], now=NOW + 5).asks[0].avoid == ("n1",)
    assert nodes.excluded(pool(), [nodes.failed(nodes.worked(failing(2)), NOW + 3, "again")], NOW + 5) == ()


def test_it_is_forgiven_and_left_out_for_longer_when_it_fails_again() -> None:
    bad = failing(3)
    assert nodes.until(bad) == NOW + 2 + HOUR
    assert nodes.excluded(pool(), [bad], NOW + HOUR + 3) == ()
    worse = nodes.failed(bad, NOW + HOUR + 9, "SIGBUS")
    assert nodes.until(worse) == NOW + HOUR + 9 + 2 * HOUR
    assert nodes.until(failing(40)) == NOW + 39 + DAY


def test_never_are_all_nodes_left_out() -> None:
    bad = [failing(3, f"n{n:02}", NOW + n) for n in range(40)]
    assert len(nodes.excluded(pool(), bad, NOW + 60)) == nodes.MOST
    assert [one.node for one in nodes.excluded(pool(known_nodes=8), bad, NOW + 60)] == ["n38", "n39"]
    assert nodes.excluded(pool(known_nodes=1), bad, NOW + 60) == ()
    assert nodes.excluded(pool(known_nodes=4, nodes=4), bad, NOW + 60) == ()


def test_the_survey_knows_them_by_pool() -> None:
    found = survey([pool(1), pool(2)], nodes=[failing(3)], now=NOW + 5).excluded
    assert [len(found[1]), len(found[2])] == [1, 0]
