"""Contention: a server with few cores, and several that all have more for them than they can do, for a long while in which hardly
anything else happens. So it is seen whose work comes first, and who gets which share.

Every fifth seed makes such a network (`contends`). What people and operators do in it is written in the plan: `Contest`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from cpc.core.peer import Agreement
from cpc.core.spec import JobSpec
from cpc.worker.waiting import sleep
from tests.simulation.clients import Client
from tests.simulation.federation.contest import Contest, Leave, Load, Turn
from tests.simulation.federation.graphs import Pair
from tests.simulation.federation.plan import FAR, Bond, WidePlan
from tests.simulation.plan import ALL, KINDS, Plan
from tests.simulation.workers import Kind, Worker

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe

EVERY = 5  # seeds, of which one makes such a network
SPAN = 600.0  # seconds in which there is more work than room
NEVER = 1e12
BRIEF = Kind(cores=4, memory=8 << 30, time_left=200.0)  # its allocations end, and others begin
ORDERS: tuple[tuple[int, ...], ...] = ((0, 1, 2), (0, 0, 1), (0, 0, 0), (0, 0, 0))  # by place among the owners


def contends(seed: int) -> bool:
    """Whether this seed makes one."""
    return seed % EVERY == EVERY - 1


def plan_of(seed: int, servers: int = 0, shape: str = "") -> WidePlan:
    """What a seed makes: a network of this kind or another one; always another one where it is said how it is to be."""
    chance = random.Random(seed + 1)
    return contention(chance) if contends(seed) and not (servers or shape) else WidePlan.of(chance, servers, shape)


def contention(chance: random.Random) -> WidePlan:
    """Two to four servers with work, and one or two that lend to all of them: directly, or by way of a gateway."""
    owners, lenders = chance.choice([2, 2, 3, 3, 4]), chance.choice([1, 1, 1, 2])
    gateways = chance.choice([0, 0, 1])
    numbers = list(range(1, owners + lenders + gateways + 1))
    chance.shuffle(numbers)
    lending, owning = sorted(numbers[:lenders]), sorted(numbers[lenders : lenders + owners])
    gateway = numbers[lenders + owners :]
    bonds: dict[Pair, Bond] = {}
    for between in gateway or lending:  # who has an order
        order = chance.choice(ORDERS)
        for place, owner in enumerate(chance.sample(owning, owners)):
            agreement = Agreement(lend_on=chance.choice([FAR, 0]))
            bonds[between, owner] = Bond(order[place % len(order)], agreement)
    bonds |= {(lender, between): Bond() for lender in lending for between in gateway}
    found = tuple(sorted((min(pair), max(pair)) for pair in bonds))
    workers = {lender: chance.choice([1, 1, 2]) for lender in lending}
    base = Plan(
        span=SPAN, actions=0, mean=chance.choice([NEVER, NEVER, 250.0]), lost_replies=chance.choice([0.0, 0.05]),
        check_every=10,
    )  # fmt: skip
    return WidePlan(
        len(numbers), "contention", found, {pair[::-1]: Bond() for pair in bonds} | bonds,
        tuple(workers.get(number, 0) for number in sorted(numbers)), (0,) * len(numbers), base,
        {pair: chance.choice([0, 0, *pair]) for pair in found}, trust=chance.random() < 0.5,
        contest=_contest(chance, gateway or lending, lending, owning, 4 * sum(workers.values())),
    )  # fmt: skip


def _contest(chance: random.Random, ordering: list[int], lending: list[int], owning: list[int], cores: int) -> Contest:
    loads = []
    for number in owning:
        seconds = chance.choice([10.0, 15.0, 20.0, 30.0])
        enough = 1.2 * SPAN * cores / len(owning)  # core-seconds
        loads.append(Load(number, chance.uniform(1.0, 60.0), max(8, round(enough / seconds)), seconds))
    for lender in lending:
        for at in (170.0, 400.0):
            loads.append(
                Load(lender, chance.uniform(at, at + 60.0), chance.choice([6, 12]), chance.choice([10.0, 20.0]))
            )
    who = (chance.choice(ordering), chance.choice(owning))
    turns = [Turn(chance.uniform(280.0, 330.0), *who, chance.randrange(3), chance.random() < 0.5)]
    leaves = [Leave(chance.uniform(180.0, 300.0), f"s{lender}n1") for lender in lending]
    return Contest(tuple(loads), tuple(turns) if chance.random() < 0.6 else (), tuple(leaves))


class Contender(Client):
    """Somebody who submits what the plan says, and nothing else."""

    def __init__(self, site: Site, name: str, loads: tuple[Load, ...]) -> None:
        super().__init__(site, name, 0)
        self._loads = loads

    async def _live(self) -> None:
        for load in sorted(self._loads, key=lambda each: each.at):
            await sleep(self.host.reactor, max(0.0, load.at - self.world.now))
            spec = JobSpec(argv=("run", "ok", f"{load.seconds:g}", "10"), array=load.jobs, max_losses=50)
            await self.submit(spec, "p")
        self.done = True


def bring(universe: Universe, contest: Contest) -> None:
    """Before anything has begun: the people, and what workers have."""
    for site in universe.sites.values():
        loads = tuple(load for load in contest.loads if load.server == site.number)
        if loads:
            name = f"{site.prefix}u1"
            site.clients[name] = Contender(site, name, loads)
        for place, worker in enumerate(site.workers.values()):
            worker.kind = ALL if not place else universe.chance.choice([ALL, KINDS[1], BRIEF])
    for turn in contest.turns:
        here, other = (universe.sites[number] for number in (turn.server, turn.peer))
        universe.reactor.callLater(turn.at, universe.operators.change, here, other, turn.priority, None, turn.share)
    for leave in contest.leaves:
        universe.reactor.callLater(leave.at, _leave, universe.home_of(leave.worker).workers[leave.worker])


def _leave(worker: Worker) -> None:
    if worker.agent is not None and not worker.host.reactor.frozen:
        worker.agent.leave("SIGTERM", at_once=True)
