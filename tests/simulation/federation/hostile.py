"""A server that was trusted and should not have been: it says whatever may do harm, as fast as it can."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement, Limits, PeerState
from cpc.core.resources import Amounts
from cpc.store import peers
from cpc.store.peers import Addresses, PeerRow
from cpc.wire.connection import SERVER, Connection, connect
from cpc.wire.messages import ChunkData, ChunkList, Message, Result
from cpc.wire.peer_messages import (
    AskWork,
    Demand,
    FarChunkGet,
    FarChunkPut,
    FarMissing,
    Offer,
    PeerHello,
    Ping,
    Pong,
    Report,
    ReportAnswer,
    Survey,
    Surveyed,
    WorkerReport,
    WorkGiven,
)  # fmt: skip
from cpc.wire.tls import ClientTls
from tests.simulation.federation.server import CLIENT_PORT
from tests.simulation.server import PORT, given

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe

NUMBER = 90
NOTHING = Agreement(lent=Limits(off=True), accepted=Limits(off=True))
EACH = 0.1  # seconds between bursts
BURST = 4


class Nothing(Message, frozen=True):
    """An empty answer."""


class Hostile:
    """It attacks `victim`, whose operator trusts it and has agreed on nothing. `answers`: what it was told, by kind;
    `given`: what it got that it should not have."""

    def __init__(
        self, universe: Universe, victim: Site, chance: random.Random, agreement: Agreement = NOTHING, each: float = EACH
    ) -> None:  # fmt: skip
        self.agreement = agreement
        self.each = each
        self.universe = universe
        self.victim = victim
        self.chance = chance
        self.keys = given(NUMBER)
        self.host = universe.network.host(f"s{NUMBER}")
        self.said = 0
        self.answers: Counter[str] = Counter()
        self.given: list[str] = []
        self._lines: dict[bool, Connection] = {}
        self._ended = False

    def begin(self) -> None:
        """Be trusted, and attack."""
        self.introduce()
        self.attack()

    def attack(self) -> None:
        """From now on, until `end`."""
        self._burst()

    @property
    def row(self) -> PeerRow:
        """What the victim has on record of it."""
        authority = self.keys.authority.certificate_pem
        return PeerRow(self.keys.id, PeerState.TRUSTED, "x", authority, 9, Addresses(), self.agreement, "", "", 0, 0, 0)

    def introduce(self) -> None:
        """Be trusted by a server that runs."""
        row = self.row
        server = self.victim.peers
        assert server is not None
        self.universe.reactor.finish(server.store.write(lambda tx: peers.add(tx, row)))
        server.federation.book.put(row)

    def end(self) -> None:
        """No more."""
        self._ended = True
        for line in self._lines.values():
            line.close("enough")

    def _burst(self) -> None:
        if self._ended:
            return
        self.host.reactor.callLater(self.each, self._burst)
        for bulk in (False, True):
            line = self._lines.get(bulk)
            if line is None or line.closed:
                self._lines.pop(bulk, None)
                self._do(self._open(bulk))
        for _ in range(BURST if self._lines else 0):
            self._do(self._attack())

    def _do(self, work: Any) -> None:
        ensureDeferred(work).addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        failure.trap(CopernicusError)
        self.answers[type(failure.value).__name__] += 1

    async def open(self) -> None:
        """Both connections."""
        await self._open(False)
        await self._open(True)

    async def _open(self, bulk: bool) -> None:
        security = ClientTls(self.keys.identity, self.victim.given.authority.certificate_pem, self.victim.id)
        endpoint = self.host.connect(self.victim.name, PORT)
        line = await connect(endpoint, security, self.host.reactor, self.host.clock, 20.0, greeting=SERVER)
        hello = PeerHello(name="x", release="9", host="s1", port=1, client_port=CLIENT_PORT, bulk=bulk)
        await line.call("peer-hello", hello, PeerHello)
        self._lines[bulk] = line

    # --- what it says ---------------------------------------------------------------------------------------------------

    async def _attack(self) -> None:
        self.said += 1
        act = self.chance.choice(
            [self._ask, self._report, self._get, self._put, self._missing, self._far, self._survey, self._unknown,
             self._call, self._mumble]
        )  # fmt: skip
        await act()

    def _line(self, bulk: bool = False) -> Connection:
        return self._lines.get(bulk) or next(iter(self._lines.values()))

    def _route(self) -> tuple[str, ...]:
        """Sometimes one that could be."""
        me, here, other = self.keys.id, self.victim.id, self.universe.sites[2].id
        return self.chance.choice(
            [(me, here), (me, here), (me, here, other), (other, me, here), (other, here), (me, here, me), (me, other, here),
             (here, me, here), (me, *(f"{n:036d}" for n in range(14)), here)]
        )  # fmt: skip

    def _lease(self) -> Lease:
        """One that its owner has given out, with some luck."""
        found = self.victim.oracle.rows("SELECT job, number, incarnation FROM attempts")
        return Lease(*self.chance.choice(found)) if found else Lease(4503599628419072, 1, 1)

    def _offers(self) -> tuple[Offer, ...]:
        cores = self.chance.choice([1, 4, 1 << 40])
        room = Amounts(cores=cores, memory=1 << 50)
        return tuple(
            Offer(worker=number, name="x" * 200, host="../../etc", total=room, free=room, ahead=1 << 30)
            for number in range(self.chance.choice([1, 256]))
        )

    async def _ask(self) -> None:
        route = self.chance.choice([(self.keys.id,), (self.keys.id,), self._route()[:-1] or (self.victim.id,)])
        question = AskWork(id=f"{self.chance.random()}", route=route, hops=16, seconds=5.0, offers=self._offers())
        answer = await self._line().call("ask-work", question, WorkGiven, 20.0)
        self.answers["work"] += 1
        if answer.given:
            self.given.append(f"work: {answer.given}")

    async def _report(self) -> None:
        lease = self._lease()
        result = Result(lease=lease, outcome=Outcome.OK)
        said = WorkerReport(worker=1, holds=(lease,), results=(result,), wants=True, free=Amounts(cores=64))
        report = Report(number=1, workers=(said,) * self.chance.choice([1, 50]))
        answer = await self._line().call("report", report, ReportAnswer, 20.0, route=self._route())
        self.answers["report"] += 1
        for one in answer.workers:
            bad = [settled for settled in one.orders.settled if settled.verdict.startswith("accepted")]
            if bad or one.orders.tasks:
                self.given.append(f"report: {one.orders}")

    async def forge(self, home: Site) -> ReportAnswer:
        """Say that the workers of another server have all done what they were given, in that server's name."""
        row = self.victim.oracle.rows(
            "SELECT a.job, a.number, a.incarnation, w.fingerprint FROM attempts a JOIN workers w ON w.id = a.worker "
            "WHERE a.ended IS NULL"
        )[0]
        lease, worker = Lease(*row[:3]), int(row[3].partition("/")[2])
        said = WorkerReport(worker=worker, results=(Result(lease=lease, outcome=Outcome.OK),))
        route = (home.id, self.keys.id, self.victim.id)
        report = Report(number=1, workers=(said,))
        return await self._line().call("report", report, ReportAnswer, 20.0, route=route)

    async def _get(self) -> None:
        digests = self.victim.oracle.rows("SELECT digest FROM chunks")
        digest = self.chance.choice(digests)[0] if digests else bytes(32)
        have = self.chance.random() < 0.5
        question = FarChunkGet(lease=self._lease(), worker=1, digest=digest, have=have)
        await self._line(True).call("far-chunk-get", question, ChunkData, 20.0, bulk=True, route=self._route())
        self.given.append(f"chunk {digest.hex()[:12]}")

    async def _put(self) -> None:
        data = bytes(self.chance.choice([10, 100_000, 1 << 20]))
        question = FarChunkPut(lease=self._lease(), worker=1, digest=bytes(32), data=memoryview(data))
        await self._line(True).call("far-chunk-put", question, Nothing, 20.0, bulk=True, route=self._route())
        self.given.append("a chunk was taken")

    async def _missing(self) -> None:
        question = FarMissing(lease=self._lease(), worker=1, digests=(bytes(32),) * 1000)
        answer = await self._line(True).call("far-missing", question, ChunkList, 20.0, bulk=True, route=self._route())
        self.answers["missing"] += 1
        if answer.digests:  # nothing is wanted of a job that is not there (any more)
            self.given.append(f"{len(answer.digests)} chunks are wanted of it")

    async def _far(self) -> None:
        await self._line().call("ping", Ping(), Pong, 20.0, route=self._route())
        self.answers["ping"] += 1

    async def _survey(self) -> None:
        question = Survey(id=f"{self.chance.random()}", hops=16, seconds=5.0, seen=("x" * 64,) * 100)
        await self._line().call("survey", question, Surveyed, 20.0)
        self.answers["survey"] += 1

    async def _unknown(self) -> None:
        method = self.chance.choice(["hello", "turn", "enrol", "goodbye", "chunk-get", "orders", "x" * 100])
        await self._line(self.chance.random() < 0.5).call(method, Nothing(), Nothing, 20.0)
        self.given.append(f"{method} was answered")

    async def _call(self) -> None:
        self._line().tell("demand", Demand())
        self._line().tell("far-orders", ReportAnswer(unknown=tuple(range(1000))), self._route())

    async def _mumble(self) -> None:
        """Now and then, bytes that are no frame."""
        if self.chance.random() < 0.03:
            self._line(self.chance.random() < 0.5).channel.send((b"\x00\x00\x00\x05hello",))
