"""A whole network in one thread on virtual time: server, workers, people, and everything that goes wrong, from one seed."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from cpc.core import ids
from cpc.core.errors import CopernicusError
from cpc.server.principal import SERVER
from tests.simulation import logs
from tests.simulation.chaos import Chaos
from tests.simulation.network import Faults
from tests.simulation.plan import Plan
from tests.simulation.realm import Common, Realm
from tests.simulation.server import Server

MOST_WHYS = 200  # jobs whose reason to wait is asked for at once
BOUND = 2 * 3600.0  # seconds from the last fault until all has settled


class World(Realm):
    """`run` tells the story of one seed. `broken` lists what should not have happened."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        logs.listen()
        super().__init__(Common.of(seed, plan or Plan.of(random.Random(seed + 1))))
        self._settling = False
        self.troubled = True  # until faults end
        self.chaos = Chaos(self, random.Random(seed + 3), self.plan.mean)
        self.people(self.plan.workers, self.plan.clients)

    # --- the run --------------------------------------------------------------------------------------------------------

    def run(self) -> World:
        """From the first process to the last check."""
        try:
            self._live()
        except Exception as error:
            self.oracle.wrong(f"{type(error).__name__}: {error}\n{Failure().getTraceback()}")
        finally:
            for text in logs.heard:
                self.oracle.wrong(text)
        return self

    def _live(self) -> None:
        self.begin()
        self.chaos.start()
        self.reactor.callLater(self.plan.probe_every, self._probe)
        self._steps(lambda: False, self.plan.span)
        if self.broken or logs.heard:
            return  # the first thing that is wrong; what follows from it tells nothing
        self.chaos.stop()
        self.chaos.heal()
        self.troubled = False
        self.network.faults = Faults()
        self._settling = True
        self._steps(self.settled, BOUND)
        if self.broken or logs.heard:
            return
        if not self.settled():
            self.oracle.wrong(f"after {BOUND / 3600:g} h: {self.unsettled()}")
            return
        self.verdict()
        self.kill_server("killed once more", away=1.0)
        self._steps(lambda: self.server is not None and self.server.ready, 60.0)
        self.verdict()

    def _steps(self, done: Any, seconds: float) -> None:
        """Step by step; what was committed is looked at before anything else happens."""
        end = self.now + seconds
        reactor, looked = self.reactor, 0.0
        while not self.broken and not logs.heard and reactor.step(end):
            self.look()
            if self._settling and self.now - looked > 5.0:
                looked = self.now
                if done():
                    return

    def steps(self, seconds: float) -> None:
        """So long, with all invariants looked at as in a whole run."""
        self._steps(lambda: False, seconds)

    def _probe(self) -> None:
        """Ask why some jobs wait; the answer must be the truth."""
        self.reactor.callLater(self.plan.probe_every, self._probe)
        server = self.server
        if server is None or not server.ready or server.host.reactor.frozen or server.store.writer.away:
            return
        for job in self.oracle.truth.waiting(MOST_WHYS):
            self._ask_why(server, job)

    def _ask_why(self, server: Server, job: int, tries: int = 0) -> None:
        asked = ensureDeferred(_ask(server, ids.show(job, True)))
        asked.addCallback(partial(self._told_why, server, job, tries))
        asked.addErrback(self._no_answer)

    def _told_why(self, server: Server, job: int, tries: int, view: Any) -> None:
        if server is not self.server or not server.ready:
            return
        if not self.oracle.why(server, job, [reason.kind for reason in view.reasons], tries >= 3):
            server.host.reactor.callLater(0.137 * (tries + 1), self._ask_why, server, job, tries + 1)

    def _no_answer(self, failure: Failure) -> None:
        if not failure.check(CopernicusError):
            self.oracle.wrong(f"why: {failure.getErrorMessage()}\n{failure.getTraceback()}")

    def close(self) -> None:
        """Let go of everything."""
        super().close()
        logs.stop()

    def report(self) -> str:
        """What a failure prints: the seed, what is wrong, and the story."""
        wrong = "\n".join(f"  {line}" for line in self.broken)
        again = f"python -m tests.simulation.soak --seed {self.seed}"
        return f"seed {self.seed}: {self.plan}\n{self.story.last()}\nbroken:\n{wrong}\nagain: {again}"


async def _ask(server: Server, shown: str) -> Any:
    return await server.jobs.why(SERVER, shown)


def run(seed: int, plan: Plan | None = None) -> World:
    """One world, from beginning to end."""
    world = World(seed, plan)
    try:
        return world.run()
    finally:
        world.close()
