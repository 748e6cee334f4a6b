"""Why allocations have not started, in the batch system's words: said to whoever asks about them, their pool or their job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.pool_views import AllocationView
from cpc.queue.why import Facts
from cpc.server.principal import SERVER
from cpc.store import jobs
from cpc.store.transaction import Tx
from tests.helpers.fake_batch import Entry
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def waits(world: PoolWorld, reason: str, stuck: bool) -> tuple[Entry, int]:
    """A job waits, because its allocation does."""
    world.system.delay = 10_000.0
    world.pool(max_allocations=1)
    job = world.submit()
    world.until(world.system.alive, 30.0)
    (entry,) = world.system.alive()
    entry.reason, entry.stuck = reason, stuck
    world.advance(60.0)
    return entry, job


def said_of(world: PoolWorld, job: int) -> list[str]:
    def unit(tx: Tx) -> list[str]:
        row = jobs.get(tx, job)
        assert row is not None
        queue = world.queue
        facts = Facts(
            job=job, state=row.state, project=row.project, requirement=queue.index.requirements[row.requirement],
            number=row.requirement, key=row.key, exact=queue.exact(tx, ids.array(job)), ahead=0,
        )  # fmt: skip
        return [one.text for one in world.keeper.explain(tx, facts)]

    return world.do(unit)


def shown(world: PoolWorld) -> AllocationView:
    found = world.finish(world.pools.allocation(SERVER, world.rows()[0].token))
    assert isinstance(found, AllocationView)
    return found


def reasons(world: PoolWorld) -> dict[str, tuple[str, str]]:
    found = world.finish(world.pools.why(SERVER, "hpc")).reasons
    return {one.kind: (one.text, one.step) for one in found}


def test_what_waits_for_its_turn_says_so(world: PoolWorld) -> None:
    entry, job = waits(world, "Priority", False)
    assert not any("Priority" in one for one in said_of(world, job)), "it is enough to know that it waits, and how long"
    assert (shown(world).waiting, shown(world).stuck) == ("Priority", False)
    assert reasons(world)["waiting"] == ("hpc: 1 allocation(s) wait in fake: Priority", "")
    world.system.delay = 0.0
    world.system.schedule()
    world.until(lambda: entry.started, 30.0)
    world.advance(40.0)
    assert shown(world).waiting == ""
    assert "waiting" not in reasons(world)


def test_what_waits_for_what_does_not_come_is_told_from_it(world: PoolWorld) -> None:
    job = waits(world, "InvalidAccount", True)[1]
    assert (shown(world).waiting, shown(world).stuck) == ("InvalidAccount", True)
    text, step = reasons(world)["stuck"]
    assert text == "hpc: 1 allocation(s) wait in fake: InvalidAccount, which does not change by itself"
    assert step.startswith("cpcc doctor hpc")
    assert any("InvalidAccount, which does not" in one for one in said_of(world, job))


def test_what_is_not_there_any_more_is_forgotten(world: PoolWorld) -> None:
    entry, _ = waits(world, "InvalidAccount", True)
    world.system.end(entry)
    world.advance(120.0)
    assert "stuck" not in reasons(world)
    assert len(world.keeper.hands[next(iter(world.keeper.hands))].waits) <= 1
