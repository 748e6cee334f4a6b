"""What somebody would have used who knew the trace, at equal waiting time: every job begins and ends as it did with us."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

#: (begin, end, cores, pool) of what ran to some use.
Interval: TypeAlias = tuple[float, float, int, int]


@dataclass(slots=True)
class _Node:
    opened: float
    free: int
    ends: list[tuple[float, int]] = field(default_factory=list)  # (when, cores), a heap
    last: float = 0.0  # when the last of its jobs ends


def packing(intervals: Sequence[Interval], cores: int) -> float:
    """Node-seconds of an oracle that can do what a batch system can, but knows the future.

    It has a node the second a job needs one and gives it back the second it is empty. It packs in several ways, by what it
    knows of the ends, and the best of them counts: the problem is NP-hard, so there may be a better one still.
    """
    return min(_pack(sorted(intervals), cores, choose) for choose in (_fullest, _least_longer, _closest_end))


_Choice: TypeAlias = Callable[[_Node, float], tuple[float, float]]


def _fullest(node: _Node, _: float) -> tuple[float, float]:
    return (node.free, node.opened)


def _least_longer(node: _Node, end: float) -> tuple[float, float]:
    """The node that is kept least longer for it."""
    return (max(0.0, end - node.last), node.free)


def _closest_end(node: _Node, end: float) -> tuple[float, float]:
    return (abs(end - node.last), node.free)


def _pack(intervals: Sequence[Interval], cores: int, choose: _Choice) -> float:
    nodes: list[_Node] = []
    total = 0.0
    for begin, end, taken, _ in intervals:
        open_ones: list[_Node] = []
        for node in nodes:
            while node.ends and node.ends[0][0] <= begin:
                node.free += heapq.heappop(node.ends)[1]
            if node.ends:
                open_ones.append(node)
            else:
                total += node.last - node.opened
        nodes = open_ones
        fitting = [node for node in nodes if node.free >= taken]
        if fitting:
            node = min(fitting, key=lambda node: choose(node, end))
        else:
            node = _Node(begin, cores)
            nodes.append(node)
        node.free -= taken
        node.last = max(node.last, end)
        heapq.heappush(node.ends, (end, taken))
    return total + sum(node.last - node.opened for node in nodes)


def node_seconds(intervals: Sequence[Interval], cores: dict[int, int]) -> float:
    """What nobody can use less than, with these times: an oracle that moves running jobs between nodes at will.

    `cores` of a node, by pool.
    """
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
