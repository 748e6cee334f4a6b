"""The whole network under faults, by seed. A failure prints its seed and its story."""

from __future__ import annotations

import random

import pytest

from tests.simulation import logs
from tests.simulation.by_hand import collected
from tests.simulation.plan import Plan
from tests.simulation.world import run

__all__ = ["collected"]

BATCH = 10
SEEDS = 120  # `make soak` goes on from here


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_acknowledged_is_lost_whatever_happens(first: int) -> None:
    for seed in range(first, first + BATCH):
        world = run(seed)
        if world.broken:
            pytest.fail(world.report(), pytrace=False)
        logs.listen()
        del world
    logs.sweep()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_when_the_next_fault_comes_before_all_have_recovered(seed: int) -> None:
    world = run(seed, Plan.dense(random.Random(seed + 1)))
    if world.broken:
        pytest.fail(f"{world.report()} --dense", pytrace=False)
    assert world.faults.total() > 50
    logs.listen()
    del world
    logs.sweep()


@pytest.mark.parametrize("seed", [3, 8, 31])
def test_the_same_seed_tells_the_same_story(seed: int) -> None:
    one, two = run(seed), run(seed)
    assert one.story.lines == two.story.lines
    assert one.story.digest == two.story.digest
    assert one.reactor.steps == two.reactor.steps


def test_another_seed_tells_another_story() -> None:
    assert run(3).story.digest != run(4).story.digest
