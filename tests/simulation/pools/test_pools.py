"""The autoscaler among batch systems that refuse, forget, preempt and die: limits hold, nothing stalls, nothing is left."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from cpc.core.resources import Amounts
from cpc.pools.allocation import Reason, State
from cpc.pools.facts import HOUR, Pool
from tests.simulation.pools import oracle, scenario, trace, truth
from tests.simulation.pools.batch import Faults
from tests.simulation.pools.scenario import Scenario, build, plain
from tests.simulation.pools.trace import Job
from tests.simulation.pools.world import World

LONG = 60 * 24 * HOUR
#: Seeds in which something was wrong once.
FOUND = (20, 43, 57, 108, 1503, 2124)


def run(made: Scenario, seed: int = 1, until: float = LONG) -> World:
    """To the end, with the truth looking on."""
    world = build(made, seed, truth.Truth())
    world.run(until)
    return world


def ended(world: World) -> None:
    """All jobs have, and nothing is left of pools."""
    assert world.done, "\n".join(world.story[-30:])
    assert not world.alive, "\n".join(world.story[-30:])


def one_pool(faults: Faults, jobs: list[Job], wait: str = "quick", size: int = 16, **fields: object) -> Scenario:
    given = {"each": Amounts(cores=16), "walltime": 6 * HOUR, "max_allocations": 10, "known_nodes": size} | fields
    return Scenario((Pool(number=1, name="p", scheduler="model", **given),), (wait,), (size,), (faults,), tuple(jobs))  # type: ignore[arg-type]


def batch_of(count: int, cores: int = 4, seconds: float = 900.0, at: float = 10.0) -> list[Job]:
    return [Job(at, 1, cores, seconds, 2 * seconds) for _ in range(count)]


@pytest.mark.parametrize("seed", [*range(30), *FOUND])
def test_any_pools_with_any_faults(seed: int) -> None:
    made = scenario.drawn(seed)
    world = run(made, seed)
    ended(world)
    truth.never_flooded(world)
    if not any(faults.requeues for faults in made.faults):
        truth.budget_kept(world)


def test_same_seed_same_story() -> None:
    first, second = (run(scenario.drawn(7), 7).story for _ in range(2))
    assert first == second
    assert len(first) > 10


def test_it_grows_to_its_limit_and_shrinks_to_nothing() -> None:
    world = run(one_pool(Faults(), batch_of(200)))
    ended(world)
    most = max(_running_at(world, at) for at, _ in world.asked)
    assert most == 10
    assert world.now < 10 + 5 * 900 + 600  # 200 jobs, 40 at a time


def test_long_jobs_wait_a_few_minutes_for_it_to_be_known_that_they_are() -> None:
    world = run(one_pool(Faults(), batch_of(16, cores=16, seconds=2 * HOUR), max_allocations=20, backlog=20))
    ended(world)
    began = sorted(task.began for task in world.tasks)
    assert began[3] < 120.0, "a few are asked for at once"
    assert began[5] >= began[0] + truth.LONG
    assert began[15] < began[0] + truth.LONG + 120.0, "and then the others"


def _running_at(world: World, at: float) -> int:
    runs = [run for entry in world.batches[1].past for run in entry.runs]
    return max(sum(begin <= when < end for begin, end in runs) for when in (at, at + 120))


def test_a_batch_system_that_takes_nothing_is_asked_less_and_less_and_used_when_it_does() -> None:
    faults = Faults(refusing=((0.0, 5 * HOUR),))
    world = run(one_pool(faults, batch_of(20)))
    ended(world)
    assert len([at for at in world.batches[1].submitted if at < 5 * HOUR]) <= 10 + 2 * 9 + 5
    assert max(task.ended for task in world.tasks) < 5 * HOUR + HOUR + 2000


def test_allocations_that_end_at_once_are_not_a_flood() -> None:
    world = run(one_pool(Faults(ending=((0.0, 4 * HOUR),)), batch_of(100)))
    ended(world)
    truth.never_flooded(world)


def test_lost_answers_and_forgotten_jobs_cost_time_and_nothing_else() -> None:
    world = run(one_pool(Faults(loses_answers=0.4, loses_jobs=0.3, starts_twice=0.2), batch_of(100)), 5)
    ended(world)
    ends = {one.reason for one in world.allocations.values()}
    assert Reason.REFUSED in ends  # a lost answer of one that was not taken
    assert Reason.VANISHED in ends


def test_a_second_one_with_the_same_token_is_cancelled_and_gets_no_job() -> None:
    world = run(one_pool(Faults(starts_twice=1.0), batch_of(100)))
    ended(world)
    copies = [entry for entry in world.batches[1].past if entry.copy]
    assert copies
    assert all(end - begin < 120 for entry in copies for begin, end in entry.runs)


def test_nodes_on_which_workers_fail_are_left_out() -> None:
    made = one_pool(Faults(bad_nodes=3), batch_of(250, seconds=1200.0), size=8, walltime=HOUR, known_nodes=0)
    world = run(made)
    ended(world)
    avoided = {node for _, ask in world.asked for node in ask.avoid}
    assert avoided == {"p0", "p1", "p2"}
    tries = [entry for entry in world.batches[1].past for node in entry.nodes if node in avoided]
    # In six hours: three each, one more after one, three and seven hours, and some that were asked for before. Without: hundreds.
    assert len(tries) <= 30


def test_a_controller_that_is_away_stops_nothing_that_runs() -> None:
    world = run(one_pool(Faults(away=((400.0, 3 * HOUR),)), batch_of(60, seconds=600.0)))
    ended(world)
    assert max(task.ended for task in world.tasks) < 2 * HOUR  # on the workers that were there


def test_preempted_and_restarted_allocations_are_found_again() -> None:
    world = run(one_pool(Faults(preempts=2.0, requeues=True), batch_of(60)), 2)
    ended(world)
    assert any(one.restarts for one in world.allocations.values())


def test_jobs_go_on_in_the_next_allocation_if_they_keep_checkpoints() -> None:
    jobs = [Job(1.0, 1, 16, 20 * HOUR, 24 * HOUR, checkpoints=True) for _ in range(4)]
    world = run(one_pool(Faults(), jobs, walltime=4 * HOUR))
    ended(world)
    assert min(task.tries for task in world.tasks) >= 5


def test_what_no_pool_could_run_costs_nothing() -> None:
    jobs = [Job(1.0, 1, 99, 60, 600, hopeless=True), Job(1.0, 1, 1, 60, 100 * HOUR, hopeless=True)]
    world = run(one_pool(Faults(), jobs), until=3 * 24 * HOUR)
    assert world.asked == []
    world = run(one_pool(Faults(), [Job(1.0, 1, 1, 60, 600, program="nosuch", hopeless=True), *batch_of(1, at=9000.0)]))
    assert len(world.asked) == 2  # one to learn what its workers have


def test_a_pool_that_is_paused_lets_go_and_goes_on_when_it_is_resumed() -> None:
    world = build(one_pool(Faults(), batch_of(300), walltime=HOUR), 1, truth.Truth())
    world.run(300, quiet=False)
    world.pools[1] = replace(world.pools[1], paused="new disks")
    world.changed()
    world.run(2 * HOUR, quiet=False)
    assert not world.hands
    assert not [one for one in world.allocations.values() if one.state is not State.ENDED]
    assert not world.done
    world.pools[1] = replace(world.pools[1], paused=None)
    world.changed()
    world.run(LONG)
    ended(world)


@pytest.mark.parametrize(
    ("name", "wait", "most"),
    [("ensemble", "quick", 1.05), ("ensemble", "busy", 1.1), ("bursts", "busy", 1.12), ("array", "quick", 1.1)],
)
def test_node_hours_beside_the_oracle(name: str, wait: str, most: float) -> None:
    """All traces and seeds: benchmarks/p1_autoscaler.py."""
    world = run(plain(scenario.TRACES[name](random.Random(1)), wait))
    ended(world)
    theirs = oracle.packing(world.intervals, 32)
    assert oracle.node_seconds(world.intervals, {1: 32}) <= theirs
    assert world.batches[1].node_seconds() <= most * theirs


def test_the_kept_trace_is_the_one_of_its_seed() -> None:
    kept, made = trace.read(), trace.week(random.Random(trace.SEED))
    assert [(job.cores, round(job.seconds)) for job in made] == [(job.cores, round(job.seconds)) for job in kept]


def test_the_oracle_packs_what_can_be_packed() -> None:
    together = [(0.0, 10.0, 8, 1), (0.0, 10.0, 8, 1), (20.0, 30.0, 16, 1)]
    assert oracle.packing(together, 16) == 20
    assert oracle.node_seconds(together, {1: 16}) == 20
    apart = [(0.0, 10.0, 12, 1), (0.0, 30.0, 8, 1), (5.0, 30.0, 8, 1)]
    assert oracle.packing(apart, 16) == 40  # the third joins the second
    assert oracle.node_seconds(apart, {1: 16}) == 10 * 2 + 20
