"""What goes wrong in a network of servers: all that can happen to one, and what happens between them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation import faults_server, faults_workers
from tests.simulation.chaos import Chaos
from tests.simulation.federation import faults

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe


class WideChaos(Chaos):
    """Strikes at one server and its machines, or between servers. `world` is the server that the next fault is for."""

    def __init__(self, universe: Universe, chance: random.Random, mean: float) -> None:
        self.universe = universe
        super().__init__(universe.sites[1], chance, mean)
        self._local = [*faults_server.of(self.world.plan), *faults_workers.of(self.world.plan)]
        self._wide = faults.of(universe.plan)

    def strike(self) -> str:
        """One fault, somewhere; its name."""
        self.world = self.site()
        if self.chance.random() < 0.5:
            wide = self.chance.choice(self._wide)
            return wide.__name__ if wide(self) is not False else ""
        if not self.world.workers:
            local = self.chance.choice(faults_server.of(self.world.plan))
        else:
            local = self.chance.choice(self._local)
        return local.__name__ if local(self) is not False else ""

    def check(self) -> None:
        """What is looked at after each fault."""
        self.world.check()
        self.universe.truth.check()

    def site(self) -> Site:
        """One of them."""
        return self.universe.sites[self.chance.randrange(len(self.universe.sites)) + 1]

    def neighbours(self) -> tuple[Site, Site]:
        """Two that may be connected, in any order."""
        pair = self.chance.choice(self.universe.plan.pairs)
        one, other = self.chance.sample(pair, 2)
        return self.universe.sites[one], self.universe.sites[other]

    def heal(self) -> None:
        """Everything works again."""
        self.universe.story.tell("…", "faults end")
        self.universe.network.heal()
        for site in self.universe.sites.values():
            self.mend(site)
