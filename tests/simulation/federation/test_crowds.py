"""How much many servers say to each other: bounded by whom it is of use to. The larger ones are told by `crowds.py`."""

from __future__ import annotations

import pytest

from tests.simulation.by_hand import collected
from tests.simulation.federation.crowds import burst, crowd, met, said, start, too_many

__all__ = ["collected"]


@pytest.mark.parametrize(
    "made", [crowd("mesh", 40, 10), crowd("star", 100, 10), crowd("random", 40, 5, 3), crowd("chain", 12, 1)],
    ids=lambda made: f"{made.name}-{made.servers}",
)  # fmt: skip
def test_a_network_is_not_flooded_by_workers_that_come_or_by_jobs(made) -> None:  # type: ignore[no-untyped-def]
    """Those who have asked are called when there is work, and ask where it is; nobody else hears of it."""
    with met(made) as universe:
        begun = start(universe, made)
        before = universe.frames.copy()
        universe.reactor.advance(50.0)
        assert not said(universe, before), (
            "nothing but signs of life, while there is no work and everybody has been asked"
        )
        assert universe.frames["alive"] - before["alive"] == 2 * 4 * len(made.pairs)
        jobs = 200 if len(made.homes) > 1 else 40
        told = burst(universe, made, jobs)
        assert not too_many(made, begun, told, jobs), (begun, told)
