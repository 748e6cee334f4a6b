"""Who trusts whom: pairs of servers, by the shape of the network."""

from __future__ import annotations

import random
from collections import Counter

Pair = tuple[int, int]  # the smaller number first
SHAPES = ("chain", "ring", "star", "mesh", "tree", "random")
MANY = (*SHAPES, "regular", "islands")
MESH = 40  # servers at most that are all connected with each other, where faults come too
ISLAND = 7  # servers of one


def pairs(shape: str, servers: int, chance: random.Random) -> tuple[Pair, ...]:
    """The pairs of servers 1, 2, … that trust each other, in order. Every server is reached from every other one."""
    last = servers
    match shape:
        case "chain":
            found = {(number, number + 1) for number in range(1, last)}
        case "ring":
            found = {(number, number + 1) for number in range(1, last)} | ({(1, last)} if last > 2 else set())
        case "star":
            found = {(1, number) for number in range(2, last + 1)}
        case "mesh":
            found = {(one, other) for one in range(1, last + 1) for other in range(one + 1, last + 1)}
        case "regular" if servers >= 8:  # fewer cannot have three each, or hardly
            return regular(servers, 3, chance)
        case "islands":
            found = _islands(servers, chance)
        case _:  # a tree, and some more
            found = {(chance.randrange(1, number), number) for number in range(2, last + 1)}
            for _ in range(servers // 2 if shape != "tree" else 0):
                one, other = sorted(chance.sample(range(1, last + 1), 2))
                found.add((one, other))
    return tuple(sorted(found))


def regular(servers: int, degree: int, chance: random.Random) -> tuple[Pair, ...]:
    """A random graph in which all are connected, with `degree` links at each server, or one more or less."""
    found = {(chance.randrange(max(1, number - 10), number), number) for number in range(2, servers + 1)}
    ends = Counter(number for pair in found for number in pair)
    while 2 * len(found) < degree * servers:
        few = sorted(range(1, servers + 1), key=lambda number: (ends[number], chance.random()))
        one, other = sorted((few[0], chance.choice(few[1 : max(2, servers // 2)])))
        if (one, other) not in found:
            found.add((one, other))
            ends.update((one, other))
    return tuple(sorted(found))


def _islands(servers: int, chance: random.Random) -> set[Pair]:
    """Small meshes, as departments are, in a ring, each with the next one by a link between any two."""
    groups = [range(first, min(first + ISLAND, servers + 1)) for first in range(1, servers + 1, ISLAND)]
    found = {(one, other) for group in groups for one in group for other in group if one < other}
    for group, following in zip(groups, [*groups[1:], groups[0]], strict=True):
        if group != following:
            one, other = sorted((chance.choice(group), chance.choice(following)))
            found.add((one, other))
    return found
