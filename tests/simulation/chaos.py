"""Everything that goes wrong, by seed: which fault comes next, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.databases import Strike

if TYPE_CHECKING:
    from tests.simulation.workers import Worker
    from tests.simulation.world import World

HOUR = 3_600_000_000  # µs


class Chaos:
    """Strikes at random times until `stop`; `heal` undoes all that is still in force."""

    def __init__(self, world: World, chance: random.Random, mean: float) -> None:
        self.world = world
        self._chance = chance
        self._mean = mean
        self._stopped = False
        self._faults: list[Callable[[], None]] = [
            self.kill_server, self.kill_server_at_commit, self.kill_server_at_commit, self.lose_power, self.freeze_server,
            self.step_server_clock, self.fill_server, self.lose_database, self.kill_worker, self.kill_worker,
            self.kill_worker_power, self.freeze_worker, self.fill_worker, self.step_worker_clock, self.cut, self.cut,
            self.partition, self.partition, self.clone, self.break_server_disk, self.leave,
        ]  # fmt: skip

    def start(self) -> None:
        """The first fault comes."""
        self._next()

    def _next(self) -> None:
        if not self._stopped:
            self.world.reactor.callLater(self._chance.expovariate(1 / self._mean), self._strike)

    def _strike(self) -> None:
        if not self._stopped:
            self._chance.choice(self._faults)()
            self.world.check()
            self._next()

    def stop(self) -> None:
        """No more faults."""
        self._stopped = True

    def heal(self) -> None:
        """Everything works again."""
        world = self.world
        world.story.tell("…", "faults end")
        world.trouble.heal()
        world.server_disk.heal()
        world.server_host.clock.offset = 0
        world.network.heal()
        if world.server_host.reactor.frozen:
            world.server_host.thaw()
        for worker in world.workers.values():
            worker.host.clock.offset = 0
            worker.platter.capacity = 1 << 40
            if worker.host.reactor.frozen:
                worker.host.thaw()

    def _later(self, low: float, high: float, call: Callable[[], object]) -> float:
        seconds = self._chance.uniform(low, high)
        self.world.reactor.callLater(seconds, call)
        return seconds

    def _worker(self) -> Worker:
        return self.world.workers[self._chance.choice(sorted(self.world.workers))]

    # --- the server -----------------------------------------------------------------------------------------------------

    def kill_server(self) -> None:
        self.world.kill_server("killed", away=self._chance.choice([1.0, 10.0, 100.0, 400.0]))

    def kill_server_at_commit(self) -> None:
        strike = self._chance.choice([Strike.KILL_BEFORE, Strike.KILL_AFTER])
        self.world.trouble.plan(strike, self._chance.randrange(4))

    def lose_power(self) -> None:
        self.world.kill_server("loses power", away=self._chance.uniform(20.0, 120.0), power=True)

    def freeze_server(self) -> None:
        host = self.world.server_host
        if host.reactor.alive and not host.reactor.frozen:
            host.freeze()
            self.world.story.tell("s", "freezes")
            reactor = host.reactor
            self._later(1.0, 300.0, lambda: reactor.thaw() if reactor.frozen else None)

    def step_server_clock(self) -> None:
        offset = self._chance.choice([-200_000_000, 100_000_000, HOUR, 30 * HOUR])
        self.world.server_host.clock.offset = offset
        self.world.story.tell("s", f"its clock steps to {offset / 1e6:+.0f} s")

    def fill_server(self) -> None:
        seconds = self._chance.uniform(5.0, 200.0)
        self.world.server_disk.full = True
        if self._chance.random() < 0.5:
            self.world.trouble.full_until = self.world.now + seconds
        self.world.story.tell("s", f"its disk is full for {seconds:.0f} s")
        self.world.reactor.callLater(seconds, setattr, self.world.server_disk, "full", False)

    def break_server_disk(self) -> None:
        self.world.server_disk.fail(self._chance.randrange(4))
        self.world.story.tell("s", "a write will fail")

    def lose_database(self) -> None:
        strike = self._chance.choice([Strike.AWAY_BEFORE, Strike.AWAY_AFTER])
        self.world.trouble.plan(strike, self._chance.randrange(3), self._chance.uniform(0.0, 150.0))

    # --- workers --------------------------------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        self._worker().kill(away=self._chance.choice([0.5, 20.0, 200.0]))

    def kill_worker_power(self) -> None:
        self._worker().kill(power=True, away=self._chance.uniform(5.0, 150.0))

    def leave(self) -> None:
        worker = self._worker()
        if worker.agent is not None and not worker.host.reactor.frozen:
            worker.agent.leave("SIGTERM", at_once=self._chance.random() < 0.3)

    def freeze_worker(self) -> None:
        worker = self._worker()
        host = worker.host
        if host.reactor.alive and not host.reactor.frozen:
            host.freeze()
            self.world.story.tell(worker.name, "freezes")
            reactor = host.reactor
            self._later(1.0, 300.0, lambda: reactor.thaw() if reactor.frozen else None)

    def fill_worker(self) -> None:
        worker = self._worker()
        platter = worker.platter
        platter.capacity = platter.used() + self._chance.choice([0, 2000, 1_100_000])
        self.world.story.tell(worker.name, "its disk is full")
        self._later(5.0, 200.0, lambda: setattr(platter, "capacity", 1 << 40))

    def step_worker_clock(self) -> None:
        worker = self._worker()
        worker.host.clock.offset = self._chance.choice([-200_000_000, HOUR, -30 * HOUR, 30 * HOUR])
        self.world.story.tell(worker.name, f"its clock steps to {worker.host.clock.offset / 1e6:+.0f} s")
        host = worker.host
        self._later(30.0, 300.0, lambda: setattr(host.clock, "offset", 0))

    def clone(self) -> None:
        """Somebody has copied a machine with its worker's key: two say that they are the same."""
        self.world.clone(self._worker(), self._chance.uniform(20.0, 200.0))

    # --- the network ----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        links = self.world.network.links
        if links:
            link = self._chance.choice(links)
            tell = self._chance.choice([("client", "server"), ("client",), ("server",), ()])
            self.world.network.cut(link, tell)
            self.world.story.tell("…", f"{link} is cut, told: {', '.join(tell) or 'nobody'}")

    def partition(self) -> None:
        other = self._chance.choice([*sorted(self.world.workers), *sorted(self.world.clients)])
        one, two = ("s", other) if self._chance.random() < 0.5 else (other, "s")
        both = self._chance.random() < 0.5
        self.world.network.partition(one, two, both)
        self.world.story.tell("…", f"nothing gets from {one} to {two}{' and back' if both else ''}")
        self._later(2.0, 250.0, lambda: self.world.network.heal(one, two))
