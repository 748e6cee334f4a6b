"""Networks of servers under faults, by seed. A failure prints its seed and its story."""

from __future__ import annotations

import pytest

from tests.simulation import logs
from tests.simulation.by_hand import collected
from tests.simulation.federation.universe import run

__all__ = ["collected"]

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_of_servers_settles_and_nothing_is_lost_whatever_happens(seed: int) -> None:
    universe = run(seed)
    if universe.broken:
        pytest.fail(universe.report(), pytrace=False)
    logs.listen()
    del universe
    logs.sweep()


def test_the_same_seed_tells_the_same_story_of_many_servers() -> None:
    one, two = run(3), run(3)
    assert one.story.lines == two.story.lines
    assert one.reactor.steps == two.reactor.steps
