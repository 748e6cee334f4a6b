"""A directed graph in layers from left to right, with few crossings. Nodes and layers are numbers from 0; nothing is drawn here.

The method of Sugiyama: edges that close a cycle are set aside, each node gets the layer behind the last one that it depends
on, and within the layers nodes are sorted by the mean place of their neighbours, to and fro, as long as it helps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence

Edge = tuple[int, int]

SWEEPS = 8


def backward(count: int, edges: Sequence[Edge]) -> list[bool]:
    """For each edge whether it closes a cycle: without those that do, there is none."""
    leaving = _leaving(count, edges)
    entered = {target for source, target in edges if source != target}
    back = [source == target for source, target in edges]
    done = [False] * count
    path = [False] * count
    for start in sorted(range(count), key=lambda node: (node in entered, node)):
        if done[start]:
            continue
        stack = [(start, iter(leaving[start]))]
        path[start] = done[start] = True
        while stack:
            node, rest = stack[-1]
            edge = next(rest, None)
            if edge is None:
                path[node] = False
                stack.pop()
                continue
            target = edges[edge][1]
            if path[target]:
                back[edge] = True
            elif not done[target]:
                path[target] = done[target] = True
                stack.append((target, iter(leaving[target])))
    return back


def layers(count: int, edges: Sequence[Edge]) -> list[int]:
    """Each node's layer, for edges without cycles: behind all that lead to it, and what begins stands near its target."""
    leaving = _leaving(count, edges)
    waiting = [0] * count
    for _, target in edges:
        waiting[target] += 1
    first = [not waiting[node] for node in range(count)]
    found = [0] * count
    ready = [node for node in range(count) if first[node]]
    for node in ready:
        for edge in leaving[node]:
            target = edges[edge][1]
            found[target] = max(found[target], found[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for node in range(count):
        if first[node] and leaving[node]:
            found[node] = min(found[edges[edge][1]] for edge in leaving[node]) - 1
    return found


def ordered(rows: Sequence[Sequence[int]], edges: Sequence[Edge]) -> list[list[int]]:
    """The nodes of each layer from top to bottom. Every edge leads from a layer to the next one."""
    left, right = _neighbours(edges)
    best = now = [list(row) for row in rows]
    fewest = crossings(best, edges)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        now = [list(row) for row in now]
        steps = range(1, len(now)) if forth else range(len(now) - 2, -1, -1)
        for at in steps:
            beside = now[at - 1] if forth else now[at + 1]
            _sort(now[at], beside, left if forth else right)
        found = crossings(now, edges)
        if found < fewest:
            best, fewest = now, found
    return best


def _sort(row: list[int], beside: list[int], neighbours: dict[int, list[int]]) -> None:
    """By the mean place of the neighbours; nodes without any keep their place."""
    place = {node: at for at, node in enumerate(beside)}
    scale = len(beside) / max(1, len(row))
    wish = {}
    for at, node in enumerate(row):
        places = [place[one] for one in neighbours.get(node, ())]
        wish[node] = sum(places) / len(places) if places else at * scale
    row.sort(key=wish.__getitem__)


def crossings(rows: Sequence[Sequence[int]], edges: Sequence[Edge]) -> int:
    """How many pairs of edges cross."""
    place = {node: (layer, at) for layer, row in enumerate(rows) for at, node in enumerate(row)}
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for source, target in edges:
        layer, at = place[source]
        by_layer.setdefault(layer, []).append((at, place[target][1]))
    total = 0
    for pairs in by_layer.values():
        ends: list[int] = []
        for _, end in sorted(pairs):
            total += len(ends) - bisect_right(ends, end)
            insort(ends, end)
    return total


def _leaving(count: int, edges: Sequence[Edge]) -> list[list[int]]:
    """The numbers of the edges that leave each node."""
    found: list[list[int]] = [[] for _ in range(count)]
    for number, (source, _) in enumerate(edges):
        found[source].append(number)
    return found


def _neighbours(edges: Sequence[Edge]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Of each node: those to the left, those to the right."""
    left: dict[int, list[int]] = {}
    right: dict[int, list[int]] = {}
    for source, target in edges:
        left.setdefault(target, []).append(source)
        right.setdefault(source, []).append(target)
    return left, right
