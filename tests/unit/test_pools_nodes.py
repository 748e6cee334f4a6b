"""Nodes of pools: those that fail are left out and named, and people drain and resume them with the workers on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.allocation import NodeSeen, NodeState, Wanted
from cpc.core.errors import BadInput, Conflict, NotFound, Unavailable
from cpc.pools.allocation import Reason
from cpc.pools.facts import NodeRecord
from cpc.queue.job import State as JobState
from cpc.server.principal import SERVER
from tests.helpers.fake_batch import FakeBatch
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_a_dead_node_costs_no_job_and_blames_none(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    job = world.submit(40)
    world.until(lambda: world.unfinished() < 35)
    node = world.system.alive()[0].node
    world.system.kill_node(node)
    world.settle()
    assert any(row.facts.reason is Reason.NODE for row in world.rows())
    assert world.state(job) is JobState.SUCCEEDED


def test_a_node_on_which_everything_ends_at_once_is_left_out_and_named(world: PoolWorld) -> None:
    world.system.nodes = ("bad", "good", "fair", "best")
    world.poisonous = {"bad"}
    world.pool(max_allocations=4, idle=3000.0, cores=4)
    for _ in range(3):
        world.submit(60)
    world.until(lambda: world.unfinished() == 0, 20_000.0)
    assert world.events("node.excluded") >= 1
    page = world.finish(world.pools.nodes(SERVER, "hpc"))
    bad = next(one for one in page.items if one.name == "bad")
    assert bad.excluded > 0
    assert "NonZeroExitCode" in bad.excluded_why
    why = world.finish(world.pools.why(SERVER, "hpc"))
    assert any("bad" in reason.text for reason in why.reasons)
    world.finish(world.pools.undrain(world.call(), "bad", ""))
    page = world.finish(world.pools.nodes(SERVER, "hpc"))
    assert next(one for one in page.items if one.name == "bad").excluded == 0


def test_a_batch_system_that_can_leave_no_node_out_is_asked_all_the_same(
    world: PoolWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = FakeBatch.submit

    async def strict(self: FakeBatch, wanted: Wanted) -> tuple[str, ...]:
        if wanted.exclude:
            raise BadInput("nodes cannot be excluded")
        return await submit(self, wanted)

    monkeypatch.setattr(FakeBatch, "submit", strict)
    monkeypatch.setattr(FakeBatch, "excludes", False, raising=False)
    world.pool(max_allocations=1)
    number = next(iter(world.keeper.book.pools))
    bad = NodeRecord(pool=number, node="n2", failures=3, failed_at=world.keeper.book.now)
    world.do(lambda tx: world.keeper.book.put_node(tx, bad))
    world.submit(4)
    world.until(lambda: world.unfinished() == 0, 600.0)
    assert {row.facts.reason for row in world.rows()} == {Reason.NONE}, "none was refused"
    with pytest.raises(Conflict, match="cannot be told on which node to start anything"):
        world.finish(world.pools.probe(world.call(), "hpc", "n3"))


def test_no_node_is_said_to_be_left_out_where_none_can_be(world: PoolWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBatch, "excludes", False)
    world.system.nodes = ("bad",)
    world.poisonous = {"bad"}
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: len(world.rows()) == 4, 2000.0)
    assert world.events("node.excluded") == 0
    assert world.finish(world.pools.node(SERVER, "bad")).excluded == 0
    reasons = world.finish(world.pools.why(SERVER, "hpc")).reasons
    assert not any("left out" in reason.text for reason in reasons)


def test_a_node_is_drained_together_with_the_workers_on_it(world: PoolWorld) -> None:
    world.pool(idle=3000.0)
    world.submit(60)
    world.until(lambda: len(world.workers) == 3)
    node = world.system.alive()[0].node
    view = world.finish(world.pools.drain(world.call(), node, "", "new fan", True))
    assert view.state in ("draining", "drained")
    assert view.reason == "new fan"
    assert all(worker.state in ("draining", "drained") for worker in view.workers)
    world.until(lambda: world.finish(world.pools.node(SERVER, node)).state == "drained")
    assert world.finish(world.pools.node(SERVER, node)).workers == ()
    view = world.finish(world.pools.undrain(world.call(), node, "hpc"))
    assert view.state == "idle"
    with pytest.raises(NotFound, match="no pool has a node nosuch"):
        world.finish(world.pools.drain(world.call(), "nosuch", "", "why", True))


def test_nodes_are_shown_though_another_pool_does_not_answer(world: PoolWorld) -> None:
    world.pool("away", max_allocations=0)
    world.pool("hpc")
    world.system.trouble.append(("nodes", "down"))
    page = world.finish(world.pools.nodes(SERVER, ""))
    assert {one.pool for one in page.items} == {"hpc"}
    world.advance(5.0)  # what they told is not remembered any more
    world.system.trouble.extend([("nodes", "down"), ("nodes", "down")])
    with pytest.raises(Unavailable, match="nobody is there"):
        world.finish(world.pools.nodes(SERVER, ""))
    world.system.trouble.append(("nodes", "down"))
    with pytest.raises(Unavailable, match="nobody is there"):
        world.finish(world.pools.nodes(SERVER, "away"))


def test_pools_are_asked_for_their_nodes_at_the_same_time(world: PoolWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pool("one")
    world.pool("two")
    answers: list[Deferred[tuple[NodeSeen, ...]]] = []

    async def slow(queue: str = "") -> tuple[NodeSeen, ...]:
        answers.append(Deferred())
        return await answers[-1]

    for hand in world.keeper.hands.values():
        monkeypatch.setattr(hand.scheduler, "nodes", slow)
    asked = ensureDeferred(world.pools.nodes(SERVER, ""))
    assert len(answers) == 2
    answers[1].callback((NodeSeen(name="b1", state=NodeState.IDLE),))
    answers[0].errback(Unavailable("nobody is there"))
    page = world.finish(asked)
    assert [(one.pool, one.name) for one in page.items] == [("two", "b1")]


def test_nodes_are_remembered_for_a_moment_but_not_when_they_are_changed(world: PoolWorld) -> None:
    world.pool()

    def asked() -> int:
        before = world.system.calls.count("nodes")
        world.finish(world.pools.nodes(SERVER, ""))
        return world.system.calls.count("nodes") - before

    assert [asked(), asked(), asked()] == [1, 0, 0]
    world.finish(world.pools.drain(world.call(), "n1", "", "new fan", True))
    page = world.finish(world.pools.nodes(SERVER, "hpc"))
    assert {one.name: one.state for one in page.items} == {"n1": "drained", "n2": "idle", "n3": "idle"}
    world.finish(world.pools.undrain(world.call(), "n1", ""))
    assert {one.state for one in world.finish(world.pools.nodes(SERVER, "hpc")).items} == {"idle"}
    world.advance(5.0)
    assert asked() == 1
