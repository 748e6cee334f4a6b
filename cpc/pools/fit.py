"""What a pool's worker would be, and whether it could run a job: by the queue's own rules, so that the two never differ."""

from __future__ import annotations

from functools import lru_cache

from cpc.core.resources import Amounts, show_span
from cpc.pools.facts import PER_NODE, Demand, Learned, Pool
from cpc.pools.learning import JOIN
from cpc.queue import requirement
from cpc.queue.match import Exact
from cpc.queue.requirement import Profile, Requirement

#: Seconds that a direct allocation has beyond its job's walltime and the margin, for the way to the first job.
SLACK = 900.0
#: Taken for an amount that is not known.
ENOUGH = 1 << 60


def workers(pool: Pool, nodes: int) -> int:
    """How many workers an allocation of so many nodes has."""
    return nodes if pool.platform in PER_NODE else 1


def per_worker(pool: Pool, each: Amounts, nodes: int) -> Amounts:
    """What one worker has where one node has `each`."""
    if pool.platform in PER_NODE or nodes == 1:
        return each
    other = {name: amount * nodes for name, amount in each.other.items()}
    return Amounts(cores=each.cores * nodes, gpus=each.gpus * nodes, memory=each.memory * nodes, other=other)


def amounts(pool: Pool, learned: Learned) -> Amounts:
    """What a worker of the pool's next allocation is expected to have: what was asked for, or what came instead."""
    asked = per_worker(pool, pool.each, pool.nodes)
    seen = learned.each
    if seen is None:
        return Amounts(cores=asked.cores, gpus=asked.gpus, memory=asked.memory or ENOUGH, other=asked.other)
    return Amounts(
        cores=min(asked.cores, seen.cores),
        gpus=min(asked.gpus, seen.gpus),
        memory=min(asked.memory or ENOUGH, seen.memory),
        other={name: min(amount, seen.other.get(name, 0)) for name, amount in asked.other.items()},
    )


def programs(pool: Pool, learned: Learned) -> tuple[tuple[str, str], ...] | None:
    """What its workers have: what the last one said, until then what a person has; None: nobody knows yet."""
    return learned.programs if learned.programs is not None else pool.programs


def unknown(pool: Pool, learned: Learned, need: Requirement) -> bool:
    """Whether only a worker of it could tell if it has the program."""
    return bool(need.executable) and programs(pool, learned) is None


def profile(pool: Pool, learned: Learned) -> Profile:
    """Of its next worker."""
    return requirement.profile(programs(pool, learned) or (), pool.labels, amounts(pool, learned))


@lru_cache(maxsize=4096)
def misses(need: Requirement, who: Profile) -> tuple[tuple[str, str], ...]:
    """Why such a worker could never run the class; remembered, because few kinds of workers are asked for few classes."""
    return tuple(requirement.misses(need, who))


def could(need: Requirement, who: Profile) -> bool:
    """Whether such a worker could ever run the class."""
    return not misses(need, who)


def in_time(exact: Exact, left: float) -> bool:
    """Whether a worker with so much time left is given such a job."""
    return left > 0 and (exact.walltime <= left or exact.checkpoints)


def how_many(have: Amounts, need: Amounts) -> int:
    """How many such jobs fit at a time."""
    pairs = [(have.cores, need.cores), (have.gpus, need.gpus), (have.memory, need.memory)]
    pairs += [(have.other.get(name, 0), amount) for name, amount in need.other.items()]
    return max(0, min((has // needs for has, needs in pairs if needs > 0), default=ENOUGH))


def span(pool: Pool, learned: Learned, walltime: float) -> float:
    """Seconds that a worker has for jobs in an allocation of such a walltime."""
    joins = max(learned.joins, default=JOIN)
    return walltime - pool.margin - max(JOIN, 1.5 * joins)


def shape(pool: Pool, demand: Demand) -> tuple[int, Amounts, float]:
    """What to ask for: (nodes, what each has, walltime). A direct pool is asked for just what the job needs."""
    if not pool.direct:
        return pool.nodes, pool.each, pool.walltime
    need, most = demand.exact.need, max(demand.exact.max_cores, demand.exact.need.cores)
    walltime = pool.walltime
    if demand.exact.walltime:
        walltime = min(walltime, demand.exact.walltime + pool.margin + SLACK)
    if pool.each.covers(Amounts(cores=need.cores, gpus=need.gpus)):
        cores = max(need.cores, min(most, pool.each.cores))
        return 1, Amounts(cores=cores, gpus=need.gpus, memory=need.memory, other=need.other), walltime
    nodes = max(-(-need.cores // max(1, pool.each.cores)), -(-need.gpus // max(1, pool.each.gpus)))
    return min(pool.nodes, nodes), pool.each, walltime


def lacks(pool: Pool, learned: Learned, demand: Demand) -> list[tuple[str, str]]:
    """Why no worker of the pool could ever run the class, (kind, words); empty: one could, or nobody knows."""
    who = profile(pool, learned)
    need = demand.requirement
    missing = requirement.misses(need, who)
    if unknown(pool, learned, need):
        missing = [miss for miss in missing if miss[0] != "executable"]
    if not missing:
        missing = requirement.shortage(demand.exact.need, who.amounts, "in all")
    left = span(pool, learned, pool.walltime)
    if left <= 0:
        words = f"its workers have no time for jobs within {show_span(pool.walltime)}, of which they leave the last "
        missing.append(("time", words + f"{show_span(pool.margin)}; set a longer --walltime"))
    elif not in_time(demand.exact, left):
        words = f"needs {show_span(demand.exact.walltime)} and has no checkpoints; it has {show_span(left)}"
        missing.append(("time", words))
    return missing
