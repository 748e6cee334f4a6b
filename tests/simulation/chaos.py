"""Everything that goes wrong, by seed: which fault comes next, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation import faults_server, faults_workers

if TYPE_CHECKING:
    from tests.simulation.realm import Realm
    from tests.simulation.workers import Worker

Fault = Callable[["Chaos"], object]


class Chaos:
    """Strikes at random times until `stop`; `heal` undoes all that is still in force."""

    def __init__(self, world: Realm, chance: random.Random, mean: float) -> None:
        self.world = world
        self.chance = chance
        self._mean = mean
        self._stopped = False
        self._faults: list[Fault] = [
            *faults_server.of(world.plan),
            *faults_workers.of(world.plan),
            cut,
            cut,
            partition,
            partition,
        ]

    def start(self) -> None:
        """The first fault comes."""
        self._next()

    def _next(self) -> None:
        if not self._stopped:
            self.world.reactor.callLater(self.chance.expovariate(1 / self._mean), self._strike)

    def _strike(self) -> None:
        if not self._stopped:
            what = self.strike()
            if what:
                self.world.fault(what.replace("_", " "))
            self.check()
            self._next()

    def strike(self) -> str:
        """One fault; its name, "" when it could not be."""
        fault = self.chance.choice(self._faults)
        return fault.__name__ if fault(self) is not False else ""

    def check(self) -> None:
        """What is looked at after each fault."""
        self.world.check()

    def stop(self) -> None:
        """No more faults."""
        self._stopped = True

    def heal(self) -> None:
        """Everything works again."""
        self.world.story.tell("…", "faults end")
        self.world.network.heal()
        self.mend(self.world)

    def mend(self, world: Realm) -> None:
        """All that is wrong with one server and its machines."""
        world.trouble.heal()
        world.server_disk.heal()
        world.slowness = 1.0
        world.server_host.clock.offset = 0
        if world.server_host.reactor.frozen:
            world.server_host.thaw()
        for worker in world.workers.values():
            worker.host.clock.offset = 0
            worker.platter.capacity = 1 << 40
            worker.platter.broken = lambda operation, path: None
            worker.flaps_until = 0.0
            if worker.host.reactor.frozen:
                worker.host.thaw()

    # --- for the faults -------------------------------------------------------------------------------------------------

    def later(self, low: float, high: float, call: Callable[[], object]) -> float:
        """In so many seconds, between two numbers, by the plan's scale."""
        seconds = self.span(low, high)
        self.world.reactor.callLater(seconds, call)
        return seconds

    def span(self, low: float, high: float) -> float:
        """How long something is out of order."""
        return self.chance.uniform(low, high) * self.world.plan.scale

    def worker(self) -> Worker:
        """One of them."""
        return self.world.workers[self.chance.choice(sorted(self.world.workers))]

    def freeze(self, host: Any) -> bool:
        """SIGSTOP, and SIGCONT after a while; False when it cannot be."""
        reactor = host.reactor
        if not reactor.alive or reactor.frozen:
            return False
        host.freeze()
        self.later(1.0, 300.0, lambda: host.thaw() if host.reactor is reactor and reactor.frozen else None)
        return True


# --- the network ----------------------------------------------------------------------------------------------------------


def cut(chaos: Chaos) -> bool:
    links = chaos.world.network.links
    if not links:
        return False
    link = chaos.chance.choice(links)
    tell = chaos.chance.choice([("client", "server"), ("client",), ("server",), ()])
    chaos.world.network.cut(link, tell)
    chaos.world.story.tell("…", f"{link} is cut, told: {', '.join(tell) or 'nobody'}")
    return True


def partition(chaos: Chaos) -> None:
    world = chaos.world
    other = chaos.chance.choice([*sorted(world.workers), *sorted(world.clients)])
    one, two = (world.name, other) if chaos.chance.random() < 0.5 else (other, world.name)
    both = chaos.chance.random() < 0.5
    world.network.partition(one, two, both)
    world.story.tell("…", f"nothing gets from {one} to {two}{' and back' if both else ''}")
    chaos.later(2.0, 250.0, lambda: world.network.heal(one, two))


NETWORK: tuple[Fault, ...] = (cut, cut, partition, partition)
