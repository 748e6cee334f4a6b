"""Projects with networks under faults, by seed. A failure prints its seed and its story."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.simulation import logs
from tests.simulation.by_hand import collected
from tests.simulation.plan import Plan
from tests.simulation.world import World, run

__all__ = ["collected"]


def with_network(seed: int) -> World:
    """The world of this seed, with a network in it; every third one is restored from backups."""
    return run(seed, replace(Plan.of(random.Random(seed + 1)), networks=True, restores=seed % 3 == 0))


@pytest.mark.parametrize("seed", [*range(14), 30, 31])
def test_a_network_ends_as_its_inputs_say_whatever_happens(seed: int) -> None:
    world = with_network(seed)
    if world.broken:
        pytest.fail(world.report(), pytrace=False)
    logs.listen()
    del world
    logs.sweep()


def test_the_same_seed_tells_the_same_story_of_a_network() -> None:
    one, two = with_network(2), with_network(2)
    assert one.story.lines == two.story.lines
    assert one.reactor.steps == two.reactor.steps
