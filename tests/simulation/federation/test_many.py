"""More servers than anybody knows by name, under faults, by seed; without TLS between them. `make soak` has a hundred."""

from __future__ import annotations

import pytest

from tests.simulation import logs
from tests.simulation.by_hand import collected
from tests.simulation.federation.universe import run_many

__all__ = ["collected"]


@pytest.mark.parametrize(("servers", "shape", "seed"), [(12, "regular", 1), (14, "", 101)])
def test_a_network_of_many_servers_settles_and_nothing_is_lost_whatever_happens(
    servers: int, shape: str, seed: int
) -> None:
    universe = run_many(servers, shape, seed)
    if universe.broken:
        pytest.fail(universe.report(), pytrace=False)
    logs.listen()
    del universe
    logs.sweep()
