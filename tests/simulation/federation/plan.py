"""How a network of servers is made: how many, who trusts whom, where workers and people are, what may go wrong; by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from cpc.core.peer import Agreement, Limits
from tests.simulation.federation.contest import Contest
from tests.simulation.federation.graphs import MANY, MESH, SHAPES, Pair, pairs
from tests.simulation.network import Faults
from tests.simulation.plan import Plan
from tests.simulation.versions import Release

FAR = 16  # lend_on that reaches everybody
DEFAULT = Agreement(lend_on=FAR)
FEW = 8  # servers at most whose links have TLS


@dataclass(frozen=True)
class Customs:
    """What may be agreed with peers, each as often as it is named."""

    lend_on: tuple[int, ...]
    lent: tuple[Limits, ...]
    accepted: tuple[Limits, ...]


#: Most servers lend all they have to all they reach; some keep to their neighbours, or to less.
VILLAGE = Customs(
    (FAR, FAR, FAR, 1, 0),
    (Limits(), Limits(), Limits(), Limits(cores=2), Limits(off=True)),
    (Limits(), Limits(), Limits(), Limits(cores=4), Limits(projects=("p",))),
)
#: Where ways are long, those who keep to less are fewer: else nothing goes far.
COUNTRY = Customs(
    (*[FAR] * 20, 3, 1, 0),
    (*[Limits()] * 20, Limits(cores=2), Limits(executables=("sim",)), Limits(off=True)),
    (*[Limits()] * 10, Limits(cores=4), Limits(projects=("p",))),
)


@dataclass(frozen=True)
class Bond:
    """What the operator of one server has agreed with a peer. `priority` is that of the beginning, the smaller is asked first:
    to change one moves others, too."""

    priority: int = 0
    agreement: Agreement = DEFAULT


@dataclass(frozen=True)
class WidePlan:
    """How a network is made. `bonds`: (server, peer) → what the server's operator has set for that peer.

    `workers`, `clients`: how many each server has, first that of server 1. `dials`: of a pair, which of the two can
    connect to the other: 0 is both. `trust`: whether operators change their minds in mid-flight. `plain`: links without TLS,
    for many servers (see `plain.py`). `wanted`: the number of servers that somebody has asked for, and the shape. `contest`: what
    people and operators do, where that is not left to chance.
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
    wanted: tuple[int, str] = (0, "")
    contest: Contest | None = None

    @classmethod
    def of(cls, chance: random.Random, servers: int = 0, shape: str = "") -> WidePlan:
        """By seed: three to eight servers, or as many as are wanted, and as they are wanted to be connected."""
        if servers > FEW:
            return _many(chance, servers, shape)
        made = cls._few(chance, servers, shape)
        return replace(made, wanted=(servers, shape)) if servers or shape else made

    @classmethod
    def _few(cls, chance: random.Random, wanted: int, wanted_shape: str) -> WidePlan:
        servers = chance.choice([3, 3, 4, 4, 5, 6, 8])
        servers = wanted or servers
        shape = chance.choice(SHAPES)
        shape = wanted_shape or shape
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
            servers, shape, found, _bonds(chance, found, VILLAGE), tuple(workers), tuple(clients), base,
            {pair: chance.choice([0, 0, 0, *pair]) for pair in found},
            trust=chance.random() < 0.5, hostile=chance.random() < 0.2,
            hours=tuple(chance.choice([0, 0, -9, 5, 20]) for _ in range(servers)),
            peer_grace=chance.choice([300.0, 900.0, 3600.0]),
        )  # fmt: skip
        old = chance.choice(range(1, servers + 1)) if chance.random() < 0.15 else 0
        several = chance.random() < 0.3
        releases = tuple(chance.choice(tuple(Release)) for _ in range(servers)) if several else ()
        return replace(made, old=(old,) if old and not made.clients[old - 1] else (), releases=releases)


def _bonds(chance: random.Random, found: tuple[Pair, ...], customs: Customs) -> dict[tuple[int, int], Bond]:
    made = {}
    for one, other in found:
        for pair in ((one, other), (other, one)):
            lend_on, lent = chance.choice(customs.lend_on), chance.choice(customs.lent)
            accepted = chance.choice(customs.accepted)
            made[pair] = Bond(chance.choice([0, 0, 1, 5]), Agreement(lent=lent, accepted=accepted, lend_on=lend_on))
    return made


def _many(chance: random.Random, servers: int, wanted: str) -> WidePlan:
    """More servers than one person knows: most are well-disposed, some have neither work nor workers. Faults come as often as in
    a few small networks together."""
    shape = wanted or chance.choice(MANY)
    if shape == "mesh" and servers > MESH:
        shape = "islands"
    found = pairs(shape, servers, chance)
    storm = chance.choice([0.0, 0.0, 0.0, 0.0003])
    base = Plan(
        span=chance.choice([300.0, 600.0]),
        actions=chance.choice([4, 8]),
        mean=chance.choice([2.0, 4.0, 10.0]),
        lost_replies=chance.choice([0.0, 0.05]),
        slow=chance.random() < 0.3,
        check_every=10,
        also=("big",) if chance.random() < 0.2 else (),
        faults=Faults(cut=storm, stall=storm, stall_time=chance.choice([2.0, 40.0])),
    )
    workers = [chance.choice([0, 0, 1, 1, 2]) for _ in range(servers)]
    clients = [chance.choice([0, 0, 0, 1]) for _ in range(servers)]
    lender, owner = chance.sample(range(servers), 2)
    workers[lender], workers[owner], clients[owner] = max(1, workers[lender]), 0, max(1, clients[owner])
    neither = [number for number in range(1, servers + 1) if not clients[number - 1] and not workers[number - 1]]
    old = tuple(number for number in neither if chance.random() < 0.05)
    several = chance.random() < 0.3
    return WidePlan(
        servers, shape, found, _bonds(chance, found, COUNTRY), tuple(workers), tuple(clients), base,
        {pair: chance.choice([0, 0, 0, *pair]) for pair in found},
        trust=chance.random() < 0.6, hostile=chance.random() < 0.2,
        hours=tuple(chance.choice([0, 0, -9, 5, 20]) for _ in range(servers)),
        old=old, releases=tuple(chance.choice(tuple(Release)) for _ in range(servers)) if several else (),
        peer_grace=chance.choice([300.0, 900.0, 3600.0]), plain=True, wanted=(servers, wanted),
    )  # fmt: skip
