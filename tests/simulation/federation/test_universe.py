"""Networks of servers under faults, by seed. A failure prints its seed and its story."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.simulation import logs
from tests.simulation.by_hand import collected
from tests.simulation.federation.contention import contends
from tests.simulation.federation.truth import RULES
from tests.simulation.federation.universe import run

__all__ = ["collected"]

SEEDS = [seed for seed in range(12) if not contends(seed)]
CONTENTION = [seed for seed in range(30) if contends(seed)]


@cache
def told(seed: int) -> tuple[str, Counter[str]]:
    """The report of a seed that broke something; else how often it has decided each rule."""
    universe = run(seed)
    found = universe.report() if universe.broken else "", universe.decided
    logs.listen()
    del universe
    logs.sweep()
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_of_servers_settles_and_nothing_is_lost_whatever_happens(seed: int) -> None:
    if report := told(seed)[0]:
        pytest.fail(report, pytrace=False)


@pytest.mark.parametrize("seed", CONTENTION)
def test_of_servers_that_contend_for_workers_each_has_its_turn(seed: int) -> None:
    """Own work first, then that of peers by priority, and in fair shares; no room is left while work waits."""
    if report := told(seed)[0]:
        pytest.fail(report, pytrace=False)


def test_each_rule_was_decided_by_some_seed() -> None:
    """One that never applies proves nothing."""
    decided = Counter[str]()
    for seed in (*CONTENTION, *SEEDS):
        decided += told(seed)[1]
    assert not [rule for rule in RULES if not decided[rule]], dict(decided)


def test_the_same_seed_tells_the_same_story_of_many_servers() -> None:
    one, two = run(3), run(3)
    assert one.story.lines == two.story.lines
    assert one.reactor.steps == two.reactor.steps
