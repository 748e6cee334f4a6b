"""A worker of one server runs jobs of another: nothing is lost, nothing runs twice, and own work comes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lending_world import World


@pytest.fixture
def two(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "a", "c")
    world.net.trust("a", "c")
    yield world
    world.close()


def test_an_idle_worker_runs_the_jobs_of_a_peer(two: World) -> None:
    job = two["c"].submit("sleep", array=5)
    worker = two["a"].worker(cores=2)
    two.run(1)
    assert worker.jobs == ["1 of c", "1[1] of c"]
    assert two["c"].states(job, 5) == {"running": 2, "waiting": 3}
    for _ in range(3):
        worker.finish()
        two.run(1)
    assert two["c"].states(job, 5) == {"succeeded": 5}
    assert set(worker.verdicts.values()) == {"accepted"}
