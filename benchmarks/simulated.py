"""Simulated workers, many in one process: `python -m benchmarks.simulated BUNDLE`, driven by lines on standard input.

Everything between worker and server is the production code: link, session, back-off, TLS, frames, enrolment with a key
for each worker. What is left out is what costs a node and not the server: processes, run directories, the spool. A job
"runs" for as long as it was told to and then succeeds without files.

At most TOGETHER workers of a process connect at the same time: they share a processor, which real ones do not, and would
else only keep each other from answering in time.

Lines in: `{"start": N, "cores": C, "seconds": S, "idle": false}`, `{"want": true, "seconds": S}` (jobs of about S seconds,
or none), `{"finish": true}` (whatever runs ends now), `{"report": true}`, `{"stop": true}`. One line out for each report:
see `Figures`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet import stdio
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.protocols.basic import LineReceiver

import cpc
from cpc.core.chance import Chance, SystemChance
from cpc.core.clock import Clock, SystemClock
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import GIB, Amounts
from cpc.wire import bundle as bundles
from cpc.wire.bundle import Bundle
from cpc.wire.connection import Connection
from cpc.wire.identity import Identity, Name, Role, name_of, new_key, read_certificate, request
from cpc.wire.messages import Enrol, Enrolled, Hello, Orders, Result, Turn, Welcome
from cpc.worker.link import Link
from cpc.worker.waiting import in_background

MOST_TIMES = 200_000
TOGETHER = 100
NODE_MEMORY = 64 * GIB
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class Figures:
    """What the workers of this process have seen. Times of the machine's monotonic clock, spans in seconds.

    `joined` at each welcome; `claims`: from a free slot to a task in it; `turns`: from a turn to its answer; `said`: what
    workers told people, by how often; `again`: tasks that were a second or later attempt.
    """

    joined: list[float] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    tasks: int = 0
    again: int = 0
    dropped: int = 0
    settled: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)

    def take(self) -> dict[str, Any]:
        """For a report; the lists begin anew."""
        found = {
            "joined": self.joined, "claims": self.claims, "turns": self.turns, "said": self.said, "tasks": self.tasks,
            "again": self.again, "dropped": self.dropped, "settled": self.settled, "verdicts": self.verdicts,
        }  # fmt: skip
        self.joined, self.claims, self.turns = [], [], []
        return found


class Credentials:
    """A key in memory, and the certificate that the server gives for it (as `cpc.worker.credentials`, without a disk)."""

    def __init__(self, bundle: Bundle, chance: Chance) -> None:
        self.identity: Identity | None = None
        self._bundle = bundle
        self._key = new_key(chance)

    @property
    def bundle_identity(self) -> Identity:
        certificate = self._bundle.certificate.encode()
        name = name_of(read_certificate(certificate))
        return Identity(name, self._bundle.key.encode(), certificate, self._bundle.authority.encode())

    async def enrol(self, connection: Connection, method: str = "enrol") -> float:
        answer = await connection.call(method, Enrol(request=request(self._key)), Enrolled)
        name = Name(self._bundle.server, Role.WORKER, answer.name)
        self.identity = Identity(name, self._key, answer.certificate, self._bundle.authority.encode())
        return answer.valid_for


class NoTransfer:
    """Jobs without files need no connection for them."""

    def attach(self, _open: Callable[[], Any]) -> None:
        """There is a session."""

    def detach(self) -> None:
        """There is none."""


class Desk:
    """What `cpc.worker.desk` is to link and session: what runs, what is to be told, what the server orders."""

    has_work_ahead = False

    def __init__(
        self, chance: Chance, cores: int, seconds: float, figures: Figures, reactor: Any, clock: Clock
    ) -> None:
        self.beat = 30.0
        self.poke: Callable[[], None] = lambda: None
        self.wants = True
        self._chance = chance
        self._boot = chance.token().hex()
        self._total = Amounts(cores=cores, memory=NODE_MEMORY)
        self.seconds = seconds
        self._figures = figures
        self._reactor = reactor
        self._clock = clock
        self.running: dict[Lease, int] = {}  # → cores
        self._done: dict[Lease, Result] = {}  # not settled yet
        self._told: set[Lease] = set()
        self._free_since: list[float] = []
        self._composed = 0.0

    def hello(self) -> Hello:
        self._told.clear()
        return Hello(
            boot=self._boot, host="simulated", release=cpc.__version__, platform="smp", total=self._total,
            holds=self._holds(),
        )  # fmt: skip

    def welcomed(self, welcome: Welcome) -> None:
        self.beat = max(0.1, welcome.beat)
        self._figures.joined.append(time.monotonic())
        for lease in welcome.drop:
            self._figures.dropped += 1
            self.running.pop(lease, None)

    def _holds(self) -> tuple[Lease, ...]:
        return (*self.running, *self._done)

    def compose(self, number: int, brief: bool = False) -> Turn:
        self._composed = self._clock.monotonic()
        free = self._total.cores - sum(self.running.values())
        fresh = [result for lease, result in self._done.items() if lease not in self._told]
        return Turn(
            number=number, holds=() if brief else self._holds(), results=tuple(fresh[:500]),
            free=Amounts(cores=free, memory=NODE_MEMORY), wants=self.wants, brief=brief,
        )  # fmt: skip

    def answered(self, turn: Turn) -> None:
        self._told.update(result.lease for result in turn.results)
        self._note(self._figures.turns, self._clock.monotonic() - self._composed)

    def refused(self, turn: Turn, error: CopernicusError) -> bool:
        return False

    def followed(self) -> bool:
        return False

    def tails(self) -> tuple[()]:
        return ()

    def obey(self, orders: Orders) -> None:
        now = self._clock.monotonic()
        for settled in orders.settled:
            if self._done.pop(settled.lease, None) is not None:
                self._told.discard(settled.lease)
                self._figures.settled += 1
                self._figures.verdicts[settled.verdict] += 1
        for lease in orders.retry:
            self._told.discard(lease)
        for lease, _ in orders.cancel:
            self.running.pop(lease, None)
        for task in orders.tasks:
            if task.lease in self.running or task.lease in self._done:
                continue
            self._figures.tasks += 1
            self._figures.again += task.lease.attempt > 1
            if self._free_since:
                self._note(self._figures.claims, now - self._free_since.pop())
            self.running[task.lease] = task.granted.cores
            if self.seconds >= 0:
                self._reactor.callLater(self._chance.uniform(0.5, 1.5) * self.seconds, self.end, task.lease)

    def end(self, lease: Lease) -> None:
        """The job has succeeded."""
        if self.running.pop(lease, None) is not None:
            self._free_since.append(self._clock.monotonic())
            self._done[lease] = Result(lease=lease, outcome=Outcome.OK, exit_code=0)
            self.poke()

    def _note(self, times: list[float], seconds: float) -> None:
        if len(times) < MOST_TIMES:
            times.append(seconds)


class PacedLink(Link):
    """The worker's link, which waits for its turn to connect."""

    turns: DeferredSemaphore

    async def _connect(self, address: tuple[str, int], identity: Identity) -> Connection:
        await self.turns.acquire()
        try:
            return await super()._connect(address, identity)
        finally:
            self.turns.release()


class Crowd(LineReceiver):
    """The workers of this process, and the lines that drive them."""

    delimiter = b"\n"

    def __init__(self, bundle: Bundle, reactor: Any) -> None:
        self._bundle = bundle
        self._reactor = reactor
        self._clock, self._chance = SystemClock(), SystemChance()
        self._figures = Figures()
        self._desks: list[Desk] = []
        self._links: list[Link] = []
        self._turns = DeferredSemaphore(TOGETHER)

    def lineReceived(self, line: bytes) -> None:
        order = json.loads(line)
        if "start" in order:
            for _ in range(order["start"]):
                self._start(order["cores"], order["seconds"], order["idle"])
        elif "want" in order:
            for desk in self._desks:
                desk.wants, desk.seconds = order["want"], order["seconds"]
                desk.poke()
        elif "finish" in order:
            for desk in self._desks:
                for lease in list(desk.running):
                    desk.end(lease)
        elif "report" in order:
            found = self._figures.take()
            found["connected"] = sum(link.session is not None for link in self._links)
            found["running"] = sum(len(desk.running) for desk in self._desks)
            self.sendLine(json.dumps(found).encode())
        else:
            self._reactor.stop()

    def connectionLost(self, reason: Any = None) -> None:
        """Nobody drives us any more."""
        if self._reactor.running:
            self._reactor.stop()

    def _start(self, cores: int, seconds: float, idle: bool) -> None:
        desk = Desk(self._chance, cores, seconds, self._figures, self._reactor, self._clock)
        desk.wants = not idle
        link = PacedLink(
            bundle=self._bundle, credentials=cast(Any, Credentials(self._bundle, self._chance)),
            connect=lambda host, port: TCP4ClientEndpoint(self._reactor, host, port), desk=cast(Any, desk),
            transfer=cast(Any, NoTransfer()), reactor=self._reactor, clock=self._clock, chance=self._chance,
            say=self._say,
        )  # fmt: skip
        link.turns = self._turns
        desk.poke = link.poke
        self._desks.append(desk)
        self._links.append(link)
        in_background(link.run(), "the link")

    def _say(self, text: str) -> None:
        self._figures.said[_NUMBERS.sub("N", text)[:200]] += 1


def main() -> None:
    """The program."""
    reactor: Any = installed
    stdio.StandardIO(Crowd(bundles.decode(Path(sys.argv[1]).read_bytes()), reactor))
    reactor.run()


if __name__ == "__main__":
    main()
