"""Pools that cannot be used for a while, and decisions that could not be written down: what runs is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.errors import Conflict, Unavailable
from cpc.core.pool_views import PoolSettings
from cpc.pools.allocation import Reason, State
from cpc.server.pools import schedulers
from cpc.server.principal import SERVER
from tests.helpers.pool_world import PoolWorld
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
