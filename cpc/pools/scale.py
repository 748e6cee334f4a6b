"""What to ask pools for, what to cancel, and who may go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cpc.pools.allocation import Allocation
from cpc.pools.facts import Decision, Demand, Learned, NodeRecord, Pool, Worker


def decide(
    now: float,
    pools: Sequence[Pool],
    demand: Sequence[Demand],
    allocations: Iterable[Allocation],
    workers: Sequence[Worker] = (),
    nodes: Iterable[NodeRecord] = (),
    learned: Mapping[int, Learned] | None = None,
) -> Decision:
    """What should happen now.

    `allocations`: at least all that have not ended. `workers`: all that are joined, also those that nobody asked a pool
    for. `learned` by number of pool. Called again whenever one of them has changed (a few times a second at most), and at
    `Decision.again_at`; asks that it made must be among `allocations` by then.
    """
    return Decision()
