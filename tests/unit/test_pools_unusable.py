"""Pools that cannot be used for a while, and decisions that could not be written down: what runs is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from cpc.core.chance import SeededChance
from cpc.core.errors import Conflict, NotFound, Unavailable
from cpc.core.pool_views import PoolSettings
from cpc.pools.allocation import Reason, State
from cpc.server.offline import wait
from cpc.server.pools import offline, schedulers
from cpc.server.principal import SERVER
from tests.helpers.pool_world import SERVER_ID, PoolWorld
from tests.helpers.stores import sqlite_url

PLUGIN = "tests.helpers.fake_batch:FakeBatch"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_what_runs_in_a_pool_whose_plugin_cannot_be_loaded_is_left_alone(
    world: PoolWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schedulers.BUILT_IN, "theirs", PLUGIN)
    settings = PoolSettings(cores=2, walltime=3600.0, idle=600.0, max_allocations=2)
    world.finish(world.pools.add(world.call(), "hpc", "theirs", settings, False))
    world.seconds_per_job = 200.0
    world.submit(8)
    world.until(lambda: len(world.workers) == 2 and world.unfinished() == 8)
    tokens = {row.token for row in world.alive()}
    world.kill()
    monkeypatch.delitem(schedulers.BUILT_IN, "theirs")
    world.start()
    world.pool("other", max_allocations=1)
    world.advance(300.0)
    running = {row.token: row.facts.state for row in world.alive() if row.token in tokens}
    assert running == dict.fromkeys(tokens, State.RUNNING)
    assert len(world.workers) >= 2
    shown = world.finish(world.pools.get(SERVER, "hpc"))
    assert shown.state == "unreachable"
    assert "there is no scheduler 'theirs'" in shown.note
    assert shown.note.endswith("its 2 allocation(s) are left alone until it can be used")
    assert "left alone" in world.finish(world.pools.why(SERVER, "hpc")).reasons[0].text
    with pytest.raises(Conflict, match=r"2 allocation\(s\) that nobody can end: there is no scheduler 'theirs'"):
        world.finish(world.pools.remove(world.call(), "hpc", True))
    monkeypatch.setitem(schedulers.BUILT_IN, "theirs", PLUGIN)
    world.finish(world.pools.set(world.call(), "hpc", PoolSettings(idle=60.0), False))
    world.until(lambda: world.unfinished() == 0 and not world.alive(), 7200.0)
    assert {row.facts.reason for row in world.rows() if row.token in tokens} == {Reason.LEFT}
    assert world.finish(world.pools.get(SERVER, "hpc")).state == "active"


def test_a_pool_whose_plugin_is_gone_for_good_is_forgotten_and_what_may_still_run_is_told(
    world: PoolWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schedulers.BUILT_IN, "theirs", PLUGIN)
    world.system.most = 10
    settings = PoolSettings(cores=2, walltime=3600.0, idle=600.0, max_allocations=2)
    world.finish(world.pools.add(world.call(), "hpc", "theirs", settings, False))
    world.seconds_per_job = 200.0
    world.submit(8)
    world.until(lambda: len(world.workers) == 2 and world.unfinished() == 8)
    with pytest.raises(Conflict, match=r"pool hpc answers: 2 allocation\(s\) need not be left behind"):
        world.finish(world.pools.forget(world.call(), "hpc"))
    world.kill()
    monkeypatch.delitem(schedulers.BUILT_IN, "theirs")
    world.start()
    world.until(lambda: len(world.queue.index.sessions) == 2)
    with pytest.raises(Conflict) as refused:
        world.finish(world.pools.remove(world.call(), "hpc", True))
    assert "cpcc pool rm --forget hpc" in refused.value.hint
    sessions = set(world.queue.index.sessions)
    gone = world.finish(world.pools.forget(world.call(), "hpc"))
    assert (gone.pool, gone.scheduler) == ("hpc", "theirs")
    assert [(one.native, one.state) for one in gone.left] == [("1_0", "running"), ("1_1", "running")]
    assert all(one.ran_on and one.token.startswith("cpc-") for one in gone.left)
    assert set(world.cut) == sessions, "their workers are put out"
    assert {(row.facts.state, row.facts.reason) for row in world.rows()} == {(State.ENDED, Reason.FORGOTTEN)}
    world.check()
    with pytest.raises(NotFound, match="there is no pool 'hpc'"):
        world.finish(world.pools.get(SERVER, "hpc"))
    assert [one.native for one in world.system.alive()] == ["1_0", "1_1"], "nobody could end them"
    for worker in world.workers.values():
        worker.session = 0
        worker.join()
    assert world.turned_away == 2, "nor can they come back"
    with pytest.raises(NotFound, match="there is no scheduler 'theirs'"):
        offline.scheduler(offline.find(world.url, "hpc")[0], world.clock, SeededChance(1))
    monkeypatch.setitem(schedulers.BUILT_IN, "theirs", PLUGIN)
    row, there = offline.find(world.url, "hpc")
    assert not there
    asked = offline.scheduler(row, world.clock, SeededChance(1))
    left = wait(offline.live(asked, row, SERVER_ID))
    assert [one.native for one in left] == ["1_0", "1_1"]
    wait(offline.cancel(asked, left))
    assert world.system.alive() == []
    world.pool("other", idle=30.0)
    assert offline.find(world.url, "other")[1]
    world.seconds_per_job = 5.0
    world.settle()


def test_a_pool_whose_batch_system_is_away_can_be_forgotten(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(200)
    world.until(lambda: world.workers)
    world.system.trouble.extend([("any", "down")] * 100)
    world.until(lambda: world.finish(world.pools.get(SERVER, "hpc")).state == "unreachable")
    assert [one.native for one in world.finish(world.pools.forget(world.call(), "hpc")).left] == ["1"]
    world.advance(60.0)
    assert not world.keeper.hands
    assert world.alive() == []
    with pytest.raises(NotFound, match="there is no pool 'nosuch'"):
        offline.find(world.url, "nosuch")


@pytest.mark.parametrize("under_way", ["adopt", "submit"])
def test_what_a_forgotten_pool_is_still_told_brings_nothing_back(world: PoolWorld, under_way: str) -> None:
    world.pool(max_allocations=2)
    world.submit(1)
    world.until(lambda: world.workers)
    (hand,) = world.keeper.hands.values()
    answer, asked = getattr(hand.scheduler, under_way), Deferred[None]()
    called = []

    async def late(*words: object) -> object:
        called.append(under_way)
        found = await answer(*words)
        await asked
        return found

    setattr(hand.scheduler, under_way, late)
    if under_way == "adopt":
        hand.look(search=True)
    else:
        world.submit(20)
    world.until(lambda: called)
    hand.trouble = "it was away a moment ago"  # as long as this look at it is not over
    world.finish(world.pools.forget(world.call(), "hpc"))
    assert world.alive() == []
    asked.callback(None)
    world.advance(30.0)
    assert world.alive() == [], "nobody could ever end it"
    assert world.events("allocation.orphaned") == 0
    world.check()


class Away:
    """A database that takes no writes."""

    async def write(self, unit: object) -> None:
        raise Unavailable("the database does not answer")


def test_a_worker_was_given_a_job_also_when_that_could_not_be_written_at_once(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: world.workers)
    store, world.keeper._store = world.keeper._store, Away()  # type: ignore[assignment]
    world.until(lambda: any(worker.holds for worker in world.workers.values()))
    world.advance(3.0)
    assert not world.rows()[0].facts.used
    world.keeper._store = store
    world.until(lambda: world.unfinished() == 0)
    world.advance(5.0)
    assert world.rows()[0].facts.used
