"""What stories of a few servers, told by hand, are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpc.core.spec import JobSpec
from tests.helpers.memory_disk import Platter
from tests.simulation import logs
from tests.simulation.federation.graphs import Pair
from tests.simulation.federation.plan import Bond, WidePlan
from tests.simulation.federation.universe import Universe
from tests.simulation.network import Faults
from tests.simulation.plan import ALL, Plan

QUIET = Plan(span=1e9, actions=0, mean=1e12, lost_replies=0.0, faults=Faults())
CHAIN: tuple[Pair, ...] = ((1, 2), (2, 3))


def quiet(
    pairs: Sequence[Pair], workers: Sequence[int], bonds: Mapping[tuple[int, int], Bond] | None = None,
    dials: Mapping[Pair, int] | None = None, **fields: Any
) -> Universe:  # fmt: skip
    """Servers 1, 2, … (as many as `workers` has numbers) of which these pairs are connected; nothing goes wrong by itself."""
    made = asleep(pairs, workers, bonds, dials, **fields)
    for site in made.sites.values():
        site.start_server()
    made.until(lambda: not made.trust.apart())
    return made


def asleep(
    pairs: Sequence[Pair], workers: Sequence[int], bonds: Mapping[tuple[int, int], Bond] | None = None,
    dials: Mapping[Pair, int] | None = None, **fields: Any
) -> Universe:  # fmt: skip
    """The same before any server has started."""
    plan = WidePlan(
        len(workers), "by hand", tuple(pairs), dict(bonds or {}), tuple(workers), (0,) * len(workers), QUIET,
        dict(dials or {}), **fields
    )  # fmt: skip
    made = Universe(1, plan)
    for site in made.sites.values():
        for worker in site.workers.values():
            worker.kind, worker.platter = ALL, Platter(made.reactor.seconds)
    made.trust.found()
    return made


def end(made: Universe) -> None:
    """Nothing is wrong in it; let go of it."""
    for site in made.sites.values():
        site.check()
    heard = list(logs.heard)
    made.close()
    assert made.broken == [], made.story.last(60)
    assert heard == []


def submit(made: Universe, server: int, *argv: str, project: str = "p", **fields: Any) -> int:
    """Submit to a server and be told; the job's id there."""
    return made.sites[server].submit(JobSpec(argv=("run", *argv), **fields), project)


def join(made: Universe, *names: str) -> None:
    """Start these workers."""
    for name in names:
        made.home_of(name).workers[name].start()
    made.until(lambda: all(made.home_of(name).joined(name) for name in names))


def state(made: Universe, server: int, job: int) -> str:
    """Where a job stands."""
    return made.sites[server].state(job).label


def runs(made: Universe, name: str) -> tuple[str, ...]:
    """The programs that a worker runs now."""
    worker = made.home_of(name).workers[name]
    return worker.processes.running() if worker.agent is not None else ()
