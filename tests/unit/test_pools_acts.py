"""What people do with pools: add, plan, set, pause, cancel, remove; and what they are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.errors import BadInput, Conflict, NotFound, Unavailable
from cpc.core.pool_views import PoolSettings
from cpc.core.resources import Amounts
from cpc.queue.why import Because, Facts
from cpc.server.principal import SERVER, Call
from cpc.store import jobs
from cpc.store.transaction import Tx
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_a_pool_that_would_never_be_granted_is_refused_in_one_line(world: PoolWorld) -> None:
    with pytest.raises(BadInput, match="there is no queue nosuch"):
        world.pool(queue="nosuch")
    world.pool(queue="nosuch", force=True)
    with pytest.raises(BadInput, match="there is no platform spm") as refused:
        world.pool("other", platform="spm")
    assert "cray, mpi, slurm, smp; with --force" in refused.value.hint
    world.pool("other", platform="theirs", force=True)
    with pytest.raises(Conflict, match="there is a pool"):
        world.pool()
    call = Call.of(SERVER, "key", "POST", "/pools", b"")
    first = world.finish(world.pools.add(call, "twice", "fake", PoolSettings(), False))
    assert world.finish(world.pools.add(call, "twice", "fake", PoolSettings(), False)) == first, "the answer was lost"
    with pytest.raises(NotFound, match="there is no scheduler 'nix'"):
        world.finish(world.pools.add(world.call(), "x", "nix", PoolSettings(), False))
    with pytest.raises(BadInput, match="scheduler fake has no setting 'colour'"):
        world.finish(world.pools.add(world.call(), "x", "fake", PoolSettings(scheduler={"colour": "red"}), False))


@pytest.mark.parametrize(
    ("name", "value"),
    [("nodes", 0), ("walltime", 1.0), ("walltime", float("nan")), ("idle", 0.0), ("memory", -1), ("platform", "a b"),
     ("environment", {"1X": "y"}), ("options", ("--x\n",)), ("directory", "relative"), ("work", "also"), ("margin", 3000.0),
     ("project_limits", {"nosuch": 3}), ("programs", ("",)), ("labels", ("a b",)), ("queue", "-x"), ("wrap", "a\nb")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_words(world: PoolWorld, name: str, value: object) -> None:
    with pytest.raises((BadInput, NotFound)) as refused:
        world.pool(**{name: value})
    assert "\n" not in str(refused.value)
    assert world.finish(world.pools.page(SERVER)).items == ()


def test_a_plan_shows_the_script_without_a_secret_and_changes_nothing(world: PoolWorld) -> None:
    plan = world.finish(
        world.pools.plan(SERVER, "hpc", "fake", PoolSettings(cores=4, memory=1 << 30, labels=("fast",)))
    )
    assert "cpc-worker -c - " in plan.script
    assert "--labels fast" in plan.script
    assert "PRIVATE KEY" not in plan.script
    assert [one.ok for one in plan.checks] == [True]
    assert world.finish(world.pools.page(SERVER)).items == ()
    assert world.system.entries == {}


def test_a_paused_pool_is_asked_for_nothing_until_it_is_resumed(world: PoolWorld) -> None:
    world.pool()
    world.finish(world.pools.pause(world.call(), "hpc", "maintenance"))
    world.submit(3)
    world.advance(120.0)
    assert world.system.entries == {}
    assert world.finish(world.pools.get(SERVER, "hpc")).note == "maintenance"
    assert "maintenance" in world.finish(world.pools.why(SERVER, "hpc")).reasons[0].text
    world.finish(world.pools.resume(world.call(), "hpc"))
    world.settle()


def test_an_allocation_can_be_cancelled_and_its_jobs_run_elsewhere(world: PoolWorld) -> None:
    world.pool(idle=30.0, max_allocations=2)
    world.submit(20)
    world.until(lambda: len(world.workers) == 2)
    row = world.alive()[0]
    view = world.finish(world.pools.cancel(world.call(), row.token, "wrong account"))
    assert view.state == "leaving"
    assert "wrong account" in view.words
    world.settle()
    with pytest.raises(Conflict, match="has ended already"):
        world.finish(world.pools.cancel(world.call(), row.token, ""))
    with pytest.raises(NotFound, match="there is no allocation 99"):
        world.finish(world.pools.cancel(world.call(), "99", ""))


def test_a_pool_is_removed_when_nothing_of_it_is_left(world: PoolWorld) -> None:
    world.pool()
    world.submit(20)
    world.until(lambda: len(world.workers) == 3)
    with pytest.raises(Conflict, match="has 3 allocation"):
        world.finish(world.pools.remove(world.call(), "hpc", False))
    with pytest.raises(Unavailable, match="are being cancelled"):
        world.finish(world.pools.remove(world.call(), "hpc", True))
    world.until(lambda: not world.alive())
    world.finish(world.pools.remove(world.call(), "hpc", True))
    with pytest.raises(NotFound, match="there is no pool 'hpc'"):
        world.finish(world.pools.get(SERVER, "hpc"))
    shown = world.finish(world.pools.allocations(SERVER, "", False, "", 10)).items
    assert [one.pool for one in shown] == ["hpc"] * 3, "what it has had is still its"
    world.advance(700.0)
    assert [call for call in world.reactor.getDelayedCalls() if call.owner is world.host] == []
    world.pool()
    assert world.finish(world.pools.get(SERVER, "hpc")).spent == 0.0


def test_a_job_that_waits_says_what_pools_do_for_it(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    job = world.submit(executable="gromacs/mdrun", need=Amounts(cores=64))
    found: list[Because] = []

    def unit(tx: Tx) -> None:
        row = jobs.get(tx, job)
        assert row is not None
        facts = Facts(
            job=job, state=row.state, project=row.project, requirement=world.queue.index.requirements[row.requirement],
            number=row.requirement, key=row.key, exact=world.queue.exact(tx, ids.array(job)), ahead=0,
        )  # fmt: skip
        found.extend(world.keeper.explain(tx, facts))

    world.do(unit)
    assert found[0].kind == "pool"
    assert "hpc" in found[0].text
    assert "64 cores" in found[0].text
