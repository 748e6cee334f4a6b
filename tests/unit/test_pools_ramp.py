"""As long as nobody knows how long jobs take, a pool that starts soon is asked for a part of what they would need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.pools import ramp, why
from cpc.pools.allocation import State
from cpc.pools.facts import HOUR, Demand, Learned, Pool
from cpc.queue.pace import Pace
from tests.helpers.pool_world import PoolWorld
from tests.helpers.pools import NOW, allocation, deciding, demand, pool, survey, worker
from tests.helpers.stores import sqlite_url

QUICK = Learned(waits=(20.0,), joins=(30.0,))  # an allocation should be given 18 minutes of work
SLOW = Learned(waits=(1800.0,), joins=(30.0,))


def large(**fields: Any) -> Pool:
    return pool(**{"max_allocations": 0, "backlog": 200} | fields)


def unknown(count: int = 1600, **fields: Any) -> Demand:
    """Jobs of which none has ended yet, nor any that was like them."""
    return demand(count, **{"before": 0.0} | fields)


def asked(wanted: Demand, learned: Learned = QUICK, joined: int = 0, **fields: Any) -> int:
    """How many allocations are asked for where so many are full of such jobs."""
    ones = [allocation(f"t{n}", state=State.RUNNING, joined=1, used=True) for n in range(joined)]
    workers = [worker(f"t{n}", free=0, number=n) for n in range(joined)]
    return len(deciding([large(**fields)], [wanted], ones, workers, learned={1: learned}).asks)


def test_a_part_is_asked_for_first() -> None:
    assert (
        asked(unknown()) == 9
    )  # twelve jobs of a minute and a half are that, and nine times 16 cores do 1,728 of them
    assert asked(unknown(before=HOUR)) == asked(unknown(seconds=HOUR)) == 100


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_few_jobs_do_not_wait_for_each_other(count: int) -> None:
    assert asked(unknown(count, cores=16)) == count
    assert asked(unknown(count, cores=16), nodes=2) == (count + 1) // 2


def test_a_few_nodes_are_asked_for_whatever_they_are_for() -> None:
    assert asked(unknown(40, cores=16)) == 4
    assert asked(unknown(40, cores=16), nodes=2) == 2
    assert asked(unknown(10, cores=64), nodes=4, platform="slurm") == 1


def test_it_grows_as_they_run_and_the_rest_is_asked_for_when_they_have_run_for_some_minutes() -> None:
    def after(seconds: float) -> int:
        return asked(unknown(1600 - 144, running=144, longest=seconds, half=seconds), joined=9)

    assert [after(seconds) for seconds in (0.0, 119.0, 120.0, 150.0, 270.0, 299.0)] == [0, 0, 3, 5, 16, 16]
    assert after(ramp.LONG) == 91


def test_when_the_first_has_ended_it_is_known() -> None:
    running = {"running": 143, "longest": 60.0, "half": 60.0}
    assert asked(unknown(1456, seconds=2 * HOUR, **running), joined=9) == 91
    assert asked(unknown(1456, seconds=60.0, **running), joined=9) == 0


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    ones = [allocation(f"t{n}") for n in range(9)]
    decision = deciding([large()], [unknown()], ones, learned={1: QUICK})
    assert decision.asks == ()
    assert decision.needed == {one.token for one in ones}
    assert decision.cancels == ()


def test_direct_pools_are_asked_for_all_of_it() -> None:
    assert asked(unknown(40, cores=16), direct=True) == 40


def test_a_pool_that_does_not_start_soon_is_asked_for_all_of_it() -> None:
    assert asked(unknown(), SLOW) == 100
    waiting = [allocation(f"t{n}", asked_at=NOW - ramp.SOON + 1) for n in range(9)]
    first = deciding([large()], [unknown()], waiting)
    assert (first.asks, round(first.again_at)) == ((), NOW + 1)
    later = deciding([large()], [unknown()], waiting, now=first.again_at)
    assert len(later.asks) == 91, "nobody knew that it is busy"


def test_one_that_happens_to_wait_for_longer_is_no_reason_where_others_run() -> None:
    one = [allocation(asked_at=NOW - ramp.SOON - 60)]
    wanted = unknown(1500, running=100, longest=30.0, half=30.0)
    assert len(deciding([large()], [wanted], one, learned={1: QUICK}).asks) == 2  # and 18 jobs more


def test_another_pool_is_asked_only_for_what_this_one_may_not_take() -> None:
    def of(first: Pool) -> dict[int, int]:
        asks = deciding([first, large(number=2)], [unknown()], learned={1: QUICK, 2: SLOW}).asks
        return {number: sum(ask.pool == number for ask in asks) for number in (1, 2)}

    assert of(large()) == {1: 9, 2: 0}
    assert of(large(paused="new disks")) == {1: 0, 2: 100}
    assert of(large(max_allocations=3)) == {1: 3, 2: 97}


def test_jobs_that_go_on_though_the_first_to_end_were_brief_are_long() -> None:
    """One that fails at once says nothing of the others."""

    def after(half: float) -> int:
        return asked(unknown(1456, seconds=1.0, running=144, longest=half, half=half), joined=9)

    assert after(60.0) == 0
    assert after(HOUR) == 91
    one_of_many = unknown(1456, seconds=1.0, running=144, longest=HOUR, half=0.5)
    assert asked(one_of_many, joined=9) == 0


def test_it_is_looked_at_again_while_they_run() -> None:
    wanted = unknown(1488, running=112, longest=100.0, half=100.0)
    ones = [allocation(f"t{n}", state=State.RUNNING, joined=1, used=True) for n in range(10)]
    workers = [worker(f"t{n}", free=0, number=n) for n in range(10)]
    assert round(deciding([large()], [wanted], ones, workers, learned={1: QUICK}).again_at) == NOW + 20
    known = unknown(1488, seconds=1.0, running=112, longest=100.0, half=85.0)
    assert round(deciding([large()], [known], ones, workers, learned={1: QUICK}).again_at) == NOW + 5
    never = unknown(1488, running=112, longest=30 - 1e-9, half=0.0)
    assert deciding([large()], [never], ones, workers, learned={1: QUICK}).again_at > NOW


def test_it_is_said_why() -> None:
    seen = survey([large()], [unknown()], learned={1: QUICK})
    now, part = why.waiting(seen, seen.served[0])
    assert (now.kind, now.text) == ("asked", "pool pool1 is asked for 9 allocation(s) now")
    assert (part.kind, part.step) == ("part", "wait")
    assert part.text == (
        "pool pool1: it is asked for a part until it is known how long such jobs take: for the rest when the first has "
        "ended, or when it has run for 5m 00s"
    )
    assert [note.kind for note in why.pool(seen, 1)] == ["part", "asked"]
    assert (seen.served[0].held, seen.served[0].left) == (1600 - 9 * 16, 1600 - 9 * 16)


def test_what_earlier_submissions_took_is_remembered_by_project_and_class() -> None:
    pace = Pace()
    pace.note_alike(1, 7, 3000.0)
    pace.note_alike(1, 7, 1000.0)
    assert (pace.of_alike(1, 7), pace.of_alike(1, 8), pace.of_alike(2, 7)) == (2500.0, None, None)
    assert pace.of(1) is None


# --- with a server


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_a_server_that_was_restarted_goes_on_with_what_runs(world: PoolWorld) -> None:
    world.seconds_per_job = 4000.0
    world.pool(max_allocations=20, walltime=3 * HOUR)
    world.submit(20)  # two on each node
    world.until(lambda: len(world.workers) == 4)
    began = world.reactor.seconds()
    world.advance(100.0)
    assert len(world.rows()) == 4
    world.kill()
    world.advance(50.0)
    world.start()
    world.advance(90.0)
    assert len(world.rows()) == 4
    world.until(lambda: len(world.rows()) == 10)
    assert 0 <= world.reactor.seconds() - began - ramp.LONG < 60


def test_the_next_round_of_long_jobs_is_asked_for_at_once(world: PoolWorld) -> None:
    world.pool(max_allocations=20, walltime=3 * HOUR)
    world.submit(20)
    ((project, number),) = world.queue.index.windows
    world.settle()
    assert world.queue.pace.of_alike(project, number) == 1.0, "which is what its workers told"
    before = len(world.rows())
    world.submit(20)
    world.known_to_be_long()
    world.until(lambda: len(world.rows()) == before + 10, within=5.0)
