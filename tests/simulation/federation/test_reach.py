"""Whose workers may run a job is found step by step, and as sharply as by walking every way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

from cpc.core.peer import Agreement, Limits
from cpc.queue import terms
from tests.simulation.federation.graphs import MANY, Pair, pairs
from tests.simulation.federation.reach import Reach, Way, Work

Agreements = dict[tuple[int, int], Agreement]
LIMITS = (
    Limits(),
    Limits(),
    Limits(),
    Limits(cores=2),
    Limits(off=True),
    Limits(executables=("sim",)),
    Limits(projects=("p",)),
)


def agreed(chance: random.Random, found: tuple[Pair, ...]) -> Agreements:
    """Anything: also what no operator would set."""
    made = {}
    for one, other in found:
        for pair in ((one, other), (other, one)):
            if chance.random() < 0.1:
                made[pair] = Agreement(lent=Limits(off=True), accepted=Limits(off=True))  # as if it was not trusted
                continue
            lend_on = chance.choice([16, 16, 3, 2, 1, 0])
            made[pair] = Agreement(lent=chance.choice(LIMITS), accepted=chance.choice(LIMITS), lend_on=lend_on)
    return made


def near(servers: int, found: tuple[Pair, ...]) -> dict[int, list[int]]:
    """Whom each one trusts."""
    return {
        one: sorted(sum(pair) - one for pair in found if one in pair) for one in range(1, servers + 1)
    }  # fmt: skip


def by_all_ways(owner: int, trusted: dict[int, list[int]], agreement: Agreements, work: Work) -> set[int]:
    """The same by the definition, in exponential time."""

    def ways(begun: Way) -> Iterator[Way]:
        for number in trusted[begun[0]]:
            if number not in begun:
                yield (number, *begun)
                yield from ways((number, *begun))

    def lets(way: Way) -> bool:
        for place, (here, peer) in enumerate(pairwise(way)):
            lent = agreement[here, peer].lent
            if place and terms.withdrawn(agreement[here, way[place - 1]]):
                return False
            if lent.off or agreement[here, peer].lend_on < len(way) - 2 - place:
                return False
            if lent.cores is not None and (work.plenty or lent.cores < work.cores):
                return False
            if lent.executables is not None and work.executable not in lent.executables:
                return False
        accepted = agreement[way[-1], way[-2]].accepted
        if accepted.off or (accepted.cores is not None and (work.plenty or accepted.cores < work.cores)):
            return False
        return accepted.projects is None or work.project in accepted.projects

    def detour(way: Way) -> bool:
        return any(there in trusted[here] for here, there in combinations(way, 2) if there != way[way.index(here) + 1])

    return {owner, *(way[0] for way in ways((owner,)) if lets(way) and not detour(way))}


@pytest.mark.parametrize("first", range(0, 240, 60))
def test_servers_that_may_lend_are_those_that_are_found_by_walking_every_way(first: int) -> None:
    for seed in range(first, first + 60):
        chance = random.Random(seed)
        servers = chance.randrange(3, 7)
        found = pairs(chance.choice(MANY), servers, chance)
        trusted, agreement = near(servers, found), agreed(chance, found)
        for owner in range(1, servers + 1):
            work = Work(
                chance.choice([1, 2, 4]), chance.choice(["", "sim"]), chance.choice(["p", "q"]), chance.random() < 0.3
            )
            homes = Reach(owner, trusted, lambda here, peer, made=agreement: made[here, peer], work).homes()  # type: ignore[misc]
            assert homes == by_all_ways(owner, trusted, agreement, work), (seed, owner, work)


def test_a_dense_network_of_sixty_servers_is_walked_in_no_time() -> None:
    """A way at a time for each server: walking all of them would take for ever."""
    chance = random.Random(1)
    found = pairs("islands", 60, chance)
    reach = Reach(1, near(60, found), lambda here, peer: Agreement(lend_on=16), Work(1, "", "p"))
    assert len(reach.homes()) > 45
