"""Facts about pools, short to write: what a test does not say does not matter to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cpc.core.resources import GIB, Amounts
from cpc.pools.allocation import Allocation, State
from cpc.pools.facts import HOUR, Decision, Demand, Learned, NodeRecord, Pool, Worker
from cpc.pools.scale import decide
from cpc.pools.survey import Survey
from cpc.queue.match import Exact
from cpc.queue.requirement import Requirement, grid

#: A Monday morning.
NOW = 1_000_000.0


def pool(number: int = 1, **fields: Any) -> Pool:
    """16 cores a node, one node, two hours."""
    given = {"name": f"pool{number}", "scheduler": "slurm", "each": Amounts(cores=16), "walltime": 2 * HOUR} | fields
    return Pool(number=number, **given)


def demand(
    count: int = 1, cores: int = 1, project: int = 1, walltime: float = 3600.0, program: str = "", **fields: Any
) -> Demand:
    """Jobs without checkpoints that just began to wait; earlier ones took an hour. `need`, `labels`, `checkpoints`, `max_cores`:
    as for jobs."""
    fields = {"before": HOUR} | fields
    need = fields.pop("need", Amounts(cores=cores))
    labels = fields.pop("labels", ())
    exact = Exact(need, fields.pop("max_cores", need.cores), walltime, fields.pop("checkpoints", False))
    other = tuple(sorted(need.other.items()))
    requirement = Requirement(
        program, fields.pop("versions", ""), labels, need.cores, need.gpus, grid(need.memory), other, grid(walltime)
    )
    return Demand(project=project, requirement=requirement, exact=exact, count=count, **fields)


def allocation(token: str = "t1", number: int = 1, state: State = State.WAITING, **fields: Any) -> Allocation:
    """Of a pool as `pool` makes them, asked for a minute ago; one that runs began half a minute ago."""
    given: dict[str, Any] = {
        "asked_at": NOW - 60,
        "each": Amounts(cores=16),
        "walltime": 2 * HOUR,
        "needed_at": NOW,
    } | fields
    if state is State.RUNNING:
        started = given.setdefault("started_at", NOW - 30)
        given.setdefault("ends_at", started + given["walltime"])
    return Allocation(token=token, pool=number, state=state, **given)


def worker(token: str = "t1", cores: int = 16, free: int | None = None, **fields: Any) -> Worker:
    """It is idle since now if nothing runs there."""
    left = cores if free is None else free
    given: dict[str, Any] = {"number": 1, "used": True, "deadline": NOW + 2 * HOUR}
    given |= {"idle_since": NOW if left == cores else 0.0} | fields
    return Worker(
        token=token, total=Amounts(cores=cores, memory=64 * GIB), free=Amounts(cores=left, memory=64 * GIB), **given
    )


def deciding(
    pools: Sequence[Pool],
    wanted: Sequence[Demand] = (),
    allocations: Iterable[Allocation] = (),
    workers: Sequence[Worker] = (),
    nodes: Iterable[NodeRecord] = (),
    learned: Mapping[int, Learned] | None = None,
    now: float = NOW,
) -> Decision:
    """`decide`, with most of it left out."""
    return decide(now, pools, wanted, allocations, workers, nodes, learned)


def survey(
    pools: Sequence[Pool],
    wanted: Sequence[Demand] = (),
    allocations: Iterable[Allocation] = (),
    workers: Sequence[Worker] = (),
    nodes: Iterable[NodeRecord] = (),
    learned: Mapping[int, Learned] | None = None,
    now: float = NOW,
) -> Survey:
    """The look that a decision follows from."""
    return Survey(now, pools, wanted, allocations, workers, nodes, learned or {})
