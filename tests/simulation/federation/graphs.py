"""Who trusts whom: pairs of servers, by the shape of the network."""

from __future__ import annotations

import random

Pair = tuple[int, int]  # the smaller number first
SHAPES = ("chain", "ring", "star", "mesh", "tree", "random")


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
        case _:  # a tree, and for "random" some more
            found = {(chance.randrange(1, number), number) for number in range(2, last + 1)}
            for _ in range(servers // 2 if shape == "random" else 0):
                one, other = sorted(chance.sample(range(1, last + 1), 2))
                found.add((one, other))
    return tuple(sorted(found))
