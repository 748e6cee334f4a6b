"""What stories told by hand are made of. Import the fixtures where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cpc.core.spec import JobSpec
from tests.helpers.memory_disk import Platter
from tests.simulation import logs
from tests.simulation.network import Faults
from tests.simulation.plan import ALL, Plan
from tests.simulation.world import World

QUIET = Plan(span=1e9, workers=2, clients=0, mean=1e12, lost_replies=0.0, faults=Faults())


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """What killed processes leave is collected here and nowhere else: their coroutines say things that mean nothing."""
    logs.deaf()
    yield
    logs.hear_again()


def quiet(seed: int = 1, **fields: object) -> World:
    """A world in which nothing goes wrong by itself, with a server that runs."""
    made = World(seed, replace(QUIET, **fields))  # type: ignore[arg-type]
    for worker in made.workers.values():
        worker.kind, worker.platter = ALL, Platter(made.reactor.seconds)
    made.start_server()
    made.until(lambda: made.server is not None and made.server.ready)
    return made


def end(made: World) -> None:
    """Nothing is wrong in it; let go of it."""
    made.check()
    heard = list(logs.heard)
    made.close()
    assert made.broken == []
    assert heard == []


@pytest.fixture
def world() -> Iterator[World]:
    """A server and two workers; nothing goes wrong by itself."""
    made = quiet()
    yield made
    end(made)


def submit(world: World, *argv: str, **fields: object) -> int:
    """Submit and be told."""
    spec = JobSpec(argv=("run", *argv), **fields)  # type: ignore[arg-type]
    return world.submit(spec)


def join(world: World, *names: str) -> None:
    for name in names:
        world.workers[name].start()
    world.until(lambda: all(world.joined(name) for name in names))


def runner(world: World) -> str:
    """Where a program runs, as soon as one does."""
    busy: list[str] = []

    def runs() -> bool:
        busy.extend(name for name, worker in world.workers.items() if worker.agent and worker.processes.running())
        return bool(busy)

    world.until(runs)
    return busy[0]


def state(world: World, job: int) -> str:
    return world.state(job).label
