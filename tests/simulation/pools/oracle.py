"""What somebody would have used who knew the trace.

At equal waiting time, job by job: every job begins and ends as it did, but the oracle moves jobs between nodes at will, has
a node the second it needs it, and gives it back the second it does not. No real schedule with these times can use less.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def node_seconds(intervals: Sequence[tuple[float, float, int, int]], cores: dict[int, int]) -> float:
    """The oracle's, for (begin, end, cores, pool) of all that ran to some use; `cores` of a node, by pool."""
    total = 0.0
    for pool, each in cores.items():
        changes = sorted(
            change
            for begin, end, taken, where in intervals
            if where == pool
            for change in ((begin, taken), (end, -taken))
        )
        busy = 0
        for (at, change), (until, _) in itertools.pairwise(changes):
            busy += change
            total += -(-busy // each) * (until - at)
    return total


def packed_seconds(intervals: Sequence[tuple[float, float, int, int]], cores: dict[int, int]) -> float:
    """Node-seconds if the work filled every core of every node: at any waiting time nobody can use less."""
    return sum((end - begin) * taken / cores[pool] for begin, end, taken, pool in intervals)
