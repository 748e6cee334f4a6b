"""Pools of whole nodes: limits, budget and ledger are charged with what the batch system gives, not with what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from cpc.core.allocation import NodeSeen, Seen, SeenState
from cpc.core.errors import Conflict
from cpc.core.pool_views import PoolSettings
from cpc.pools.allocation import State
from cpc.store import pools
from tests.helpers.fake_batch import FakeBatch
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url

#: What each of the nodes of the batch system has.
NODE = 4


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    made.system.cores = NODE
    yield made
    made.close()


def running(world: PoolWorld) -> list[int]:
    return [row.facts.cores for row in world.alive() if row.facts.state is State.RUNNING]


def test_whole_nodes_count_with_all_of_their_cores(world: PoolWorld) -> None:
    world.pool(exclusive=True, cores=1, max_cores=2 * NODE, max_allocations=0)
    world.seconds_per_job = 100.0
    world.submit(12)
    world.advance(3.0)
    assert len(world.rows()) == 2, "nodes are known before the first is asked for"
    most = 0
    for _ in range(120):
        world.advance(5.0)
        most = max(most, sum(row.facts.cores for row in world.alive()))
    assert most == 2 * NODE, "two nodes, though eight allocations of one core were allowed"
    world.until(lambda: world.unfinished() == 0 and not world.alive(), 7200.0)
    number = next(iter(world.keeper.book.pools))
    ran = sum(row.facts.ended_at - row.facts.started_at for row in world.rows() if row.facts.started_at)
    (day,) = world.do(lambda tx: pools.days(tx, number, 0))
    assert day.core_seconds == pytest.approx(NODE * ran)


def test_a_budget_is_charged_with_whole_nodes(world: PoolWorld) -> None:
    world.pool(exclusive=True, cores=1, budget=NODE + 1.0, walltime=3600.0, max_allocations=0)
    world.seconds_per_job = 3000.0
    world.submit(3)
    world.advance(60.0)
    assert running(world) == [NODE], "one node for an hour is all that it allows"


def test_a_queue_that_gives_whole_nodes_by_itself_is_found_out_with_the_first(world: PoolWorld) -> None:
    world.system.gives = NODE
    world.pool(cores=1, max_cores=2 * NODE, max_allocations=0)
    world.seconds_per_job = 100.0
    world.submit(1)
    world.until(lambda: running(world))
    world.advance(5.0)
    assert running(world) == [NODE]
    world.submit(11)
    most = 0
    for _ in range(120):
        world.advance(5.0)
        most = max(most, sum(row.facts.cores for row in world.alive()))
    assert most == 2 * NODE
    world.until(lambda: world.unfinished() == 0 and not world.alive(), 7200.0)
    number = next(iter(world.keeper.book.pools))
    ran = sum(row.facts.ended_at - row.facts.started_at for row in world.rows() if row.facts.started_at)
    (day,) = world.do(lambda tx: pools.days(tx, number, 0))
    assert day.core_seconds == pytest.approx(NODE * ran)


def test_whole_cores_count_where_less_was_asked_for(world: PoolWorld) -> None:
    world.system.gives = 2  # two threads of a core
    world.pool(cores=1, max_allocations=2)
    world.seconds_per_job = 100.0
    world.submit(2)
    world.until(lambda: len(world.workers) == 2)
    world.advance(5.0)
    assert running(world) == [2, 2]


def test_parts_of_nodes_count_as_they_are(world: PoolWorld) -> None:
    world.pool(exclusive=True, cores=1, max_allocations=2)
    world.advance(1.0)
    world.finish(world.pools.set(world.call(), "hpc", PoolSettings(exclusive=False), False))
    world.seconds_per_job = 100.0
    world.submit(2)
    world.until(lambda: len(world.workers) == 2)
    world.advance(5.0)
    assert running(world) == [1, 1]


def test_a_look_counts_with_the_whole_node_that_its_queue_gives(world: PoolWorld) -> None:
    world.system.gives = NODE
    world.pool(cores=1, max_cores=2 * NODE - 1, max_allocations=0)
    world.seconds_per_job = 100.0
    world.submit(1)
    world.until(lambda: running(world) == [NODE])
    with pytest.raises(Conflict, match=f"at most {2 * NODE - 1} cores are allowed at once; one allocation is {NODE}"):
        world.finish(world.pools.probe(world.call(), "hpc", ""))
    world.finish(world.pools.set(world.call(), "hpc", PoolSettings(max_cores=2 * NODE), False))
    world.finish(world.pools.probe(world.call(), "hpc", ""))
    assert [row.facts.cores for row in world.alive()] == [NODE, NODE]


@pytest.mark.parametrize("trouble", ["", "no"])
def test_a_pool_of_whole_nodes_is_not_asked_before_it_is_known_how_large_they_are(
    world: PoolWorld, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    nodes = FakeBatch.nodes

    async def slow(self: FakeBatch, queue: str = "") -> tuple[NodeSeen, ...]:
        waited = Deferred[None]()
        world.reactor.callLater(2.0, waited.callback, None)
        await waited
        if trouble:
            world.system.trouble.append(("nodes", trouble))
        return await nodes(self, queue)

    monkeypatch.setattr(FakeBatch, "nodes", slow)
    world.seconds_per_job = 100.0
    world.submit(12)
    world.known_to_be_long()
    world.pool(exclusive=True, cores=1, max_cores=2 * NODE, max_allocations=0, force=True)
    world.advance(1.5)
    assert not world.rows()
    world.advance(10.0)
    assert len(world.rows()) == (2 * NODE if trouble else 2), "where nobody tells, what is asked for is what counts"


def test_what_is_left_of_an_ending_one_is_not_taken_for_all_of_its_nodes(world: PoolWorld) -> None:
    world.pool(cores=1, nodes=2, platform="mpi")
    world.submit(1)
    world.until(lambda: running(world))
    (row,), (hand,) = world.alive(), world.keeper.hands.values()
    assert hand.seen.largest == NODE
    # Two threads on each of two nodes; Slurm names only those that are not free again yet.
    left = Seen(native=row.native, token=row.token, state=SeenState.RUNNING, nodes=("n1",), cores=NODE)
    world.do(lambda tx: hand._given(tx, row.token, left))
    assert world.keeper.book.pools[row.pool].facts.node_cores == 0
    assert running(world) == [NODE], "what it had, it has"
