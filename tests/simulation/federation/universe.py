"""A network of servers in one thread on virtual time, with everything that goes wrong in it, from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cpc.store import peers
from cpc.wire.endpoints import ClientEndpoint, ServerEndpoint
from cpc.wire.identity import Identity
from tests.simulation import logs
from tests.simulation.federation.chaos import WideChaos
from tests.simulation.federation.contention import bring, plan_of
from tests.simulation.federation.hostile import Hostile
from tests.simulation.federation.operators import Operators
from tests.simulation.federation.plain import PlainWay, unsecured
from tests.simulation.federation.plan import WidePlan
from tests.simulation.federation.site import Site
from tests.simulation.federation.trust import Trust
from tests.simulation.federation.truth import WideTruth
from tests.simulation.network import Faults
from tests.simulation.realm import Common

BOUND = 3 * 3600.0  # seconds from the last fault until all has settled
LOOK_EVERY = 5.0
HOUR = 3_600_000_000  # µs


class Universe:
    """`run` tells the story of one seed. `broken` lists what should not have happened."""

    def __init__(self, seed: int, plan: WidePlan | None = None) -> None:
        logs.listen()
        self.seed = seed
        self.plan = plan or plan_of(seed)
        self.common = Common.of(seed, self.plan.base)
        self.reactor, self.story, self.network = self.common.reactor, self.common.story, self.common.network
        self.chance = self.common.chance
        self.decided: Counter[str] = Counter()  # how often each rule of `truth.RULES` was really applied
        self.sites = {number: Site(self, self.common, number) for number in range(1, self.plan.servers + 1)}
        self.by_id = {site.id: site for site in self.sites.values()}
        self.trust = Trust(self)
        self.operators = Operators(self)
        self.truth = WideTruth(self)
        self.chaos = WideChaos(self, random.Random(seed + 3), self.plan.base.mean)
        self.enemy: Hostile | None = None
        if self.plan.hostile:
            victims = [site for site in self.sites.values() if site.number not in self.plan.old]
            self.enemy = Hostile(self, self.chance.choice(victims), random.Random(seed + 4), each=5.0)
        self.messages: Counter[str] = Counter()  # that servers have sent each other, by method
        self.frames: Counter[str] = (
            Counter()
        )  # all that has come over links without TLS: by method, answers as "answer"
        self._seen = 0
        self._looked = 0.0
        for site in self.sites.values():
            site.people(self.plan.workers[site.number - 1], self.plan.clients[site.number - 1])
            for host in (site.server_host, *(worker.host for worker in site.workers.values())):
                host.clock.zone = self.plan.hours[site.number - 1] * HOUR if self.plan.hours else 0
        if self.plan.contest is not None:
            bring(self, self.plan.contest)

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.reactor.seconds()

    @property
    def broken(self) -> list[str]:
        """What should not have happened, in words."""
        return self.common.broken

    def wrong(self, what: str) -> None:
        """An invariant of the network does not hold."""
        self.story.tell("!!!", what)
        self.broken.append(what)

    def home_of(self, machine: str) -> Site:
        """The server of a machine, by its name."""
        return self.sites[int(machine[1:].partition("n")[0].partition("u")[0])]

    def by_name(self, host: str) -> Site:
        """The server whose machine this is."""
        return self.sites[int(host[1:])]

    def plain(self, endpoint: ClientEndpoint | ServerEndpoint) -> PlainWay:
        """The same way, without TLS."""
        return PlainWay(endpoint, self._identity_at, self.frames)

    def _identity_at(self, host: str) -> Identity | None:
        server = self.by_name(host).peers
        return server.identity if server is not None else None

    def pause(self, seconds: float) -> Deferred[None]:
        """So long, by nobody's clock."""
        done: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, done.callback, None)
        return done

    def calm(self, seconds: float) -> bool:
        """Whether nothing at all has happened for so long."""
        return all(self.network.undisturbed(name, seconds) for name in self.network.hosts)

    def when_bulk(self, site: Site, call: Callable[[], None]) -> None:
        """Call as soon as a server is in the middle of a transfer; after a minute in any case."""
        began = self.now

        def look() -> None:
            links = self.network.links_of(site.name)
            if self.now - began > 60.0 or any(side.busy for link in links for side in link.sides):
                call()
            else:
                self.reactor.callLater(0.05, look)

        look()

    # --- the run --------------------------------------------------------------------------------------------------------

    def run(self) -> Universe:
        """From the first process to the last check."""
        try:
            self._live()
        except Exception as error:
            self.wrong(f"{type(error).__name__}: {error}\n{Failure().getTraceback()}")
        finally:
            for text in logs.heard:
                self.wrong(text)
        return self

    def _live(self) -> None:
        self.begin()
        self.chaos.start()
        self.steps(self.plan.base.span)
        if self._over:
            return  # the first thing that is wrong; what follows from it tells nothing
        self.chaos.stop()
        self.chaos.heal()
        self.network.faults = Faults()
        if self.enemy is not None:
            self.enemy.end()
        self.truth.faults_end()
        self.steps(BOUND, self.settled)
        if self._over:
            return
        if not self.settled():
            self.wrong(f"after {BOUND / 3600:g} h: {self.unsettled()}")
            return
        self.verdict()

    @property
    def _over(self) -> bool:
        return bool(self.broken or logs.heard)

    def begin(self) -> None:
        """Everybody starts."""
        self.trust.found()
        if self.enemy is not None:
            row = self.enemy.row
            self.enemy.victim.write(lambda tx: peers.add(tx, row))
            self.reactor.callLater(20.0, self.enemy.attack)
        for site in self.sites.values():
            site.begin()

    def steps(self, seconds: float, done: Callable[[], bool] | None = None) -> None:
        """So long, or until it is done; what was committed is looked at before anything else happens."""
        end, common, reactor = self.now + seconds, self.common, self.reactor
        while not self._over and reactor.step(end):
            if common.commits != self._seen:
                self._seen = common.commits
                for site in self.sites.values():
                    if site.unchecked:
                        site.look()
            if self.now - self._looked >= LOOK_EVERY:
                self._looked = self.now
                self.truth.check()
                if done is not None and done():
                    return

    def settled(self) -> bool:
        """Whether nothing is left to be done, told, handed in or kept, anywhere."""
        return all(site.settled() for site in self.sites.values()) and self.truth.settled()

    def unsettled(self) -> str:
        """What is left, in words."""
        left = [f"{site.name}: {site.unsettled()}" for site in self.sites.values() if not site.settled()]
        return "; ".join(left) or self.truth.unsettled()

    def verdict(self) -> None:
        """Everything that must hold when all has settled."""
        for site in self.sites.values():
            site.verdict()
        self.truth.verdict()

    def until(self, true: Callable[[], object], within: float = 100.0) -> None:
        """Step until it is so; for stories told by hand."""
        self.reactor.run_until(true, within)
        for site in self.sites.values():
            site.check()
        self.truth.check()

    def close(self) -> None:
        """Let go of everything."""
        for site in self.sites.values():
            site.close()
        logs.stop()

    def report(self) -> str:
        """What a failure prints: the seed, what is wrong, and the story."""
        wrong = "\n".join(f"  {line}" for line in self.broken)
        servers, shape = self.plan.wanted
        which = f"{f' --servers {servers}' if servers else ''}{f' --shape {shape}' if shape else ''}"
        again = f"python -m tests.simulation.soak --wide{which} --seed {self.seed}"
        return f"seed {self.seed}: {self.plan}\n{self.story.last(400)}\nbroken:\n{wrong}\nagain: {again}"


def run(seed: int, plan: WidePlan | None = None) -> Universe:
    """One network, from beginning to end."""
    universe = Universe(seed, plan)
    try:
        with unsecured() if universe.plan.plain else nullcontext():
            return universe.run()
    finally:
        universe.close()


def run_many(servers: int, shape: str, seed: int) -> Universe:
    """One network of so many servers."""
    return run(seed, plan_of(seed, servers, shape))


def each(universe: Universe, of: Callable[[Site], Any]) -> dict[int, Any]:
    """Something of every server, by its number."""
    return {number: of(site) for number, site in universe.sites.items()}
