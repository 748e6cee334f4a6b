"""Pools are asked for what waits, and whatever happens to the server or its batch system, nothing is lost or left behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cpc.api.scheduler import Unsettled
from cpc.core.allocation import SeenOutcome, SeenState, Wanted
from cpc.core.errors import Unavailable
from cpc.core.resources import Amounts
from cpc.pools.allocation import Reason, State
from cpc.queue.job import State as JobState
from cpc.queue.requirement import profile
from cpc.queue.session import Session
from cpc.server.pools import demand
from cpc.server.principal import SERVER
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_nothing_is_asked_where_nothing_waits(world: PoolWorld) -> None:
    world.pool()
    world.advance(600.0)
    assert "submit" not in world.system.calls


def test_without_pools_no_timer_is_set(world: PoolWorld) -> None:
    world.submit(3)
    world.advance(10.0)
    assert [call for call in world.reactor.getDelayedCalls() if call.owner is world.host] == []


def test_an_empty_pool_grows_to_its_limit_and_shrinks_to_zero(world: PoolWorld) -> None:
    world.pool()
    world.submit(40)
    world.until(lambda: len(world.workers) == 3)
    world.settle()
    assert len(world.rows()) <= 4
    assert {row.facts.reason for row in world.rows()} == {Reason.LEFT}
    assert all(row.facts.used and row.facts.joined == 1 for row in world.rows())
    assert world.events("allocation.asked") == world.events("allocation.ended") == len(world.rows())


def test_what_is_asked_is_on_disk_before_the_batch_system_hears_of_it(world: PoolWorld) -> None:
    world.pool()
    seen: list[State] = []
    take = world.system.take

    def watched(wanted: Wanted) -> str:
        row = world.happening.book.live[wanted.token]
        seen.append(row.facts.state)
        assert {one.token for one in world.rows()} >= {wanted.token}
        return take(wanted)

    world.system.take = watched  # type: ignore[method-assign]
    world.submit()
    world.settle()
    assert set(seen) == {State.ASKED}


@pytest.mark.parametrize("what", ["silent", "rubbish"])
def test_a_lost_answer_is_settled_by_the_token(world: PoolWorld, what: str) -> None:
    world.pool()
    world.system.trouble.append(("submit", what))
    world.submit(4)
    world.settle()
    assert all(
        len([one for one in world.system.entries.values() if one.wanted.token == row.token]) == 1
        for row in world.rows()
    )
    assert world.rows()[0].facts.reason is Reason.LEFT, "the one whose answer was lost has worked"
    assert world.turned_away == 0


def test_a_submission_that_never_arrived_is_given_up_and_another_is_made(world: PoolWorld) -> None:
    world.pool()
    world.system.trouble.append(("submit", "lost"))
    world.submit(4)
    world.settle()
    first = world.rows()[0]
    assert first.facts.reason is Reason.REFUSED
    assert first.facts.words == "the submission got lost"
    assert first.native == ""


@pytest.mark.parametrize("what", ["no", "limit", "down"])
def test_a_refusal_is_kept_in_words_and_the_pool_is_left_alone_for_a_while(world: PoolWorld, what: str) -> None:
    world.pool(max_allocations=1)
    world.system.trouble.append(("submit", what))
    world.submit(2)
    world.until(lambda: world.rows() and world.rows()[0].facts.state is State.ENDED)
    assert world.rows()[0].facts.reason is Reason.REFUSED
    assert world.finish(world.pools.get(SERVER, "hpc")).state in ("backing-off", "unreachable")
    calls = world.system.calls.count("submit")
    world.advance(20.0)
    assert world.system.calls.count("submit") == calls
    world.settle()


MOMENTS = ("asked", "taken", "answered", "waiting", "running", "joined", "working", "leaving")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_that_is_killed_at_any_moment_finds_everything_again(world: PoolWorld, moment: str) -> None:
    world.pool(max_allocations=2, idle=30.0)
    if moment == "taken":
        world.system.take = _killing(world, world.system.take, after=True)  # type: ignore[method-assign]
    if moment == "asked":
        world.system.take = _killing(world, world.system.take, after=False)  # type: ignore[method-assign]
    world.submit(12)
    seen = {
        "answered": lambda: any(row.native for row in world.alive()),
        "waiting": lambda: any(row.facts.state is State.WAITING for row in world.alive()),
        "running": lambda: any(row.facts.state is State.RUNNING for row in world.alive()),
        "joined": lambda: any(row.facts.joined for row in world.alive()),
        "working": lambda: world.unfinished() < 8,
        "leaving": lambda: any(row.facts.state is State.LEAVING for row in world.alive()),
    }.get(moment)
    if seen is not None:
        world.until(seen)
        world.kill()
    else:
        world.until(lambda: not world.live)
    world.advance(7.0)
    world.start()
    world.settle()
    tokens = [one.wanted.token for one in world.system.entries.values()]
    assert len(tokens) == len(set(tokens)), "nothing was asked for twice under one token"
    assert set(tokens) <= {row.token for row in world.rows()}


def _killing(world: PoolWorld, take: Callable[[Wanted], str], after: bool) -> Callable[[Wanted], str]:
    def killed(wanted: Wanted) -> str:
        world.system.take = take  # type: ignore[method-assign]
        native = take(wanted) if after else ""
        world.kill()
        raise Unavailable("nobody hears this any more") if not after else _Gone(native)

    return killed


class _Gone(Exception):
    """The process that would have heard the answer is dead."""


def test_what_a_lost_life_has_asked_for_is_cancelled(world: PoolWorld) -> None:
    world.pool()
    prefix = world.happening.prefix(next(iter(world.keeper.book.pools)))
    world.submit(1)
    world.until(lambda: world.workers)
    entry = next(iter(world.system.entries.values()))
    world.system.take(replace(entry.wanted, token=f"{prefix}9r999"))
    stranger = world.system.take(replace(entry.wanted, token="somebody-else"))
    world.keeper.hands[next(iter(world.keeper.hands))].look(search=True)
    world.until(lambda: world.unfinished() == 0)
    world.until(lambda: not world.alive())
    assert world.system.entries["2"].outcome is SeenOutcome.CANCELLED
    assert world.system.entries[stranger].outcome is not SeenOutcome.CANCELLED, "it is not ours"
    assert world.events("allocation.orphaned") == 1


def test_a_second_one_with_the_same_token_is_cancelled(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: world.workers)
    entry = next(iter(world.system.entries.values()))
    second = world.system.take(entry.wanted)
    world.keeper.hands[next(iter(world.keeper.hands))].look(search=True)
    world.until(lambda: world.system.entries[second].state is SeenState.ENDED)
    assert entry.alive
    world.settle()


def test_a_job_that_is_started_again_by_the_batch_system_is_the_same_allocation(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(20)
    world.until(lambda: world.unfinished() < 18)
    entry = world.system.alive()[0]
    world.system.requeue(entry)
    world.until(lambda: any(row.facts.restarts for row in world.alive()))
    world.settle()
    assert world.rows()[0].facts.restarts == 1


def test_restarts_that_nobody_saw_are_one_new_run(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(200)
    world.until(lambda: world.unfinished() < 198)
    entry = world.system.alive()[0]
    world.kill()
    for _ in range(4):
        world.system.requeue(entry)
        world.advance(300.0)
    world.start()
    world.until(lambda: any(row.facts.restarts for row in world.alive()))
    started = world.rows()[0].facts.started_at
    world.advance(200.0)
    assert (world.rows()[0].facts.restarts, world.rows()[0].facts.started_at) == (4, started)
    assert not world.keeper.book.nodes, "no node has failed"
    world.settle()


def test_a_batch_system_that_is_away_for_long_loses_nothing(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    world.submit(30)
    world.until(lambda: len(world.workers) == 3)
    world.system.trouble.extend([("any", "down")] * 10)
    world.until(lambda: not world.system.trouble)
    world.settle()


def test_a_batch_system_that_forgets_what_runs_is_not_believed_while_workers_speak(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(20)
    world.until(lambda: world.unfinished() < 19)
    world.system.alive()[0].forgotten = True
    world.advance(40.0)
    assert [row.facts.state for row in world.rows()] == [State.RUNNING]
    assert world.unfinished() > 0, "it was asked while it ran"
    world.until(lambda: world.unfinished() == 0)
    world.until(lambda: not world.alive())


def test_direct_use_is_one_job_for_each_allocation(world: PoolWorld) -> None:
    world.pool(direct=True, cores=4, max_allocations=10)
    world.submit()
    world.until(lambda: world.system.entries)
    entry = next(iter(world.system.entries.values()))
    assert entry.wanted.cores == 1, "as large as its job"
    assert "--jobs 1" in entry.wanted.script
    world.settle()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_goes_wrong_nothing_is_lost_or_left_behind(world: PoolWorld, seed: int) -> None:
    chance = random.Random(seed)
    world.system.most = 100 if seed % 2 else 1
    world.system.delay = chance.uniform(1.0, 40.0)
    world.system.nodes = ("n1", "n2", "n3", "n4")
    world.pool(max_allocations=4, idle=chance.choice((10.0, 60.0, 300.0)), walltime=600.0, margin=60.0)
    job = world.submit(60, checkpoint=("state",))
    for _ in range(chance.randint(4, 10)):
        world.advance(chance.uniform(0.1, 40.0))
        match chance.randint(0, 5):
            case 0 if world.live:
                world.kill()
                world.advance(chance.uniform(0.0, 30.0))
                world.start()
            case 1:
                method = chance.choice(("submit", "poll", "adopt", "cancel", "any"))
                what = chance.choice(
                    ("down", "silent", "lost", "rubbish") if method == "submit" else ("down", "silent")
                )
                world.system.trouble.append((method, what))
            case 2 if running := [one for one in world.system.alive() if one.state is SeenState.RUNNING]:
                world.system.requeue(chance.choice(running))
            case 3 if running := [one for one in world.system.alive() if one.state is SeenState.RUNNING]:
                world.system.end(chance.choice(running), SeenOutcome.PREEMPTED, "somebody more important")
            case 4 if len(world.system.dead) < 2:
                world.system.kill_node(chance.choice(world.system.nodes))
            case 5:
                world.system.trouble.clear()
        if world.live:
            world.check()
            live = [row for row in world.alive() if row.facts.state is not State.ORPHANED]
            assert len(live) <= 4, "the limit of the pool"
    world.system.trouble.clear()
    world.settle(40_000.0)
    assert all(world.state(job + index) is JobState.SUCCEEDED for index in range(60))
    tokens = [one.own for one in world.system.entries.values()]
    assert len(tokens) == len(set(tokens))


def test_what_other_servers_lend_is_no_worker_of_a_pool(world: PoolWorld) -> None:
    """It is theirs to take back, and its room is nobody's to count on."""
    ours, theirs = (
        Session(number=number, worker=number, name=f"w{number}", profile=profile((), (), Amounts(cores=4)),
                total=Amounts(cores=4), free=Amounts(cores=4), home=home)
        for number, home in ((1, ""), (2, "another"))
    )  # fmt: skip
    world.queue.index.sessions |= {1: ours, 2: theirs}
    assert [one.number for one in demand.workers(world.queue, world.happening.book)] == [1]


def test_a_plugin_that_fails_in_a_way_of_its_own_is_not_asked_for_the_same_again(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    take = world.system.take

    def broken(wanted: Wanted) -> str:
        take(wanted)
        world.system.take = take  # type: ignore[method-assign]
        raise RuntimeError("no such key")

    world.system.take = broken  # type: ignore[method-assign]
    world.submit(1)
    world.until(lambda: world.system.entries)
    world.advance(1.0)
    assert "fake failed: RuntimeError: no such key" in world.finish(world.pools.get(SERVER, "hpc")).note
    world.settle()
    assert len(world.system.entries) == 1, "it may have got through, and had"


def test_a_plugin_that_always_fails_is_not_asked_without_end(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    (hand,) = world.keeper.hands.values()
    calls = []

    async def broken(handles: object) -> None:
        calls.append(handles)
        raise KeyError("id")

    hand.scheduler.cancel = broken  # type: ignore[method-assign]
    hand.cancel(f"{world.happening.prefix(hand.pool)}9", "9")
    world.advance(25.0)
    assert len(calls) == 3
    assert world.finish(world.pools.get(SERVER, "hpc")).state == "unreachable"


def test_what_was_sent_late_has_its_time_to_become_visible(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    (hand,) = world.keeper.hands.values()
    world.system.trouble.extend([("cancel", "lost")] * 4)
    hand.cancel(f"{world.happening.prefix(hand.pool)}9", "9")

    async def hanging(wanted: Wanted) -> tuple[str, ...]:
        del hand.scheduler.submit  # type: ignore[attr-defined]
        world.reactor.callLater(15.0, world.system.take, wanted)  # within its settle time
        raise Unsettled("no answer in time")

    hand.scheduler.submit = hanging  # type: ignore[method-assign]
    world.submit(1)
    world.until(lambda: world.rows())
    world.settle()
    assert [row.facts.reason for row in world.rows()] == [Reason.LEFT]
    assert len(world.system.entries) == 1


def test_one_whose_worker_speaks_is_not_given_up_because_its_request_got_lost(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.seconds_per_job = 200.0
    world.system.trouble.append(("submit", "silent"))
    world.submit(1)
    world.until(lambda: world.system.entries)
    (entry,) = world.system.entries.values()
    entry.forgotten = True
    world.until(lambda: world.workers and world.rows()[0].facts.used)
    world.advance(60.0)
    assert [row.facts.state for row in world.rows()] == [State.RUNNING]
    world.until(lambda: world.unfinished() == 0)
    assert len(world.rows()) == 1
