"""Worlds from a seed: pools, traces and faults of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.pools.facts import HOUR, Pool
from tests.simulation.pools import trace, truth
from tests.simulation.pools.batch import Batch, Faults
from tests.simulation.pools.trace import Job
from tests.simulation.pools.world import PROGRAMS, World

Wait = Callable[[float, random.Random], float]

#: How long a submission waits for others to let it in: on an idle system, on a busy one, and one that is full by day.
WAITS: dict[str, Wait] = {
    "quick": lambda now, chance: chance.lognormvariate(3.0, 0.5),
    "busy": lambda now, chance: chance.lognormvariate(6.8, 0.8),
    "daily": lambda now, chance: chance.lognormvariate(7.5 if 8 * HOUR < now % (24 * HOUR) < 18 * HOUR else 4.0, 0.6),
}

TRACES: dict[str, Callable[[random.Random], list[Job]]] = {
    "ensemble": trace.ensemble,
    "steady": trace.steady,
    "array": trace.array,
    "bursts": trace.bursts,
    "week": lambda _: trace.read(),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a world is made of."""

    pools: tuple[Pool, ...]
    waits: tuple[str, ...]
    sizes: tuple[int, ...]
    faults: tuple[Faults, ...]
    jobs: tuple[Job, ...]


def build(scenario: Scenario, seed: int, check: Callable[[World], None] = lambda _: None) -> World:
    """The world, at its beginning."""
    world = World(list(scenario.pools), list(scenario.jobs), seed, check)
    for pool, wait, size, faults in zip(scenario.pools, scenario.waits, scenario.sizes, scenario.faults, strict=True):
        chance = random.Random(seed * 1000 + pool.number)
        world.add(pool.number, Batch(pool.name, size, WAITS[wait], faults, chance, world.after, world.clock))
    return world


def plain(jobs: list[Job], wait: str, cores: int = 32, size: int = 64) -> Scenario:
    """One pool, no faults."""
    pool = Pool(
        number=1, name="p", scheduler="model", each=Amounts(cores=cores), max_allocations=size, walltime=24 * HOUR
    )
    return Scenario((pool,), (wait,), (size,), (Faults(),), tuple(jobs))


def drawn(seed: int) -> Scenario:
    """Anything: one to three pools, some faults, a small trace."""
    chance = random.Random(seed)
    pools = tuple(_pool(chance, number) for number in range(1, chance.randint(1, 3) + 1))
    faults = tuple(_faults(chance) for _ in pools)
    sizes = tuple(chance.randint(pool.nodes + 3, 20) for pool in pools)
    waits = tuple(chance.choice(sorted(WAITS)) for _ in pools)
    pools = tuple(_with_size(pool, size, chance) for pool, size in zip(pools, sizes, strict=True))
    jobs = [job for job in _jobs(chance) if not job.hopeless and any(truth.could(pool, job) for pool in pools)]
    jobs += [Job(chance.uniform(0, 7200), 1, 1, 60, 600, program="nosuch", hopeless=True) for _ in range(3)]
    jobs += [Job(chance.uniform(0, 7200), 1, 4096, 60, 600, hopeless=True) for _ in range(2)]
    return Scenario(pools, waits, sizes, faults, tuple(sorted(jobs, key=lambda job: job.at)))


def _pool(chance: random.Random, number: int) -> Pool:
    nodes = chance.choice([1, 1, 1, 2, 4])
    cores = chance.choice([8, 16, 32])
    projects = chance.random() < 0.25
    walltime = chance.choice([2, 6, 24]) * HOUR
    return Pool(
        number=number,
        name="abc"[number - 1],
        scheduler="model",
        nodes=nodes,
        each=Amounts(cores=cores, gpus=chance.choice([0, 0, 2])),
        walltime=walltime,
        max_allocations=chance.choice([0, 1, 3, 10]),
        max_cores=chance.choice([0, 0, 4 * nodes * cores]),
        backlog=chance.choice([1, 4, 10]),
        budget=chance.choice([0, 0, 0, 4]) * nodes * cores * walltime / HOUR,
        idle=chance.choice([300.0, 900.0]),
        platform=chance.choice(["smp", "smp", "slurm"]),
        project_cores=2 * nodes * cores if projects else 0,
        programs=PROGRAMS if chance.random() < 0.5 else None,
        direct=chance.random() < 0.15,
        price=chance.choice([0.0, 0.01, 0.05]),
    )


def _with_size(pool: Pool, size: int, chance: random.Random) -> Pool:
    from msgspec.structs import replace

    return replace(pool, known_nodes=chance.choice([0, size]))


def _faults(chance: random.Random) -> Faults:
    def some(value: float) -> float:
        return value if chance.random() < 0.3 else 0.0

    def window() -> tuple[tuple[float, float], ...]:
        begin = chance.uniform(0, 6 * HOUR)
        return ((begin, begin + chance.uniform(600, 4 * HOUR)),) if chance.random() < 0.25 else ()

    return Faults(
        refuses=some(0.2), refusing=window(), ending=window(), away=window(), loses_answers=some(0.2), loses_jobs=some(0.1),
        starts_twice=some(0.1), preempts=some(0.3), requeues=chance.random() < 0.5, kills_nodes=some(0.1),
        bad_nodes=chance.choice([0, 0, 1, 2]),
    )  # fmt: skip


def _jobs(chance: random.Random) -> list[Job]:
    jobs: list[Job] = []
    for _ in range(chance.randint(1, 6)):
        begin, seconds = chance.uniform(0, 10 * HOUR), chance.lognormvariate(6.5, 1.2)
        seconds = min(seconds, 4 * HOUR)
        cores, gpus = chance.choice([1, 2, 8, 16, 64]), chance.choice([0, 0, 0, 1])
        program, project = chance.choice(["", "mdrun"]), chance.randint(1, 3)
        jobs += [
            Job(
                begin + chance.uniform(0, 600), project, cores, seconds * chance.uniform(0.7, 1.3), 2 * seconds + 60,
                chance.random() < 0.3, program, gpus,
            )
            for _ in range(chance.randint(1, 40))
        ]  # fmt: skip
    return jobs
