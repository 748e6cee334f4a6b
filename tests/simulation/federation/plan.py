"""How a network of servers is made: how many, who trusts whom, where workers and people are, what may go wrong; by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from cpc.core.peer import Agreement, Limits
from tests.simulation.federation.graphs import SHAPES, Pair, pairs
from tests.simulation.network import Faults
from tests.simulation.plan import Plan
from tests.simulation.versions import Release

FAR = 16  # lend_on that reaches everybody
DEFAULT = Agreement(lend_on=FAR)


@dataclass(frozen=True)
class Bond:
    """What the operator of one server has agreed with a peer; the smaller priority is asked first."""

    priority: int = 0
    agreement: Agreement = DEFAULT


@dataclass(frozen=True)
class WidePlan:
    """How a network is made. `bonds`: (server, peer) → what the server's operator has set for that peer.

    `workers`, `clients`: how many each server has, first that of server 1. `dials`: of a pair, which of the two can
    connect to the other: 0 is both. `trust`: whether operators change their minds in mid-flight. `plain`: links without TLS,
    for many servers (see `plain.py`).
    """

    servers: int
    shape: str
    pairs: tuple[Pair, ...]
    bonds: dict[tuple[int, int], Bond]
    workers: tuple[int, ...]
    clients: tuple[int, ...]
    base: Plan
    dials: dict[Pair, int]
    trust: bool = False
    hostile: bool = False
    hours: tuple[int, ...] = ()  # how far each server's clock, and those of its machines, are from the first one's
    old: tuple[int, ...] = ()  # servers whose release knows nothing of other servers
    releases: tuple[Release, ...] = ()  # that of each server; none: all of this one
    peer_grace: float = 900.0
    plain: bool = False

    @classmethod
    def of(cls, chance: random.Random) -> WidePlan:
        """By seed: three to eight servers."""
        servers = chance.choice([3, 3, 4, 4, 5, 6, 8])
        shape = chance.choice(SHAPES)
        found = pairs(shape, servers, chance)
        storm = chance.choice([0.0, 0.0, 0.001, 0.003])
        base = Plan(
            span=chance.choice([300.0, 600.0, 900.0]),
            actions=chance.choice([4, 8, 12]),
            mean=chance.choice([4.0, 15.0, 40.0]),
            lost_replies=chance.choice([0.0, 0.05]),
            slow=chance.random() < 0.3,
            check_every=3,
            also=("big",) if chance.random() < 0.4 else (),
            faults=Faults(cut=storm, stall=storm, stall_time=chance.choice([2.0, 40.0])),
        )
        workers = [chance.choice([0, 1, 1, 2]) for _ in range(servers)]
        clients = [chance.choice([0, 0, 1, 1]) for _ in range(servers)]
        # Somebody has work and no worker, and somebody a worker and no work: else the network has nothing to do.
        lender, owner = chance.sample(range(servers), 2)
        workers[lender], workers[owner], clients[owner] = max(1, workers[lender]), 0, max(1, clients[owner])
        made = cls(
            servers, shape, found, _bonds(chance, found), tuple(workers), tuple(clients), base,
            {pair: chance.choice([0, 0, 0, *pair]) for pair in found},
            trust=chance.random() < 0.5, hostile=chance.random() < 0.2,
            hours=tuple(chance.choice([0, 0, -9, 5, 20]) for _ in range(servers)),
            peer_grace=chance.choice([300.0, 900.0, 3600.0]),
        )  # fmt: skip
        old = chance.choice(range(1, servers + 1)) if chance.random() < 0.15 else 0
        several = chance.random() < 0.3
        releases = tuple(chance.choice(tuple(Release)) for _ in range(servers)) if several else ()
        return replace(made, old=(old,) if old and not made.clients[old - 1] else (), releases=releases)


def _bonds(chance: random.Random, found: tuple[Pair, ...]) -> dict[tuple[int, int], Bond]:
    """Most servers lend all they have to all they reach; some keep to their neighbours, or to less."""
    made = {}
    for one, other in found:
        for pair in ((one, other), (other, one)):
            lend_on = chance.choice([FAR, FAR, FAR, 1, 0])
            lent = chance.choice([Limits(), Limits(), Limits(), Limits(cores=2), Limits(off=True)])
            accepted = chance.choice([Limits(), Limits(), Limits(), Limits(cores=4), Limits(projects=("p",))])
            made[pair] = Bond(chance.choice([0, 0, 1, 5]), Agreement(lent=lent, accepted=accepted, lend_on=lend_on))
    return made
