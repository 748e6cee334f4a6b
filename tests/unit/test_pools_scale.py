"""What pools are asked for: enough, never too much, where it starts soonest and costs least."""

from __future__ import annotations

import pytest

from cpc.core.resources import GIB, Amounts
from cpc.pools.allocation import Reason, State
from cpc.pools.facts import HOUR, Learned, Setback
from tests.helpers.pools import NOW, allocation, deciding, demand, pool, worker

KNOWN = Learned(waits=(60.0,), joins=(30.0,), programs=(("mdrun", "2024.1"),))


def counts(*arguments: object, **fields: object) -> dict[int, int]:
    """How many allocations each pool is asked for."""
    found: dict[int, int] = {}
    for ask in deciding(*arguments, **fields).asks:  # type: ignore[arg-type]
        found[ask.pool] = found.get(ask.pool, 0) + 1
    return found


def test_nothing_waits_nothing_is_asked_for() -> None:
    assert deciding([pool()]).asks == ()
    assert deciding([pool()], [demand(count=0)]).asks == ()


@pytest.mark.parametrize(("count", "cores", "asked"), [(1, 1, 1), (16, 1, 1), (17, 1, 2), (5, 8, 3), (4, 16, 4)])
def test_as_many_as_the_jobs_fill(count: int, cores: int, asked: int) -> None:
    assert counts([pool()], [demand(count, cores)]) == {1: asked}


def test_classes_share_nodes() -> None:
    assert counts([pool()], [demand(8), demand(1, cores=8, project=2)]) == {1: 1}


@pytest.mark.parametrize(
    "wanted",
    [
        demand(cores=17),
        demand(need=Amounts(cores=1, gpus=1)),
        demand(need=Amounts(cores=1, other={"licence": 1})),
        demand(labels=("big",)),
        demand(program="namd"),
        demand(program="mdrun", versions=">=2025"),
        demand(walltime=3 * HOUR),
        demand(need=Amounts(cores=1, memory=65 * GIB)),
    ],
    ids=["cores", "gpus", "other", "labels", "program", "version", "walltime", "memory"],
)
def test_no_worker_is_started_that_no_waiting_job_fits(wanted: object) -> None:
    known = Learned(programs=KNOWN.programs, each=Amounts(cores=16, memory=64 * GIB))
    decision = deciding([pool()], [wanted], learned={1: known})  # type: ignore[list-item]
    assert decision.asks == ()
    assert [note.kind for note in decision.notes] == ["unfit"]


def test_a_long_job_that_keeps_checkpoints_is_worth_an_allocation() -> None:
    assert counts([pool()], [demand(walltime=9 * HOUR, checkpoints=True)]) == {1: 1}


def test_of_what_nobody_knows_one_is_tried() -> None:
    wanted = [demand(100, cores=16, program="mdrun")]
    assert counts([pool()], wanted) == {1: 1}
    assert counts([pool()], wanted, [allocation()]) == {}
    assert counts([pool()], wanted, [allocation()], learned={1: KNOWN}) == {1: 9}  # the backlog is 10
    assert counts([pool(programs=(("mdrun", "2024.1"),))], wanted) == {1: 10}


def test_what_its_workers_say_counts_more_than_what_a_person_said() -> None:
    declared = pool(programs=(("namd", "3"),))
    assert counts([declared], [demand(program="namd")], learned={1: KNOWN}) == {}


def test_a_worker_with_less_than_was_asked_for_is_believed() -> None:
    known = Learned(programs=(), each=Amounts(cores=8, memory=GIB))
    assert counts([pool()], [demand(4, cores=8)], learned={1: known}) == {1: 4}
    assert counts([pool()], [demand(cores=16)], learned={1: known}) == {}


def test_what_is_on_its_way_is_counted() -> None:
    one = allocation()
    decision = deciding([pool()], [demand(16)], [one])
    assert decision.asks == ()
    assert decision.needed == {"t1"}
    assert counts([pool()], [demand(17)], [one]) == {1: 1}


@pytest.mark.parametrize("state", [State.ASKED, State.UNSURE, State.SUBMITTED, State.WAITING, State.RUNNING])
def test_it_counts_from_the_ask_to_the_hello(state: State) -> None:
    assert counts([pool()], [demand(16)], [allocation(state=state)]) == {}


@pytest.mark.parametrize("state", [State.LEAVING, State.ORPHANED])
def test_what_is_about_to_end_is_no_capacity(state: State) -> None:
    assert counts([pool()], [demand(16)], [allocation(state=state, leaving_at=NOW)]) == {1: 1}


def test_free_room_is_counted() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    assert counts([pool()], [demand(4)], [one], [worker(free=4)]) == {}
    assert counts([pool()], [demand(5)], [one], [worker(free=4)]) == {1: 1}


def test_a_running_one_counts_only_for_what_it_can_finish_or_keep() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    soon_over = worker(deadline=NOW + 600)
    assert counts([pool()], [demand(walltime=3600)], [one], [soon_over]) == {1: 1}
    assert counts([pool()], [demand(walltime=500)], [one], [soon_over]) == {}
    assert counts([pool()], [demand(walltime=3600, checkpoints=True)], [one], [soon_over]) == {}


def test_room_that_jobs_do_not_get_is_not_believed_for_ever() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    assert counts([pool()], [demand(4, waited=3000.0)], [one], [worker(free=4)]) == {1: 1}
    assert counts([pool()], [demand(4)], [one], [worker(idle_since=NOW - 300)]) == {1: 1}


def test_brief_jobs_are_left_to_workers_that_will_have_done_them() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    known = {1: KNOWN}
    assert counts([pool()], [demand(200, seconds=10.0)], [one], [worker(free=0)], learned=known) == {}
    assert counts([pool()], [demand(20_000, seconds=10.0)], [one], [worker(free=0)], learned=known)[1] > 5
    assert counts([pool()], [demand(200, seconds=3600.0)], [one], [worker(free=0)], learned=known)[1] == 9


def test_brief_jobs_get_no_more_workers_than_are_worth_their_start() -> None:
    assert counts([pool()], [demand(1000, seconds=10.0)], learned={1: KNOWN}) == {1: 1}
    assert counts([pool()], [demand(1, seconds=1.0)], learned={1: KNOWN}) == {1: 1}


def test_workers_that_somebody_started_count_too() -> None:
    assert counts([pool()], [demand(4)], [], [worker(token="", deadline=0.0)]) == {}


def test_workers_of_other_projects_and_draining_ones_do_not() -> None:
    assert counts([pool()], [demand(4)], [], [worker(token="", project=2)]) == {1: 1}
    assert counts([pool()], [demand(4)], [], [worker(token="", draining=True)]) == {1: 1}


# --- which pool


def test_the_one_that_starts_much_sooner_is_asked_first() -> None:
    slow, quick = Learned(waits=(7200.0,)), Learned(waits=(60.0,))
    both = [pool(1), pool(2, price=9.0)]
    assert counts(both, [demand(16)], learned={1: slow, 2: quick}) == {2: 1}


def test_of_those_that_start_as_soon_the_cheaper_one() -> None:
    waits = {1: Learned(waits=(100.0,)), 2: Learned(waits=(200.0,))}
    assert counts([pool(1, price=2.0), pool(2, price=1.0)], [demand(16)], learned=waits) == {2: 1}


def test_the_one_whose_nodes_are_no_larger_than_needed() -> None:
    large = pool(1, each=Amounts(cores=64))
    assert counts([large, pool(2)], [demand(1)]) == {2: 1}
    assert counts([large, pool(2)], [demand(1, cores=32)]) == {1: 1}


def test_what_the_first_may_not_take_goes_to_the_next() -> None:
    both = [pool(1, max_allocations=2), pool(2, price=1.0, max_allocations=1)]
    assert counts(both, [demand(100)]) == {1: 2, 2: 1}


def test_a_wait_that_goes_on_counts_as_long_as_it_is() -> None:
    waits = [allocation("t1", 1, asked_at=NOW - 7200)]
    assert counts([pool(1), pool(2)], [demand(32)], waits) == {2: 2}


def test_for_what_is_late_another_pool_is_asked_and_the_place_in_the_queue_is_kept() -> None:
    late = allocation("t1", 1, asked_at=NOW - 7200, needed_at=NOW - 5)
    decision = deciding([pool(1), pool(2)], [demand(16)], [late])
    assert [ask.pool for ask in decision.asks] == [2]
    assert decision.needed == {"t1"}
    alone = deciding([pool(1)], [demand(16)], [late])
    assert (alone.asks, alone.needed) == ((), {"t1"})


# --- direct, several nodes, projects


def test_a_direct_pool_is_asked_for_just_what_the_job_needs() -> None:
    wanted = demand(3, walltime=1800.0, need=Amounts(cores=2, memory=GIB), max_cores=4)
    asks = deciding([pool(direct=True)], [wanted]).asks
    assert len(asks) == 3
    assert (asks[0].nodes, asks[0].each, asks[0].direct) == (1, Amounts(cores=4, memory=GIB), True)
    assert 1800 < asks[0].walltime < 2 * HOUR
    one = allocation(direct=True, each=Amounts(cores=4, memory=GIB))
    assert counts([pool(direct=True)], [wanted], [one]) == {1: 2}


def test_a_job_larger_than_a_node_needs_a_platform_that_spans_nodes() -> None:
    assert counts([pool(nodes=4)], [demand(cores=64)]) == {}
    assert counts([pool(nodes=4, platform="slurm")], [demand(2, cores=64)]) == {1: 2}
    assert counts([pool(nodes=4)], [demand(64)]) == {1: 1}


def test_workers_of_an_allocation_that_have_not_joined_yet_are_still_to_come() -> None:
    one = allocation(state=State.RUNNING, nodes=4, joined=1, used=True)
    assert counts([pool(nodes=4)], [demand(48)], [one], [worker(free=0)]) == {}
    assert counts([pool(nodes=4)], [demand(49)], [one], [worker(free=0)]) == {1: 1}


def test_with_limits_for_projects_each_allocation_is_for_one() -> None:
    limited = pool(project_cores=32, projects={7: 16})
    wanted = [demand(64), demand(64, project=7)]
    asks = deciding([limited], wanted).asks
    assert sorted(ask.project for ask in asks) == [1, 1, 7]
    mine = [allocation("t1", project=7, state=State.RUNNING, joined=1, used=True)]
    assert {ask.project for ask in deciding([limited], wanted, mine, [worker(free=0, project=7)]).asks} == {1}


# --- what goes


def test_what_nothing_waits_for_is_cancelled_after_a_while() -> None:
    fresh = allocation(needed_at=NOW - 10)
    decision = deciding([pool()], [], [fresh])
    assert decision.cancels == ()
    assert decision.again_at == NOW + 50
    assert [stop.token for stop in deciding([pool()], [], [fresh], now=NOW + 50).cancels] == ["t1"]


def test_the_latest_are_the_ones_that_nothing_waits_for() -> None:
    early, late = allocation("early", asked_at=NOW - 500), allocation("late", asked_at=NOW - 400)
    decision = deciding([pool()], [demand(16)], [late, early])
    assert decision.needed == {"early"}


def test_an_idle_worker_leaves_after_the_idle_time_at_most() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    busy = {1: Learned(waits=(7200.0,))}
    idle = worker(idle_since=NOW - 890)
    assert deciding([pool()], [], [one], [idle], learned=busy).leaves == ()
    (stop,) = deciding([pool()], [], [one], [idle], learned=busy, now=NOW + 11).leaves
    assert (stop.token, stop.reason) == ("t1", Reason.LEFT)


def test_where_another_one_is_had_at_once_it_leaves_sooner() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    idle = worker(idle_since=NOW - 65)
    assert deciding([pool()], [], [one], [idle], learned={1: Learned(waits=(5.0,))}).leaves
    assert not deciding([pool(idle_least=900.0)], [], [one], [idle], learned={1: Learned(waits=(5.0,))}).leaves


def test_of_several_idle_ones_the_first_go_sooner_and_the_last_stays() -> None:
    ones = [allocation(f"t{n}", state=State.RUNNING, joined=1, used=True) for n in range(20)]
    idle = [worker(f"t{n}", idle_since=NOW - 450 + n / 100, number=n) for n in range(20)]
    gone = {
        stop.token
        for stop in deciding([pool(max_allocations=0)], [], ones, idle, learned={1: Learned(waits=(7200.0,))}).leaves
    }
    assert 5 <= len(gone) <= 18
    assert "t19" not in gone


def test_a_worker_that_got_no_job_goes_soon_and_is_useless_only_if_one_waited_for_it() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=False)
    idle = worker(idle_since=NOW - 61)
    slow = {1: Learned(waits=(7200.0,))}
    (stop,) = deciding([pool()], [], [one], [idle], learned=slow).leaves
    assert stop.reason is Reason.LEFT
    (stop,) = deciding([pool()], [demand(waited=61.0)], [one], [idle], learned=slow).leaves
    assert stop.reason is Reason.USELESS
    for other in (demand(waited=2.0), demand(cores=17, waited=61.0), demand(walltime=5 * HOUR, waited=61.0)):
        assert deciding([pool()], [other], [one], [idle], learned=slow).leaves[0].reason is Reason.LEFT


def test_an_allocation_leaves_when_the_last_of_its_workers_has_nothing_to_do() -> None:
    one = allocation(state=State.RUNNING, nodes=2, joined=2, used=True)
    idle = worker(idle_since=NOW - 1000)
    assert deciding([pool(nodes=2)], [], [one], [idle, worker(free=3)]).leaves == ()
    assert deciding([pool(nodes=2)], [], [one], [idle, idle]).leaves


def test_an_idle_worker_makes_room_for_what_waits_in_vain() -> None:
    one = allocation(state=State.RUNNING, joined=1, used=True)
    full = pool(max_allocations=1)
    known = {1: Learned(waits=(7200.0,))}
    ending = worker(deadline=NOW + 600, idle_since=NOW - 31)
    (stop,) = deciding([full], [demand(walltime=3600)], [one], [ending], learned=known).leaves
    assert "needs its room" in stop.why
    assert deciding([full], [demand(walltime=300)], [one], [ending], learned=known).leaves == ()
    assert deciding([pool()], [demand(walltime=3600)], [one], [ending], learned=known).leaves == ()


def test_one_without_a_worker_is_overdue() -> None:
    one = allocation(state=State.RUNNING, started_at=NOW - 601)
    (stop,) = deciding([pool()], [demand(16)], [one]).overdue
    assert (stop.token, stop.reason) == ("t1", Reason.UNJOINED)
    assert counts([pool()], [demand(16)], [one]) == {1: 1}


def test_what_changes_with_time_alone_is_looked_at_when_it_does() -> None:
    """Nothing happens in any of these: without `again_at` they would wait for ever."""
    partly = allocation(state=State.RUNNING, started_at=NOW - 590, nodes=2, joined=1, used=True)
    wanted = demand(16)
    first = deciding([pool(nodes=2)], [wanted], [partly], [worker(free=0)])
    assert (first.asks, first.again_at) == ((), NOW + 10)
    assert counts([pool(nodes=2)], [wanted], [partly], [worker(free=0)], now=first.again_at) == {1: 1}
    one = allocation(state=State.RUNNING, joined=1, used=True)
    first = deciding([pool()], [demand(4, waited=700.0)], [one], [worker(free=4)])
    assert (first.asks, first.again_at) == ((), NOW + 20)
    assert counts([pool()], [demand(4, waited=720.0)], [one], [worker(free=4)], now=first.again_at) == {1: 1}
    known = {1: Learned(brief=Setback(1, NOW - 100, "x"))}
    first = deciding([pool()], [demand(16)], [one], [worker(free=0)], learned=known)
    assert (first.asks, first.again_at) == ((), NOW + 30)
    assert counts([pool()], [demand(16)], [one], [worker(free=0)], learned=known, now=first.again_at) == {1: 1}
    waits = allocation(asked_at=NOW - 590)
    first = deciding([pool(1), pool(2)], [demand(16)], [waits])
    assert (first.asks, first.again_at) == ((), NOW + 10)
    assert counts([pool(1), pool(2)], [demand(16)], [waits], now=first.again_at) == {2: 1}


def test_one_whose_workers_are_all_gone_and_one_that_does_not_end_are_overdue() -> None:
    gone = allocation(
        "t1", state=State.RUNNING, started_at=NOW - 5000, joined=1, joined_at=NOW - 4000, alone_at=NOW - 601
    )
    stuck = allocation("t2", state=State.LEAVING, leaving_at=NOW - 601)
    assert {stop.token for stop in deciding([pool()], [], [gone, stuck]).overdue} == {"t1", "t2"}


def test_a_paused_pool_keeps_what_runs_and_nothing_else() -> None:
    runs = allocation("t1", state=State.RUNNING, joined=1, used=True)
    decision = deciding([pool(paused="new disks")], [demand(99)], [runs, allocation("t2")], [worker(free=0)])
    assert (decision.asks, [stop.token for stop in decision.cancels], decision.leaves) == ((), ["t2"], ())
    assert decision.notes[0].text == "pool1: it is paused: new disks"


def test_the_allocations_of_a_pool_that_is_no_more_go() -> None:
    runs = allocation("t1", state=State.RUNNING, joined=1, used=True)
    decision = deciding([], [demand(4)], [runs, allocation("t2")], [worker(free=0)])
    assert ([stop.token for stop in decision.leaves], [stop.token for stop in decision.cancels]) == (["t1"], ["t2"])


def test_what_is_beyond_a_lowered_limit_goes_if_it_has_not_started_the_latest_first() -> None:
    ones = [allocation(f"t{n}", asked_at=NOW - 100 + n) for n in range(4)]
    runs = allocation("r", state=State.RUNNING, joined=1, used=True)
    decision = deciding([pool(max_allocations=3)], [demand(500)], [*ones, runs], [worker("r", free=0)])
    assert [stop.token for stop in decision.cancels] == ["t3", "t2"]
    decision = deciding([pool(max_cores=32)], [demand(500)], [*ones, runs], [worker("r", free=0)])
    assert {stop.token for stop in decision.cancels} == {"t1", "t2", "t3"}


@pytest.mark.parametrize("used", [True, False])
def test_a_worker_for_one_job_is_not_counted_on_for_a_second_one(used: bool) -> None:
    direct = pool(direct=True, each=Amounts(cores=1))
    ones = [
        allocation(
            f"t{i}", state=State.RUNNING, direct=True, each=Amounts(cores=1), joined=1, joined_at=NOW - 20, used=True
        )
        for i in range(3)
    ]
    busy = [worker(f"t{i}", cores=1, free=0, number=i + 1, used=used) for i in range(3)]
    assert len(deciding([direct], [demand(20, seconds=60.0)], ones, busy).asks) == 7, "as many as it may have at once"
    idle = [worker(f"t{i}", cores=1, number=i + 1, used=used) for i in range(3)]
    wanted = deciding([direct], [demand(4, seconds=60.0)], ones, idle).asks
    assert len(wanted) == (4 if used else 1)


def test_an_allocation_with_a_worker_is_not_overdue_though_its_hello_came_before_its_new_run_was_seen() -> None:
    old = allocation(state=State.RUNNING, started_at=NOW - 700, restarts=1)
    assert [stop.token for stop in deciding([pool()], [], [old]).overdue] == ["t1"]
    assert deciding([pool()], [], [old], [worker(free=0)]).overdue == ()
