"""Links with all peers, and what goes over them: `ways.Ways`, carried out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timers
from cpc.core.errors import Conflict, CopernicusError, Refused, TrustEnded, Unavailable
from cpc.core.peer import Address, Agreement
from cpc.server.federation import peering
from cpc.server.federation.book import Book
from cpc.server.federation.dialling import Dialler
from cpc.server.federation.link import SILENCE, Link
from cpc.server.federation.parting import Parting
from cpc.server.federation.relaying import Relaying
from cpc.server.federation.ways import Caller, Handler, Hook
from cpc.wire.connection import SERVER, Connection, connect
from cpc.wire.endpoints import ClientEndpoint
from cpc.wire.frames import Greeting
from cpc.wire.identity import Identity, Name
from cpc.wire.messages import Message
from cpc.wire.negotiation import NoCommonProtocol
from cpc.wire.peer_messages import Alive, PeerHello, Withdrawn
from cpc.wire.tls import ClientTls, Refuse

T = TypeVar("T")
Q = TypeVar("Q")

CONNECT_TIME = 30.0
PATIENCE = 0.5  # seconds that the server with the smaller id has the start of
HELD, HELD_BULK = 8 << 20, 18 << 20  # bytes of a peer's questions that are held at a time: with files, four chunks
MAX_SILENT = 8  # connections of one server that have not said hello

log = Logger()

Greeted = Callable[[str, PeerHello, Address | None], Awaitable[None]]
Ended = Callable[[str, Withdrawn], Awaitable[None]]


async def _no_matter(_peer: str, _said: PeerHello, _reached: Address | None) -> None:
    return None


async def _nothing_ends(_peer: str, _said: Withdrawn) -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Direct:
    question: type[Any]
    handler: Handler[Any]
    bulk: bool


class Links:
    """Everything between this server and its peers.

    `say`: what this server calls itself. `identity`: its certificate now. `connect`: how to get to a host and port.
    `greeted` hears what a server says of itself, and where it was reached (None: it has dialled), before its link counts;
    it may refuse. `ended` hears from a server that has proved who it is that it trusts this one no more.
    """

    def __init__(
        self, *, book: Book, say: Callable[[], PeerHello], identity: Callable[[], Identity],
        connect: Callable[[str, int], ClientEndpoint], reactor: Timers, clock: Clock, chance: Chance,
        greeted: Greeted = _no_matter, ended: Ended = _nothing_ends, greeting: Greeting = SERVER,
    ) -> None:  # fmt: skip
        self.book = book
        self.greeted = greeted
        self.ended = ended
        self.relaying = Relaying(book, self._open_connection)
        self._greeting = greeting
        self._say = say
        self._identity = identity
        self._endpoint = connect
        self._reactor = reactor
        self._clock = clock
        self._chance = chance
        self._links: dict[str, Link] = {}
        self._diallers: dict[str, Dialler] = {}
        self._parting = Parting(book, self._connect)
        self._silent: Counter[str] = Counter()  # connections of each server that have not said hello
        self._met: Counter[str] = Counter()  # how often each server has come to be part of a link
        self._turned_away: dict[str, str] = {}  # servers that came and speak no protocol number of ours: in words
        self._greeters: WeakSet[Connection] = WeakSet()  # those that have, or are gone
        self._direct: dict[str, _Direct] = {}
        self._on_change: list[Callable[[str, bool], None]] = []
        self._changes: deque[tuple[str, bool]] = deque()
        self._telling = False
        self._stopped = False

    # --- for the server ---

    def start(self) -> None:
        """Try to reach all that are pinned."""
        for row in self.book.rows:
            self.changed(row.id)

    def stop(self) -> None:
        """Close everything; nobody is tried any more."""
        self._stopped = True
        for dialler in self._diallers.values():
            dialler.stop()
        for link in self._links.values():
            link.stop()
            link.close(Unavailable("the server is stopping"))

    def refusal(self, name: Name, fingerprint: str) -> str | Refused | None:
        """Why whoever has come to the machines' door with this name may not; who is revoked is told so by it."""
        why = self.book.refusal(name, fingerprint)
        if isinstance(why, TrustEnded):
            self._parting.told(name.server)
        return why

    def changed(self, server: str) -> None:
        """What the book says of this server has changed: reach it now, or not any more."""
        if self._stopped:
            return
        self._parting.changed(server)
        if self._wanted(server):
            self._dialler(server).nudge()
        else:
            dialler = self._diallers.pop(server, None)
            if dialler is not None:
                dialler.stop()

    def cut(self, server: str, error: CopernicusError, last_words: tuple[str, Message] | None = None) -> None:
        """Say why, and close what is open with this server. `on_change` is told, also if nothing was."""
        link = self._links.pop(server, None)
        if link is None:
            self._tell_change(server, False)
            return
        was_up = link.up
        connection = link.connection(bulk=False)
        if last_words is not None and connection is not None:
            connection.tell(*last_words)
        link.stop()
        link.close(error)
        if not was_up:
            self._tell_change(server, False)

    def trouble(self, server: str) -> str:
        """Why there is no link with this server, as far as this side knows."""
        if self.is_up(server):
            return ""
        dialler = self._diallers.get(server)
        return (dialler.trouble if dialler is not None else "") or self._turned_away.get(server, "")

    def release(self, server: str) -> str:
        """Which release it runs; "" while it is not connected."""
        link = self._links.get(server)
        return link.release if link is not None and link.up else ""

    # --- Ways ---

    @property
    def here(self) -> str:
        """This server's id."""
        return self.book.here

    def up(self) -> tuple[str, ...]:
        """The trusted peers that are connected now, those first that are asked first."""
        return tuple(row.id for row in self.book.rows if self.is_up(row.id))

    def is_up(self, peer: str) -> bool:
        """Whether this one is."""
        link = self._links.get(peer)
        return link is not None and link.up and self.book.trusts(peer)

    def priority(self, peer: str) -> int:
        """The smaller, the sooner this peer is asked."""
        row = self.book.get(peer)
        return row.priority if row is not None else 0

    def agreement(self, peer: str) -> Agreement:
        """What the operator has set for this peer; everything off for one that is not trusted."""
        return self.book.agreement(peer)

    async def ask(
        self, peer: str, method: str, question: Message, answer: type[T], timeout: float, bulk: bool = False
    ) -> T:
        """A direct question. Unavailable when the peer is not connected or late."""
        return await self._connected(peer, bulk).call(method, question, answer, timeout, bulk)

    def tell(self, peer: str, method: str, message: Message) -> None:
        """A direct one-way message; dropped when the peer is not connected."""
        connection = self._open_connection(peer, False)
        if connection is not None:
            connection.tell(method, message)

    def ask_far(
        self,
        route: tuple[str, ...],
        method: str,
        question: Message,
        answer: type[T],
        timeout: float,
        bulk: bool = False,
        most: int = 0,
    ) -> Coroutine[Any, Any, T]:
        """A question to the end of `route`, which begins here. Unavailable in words when a server on it is not there."""
        connection = self._connected(self._first(route), bulk)
        bounds = self.relaying.bound(method, route, 0)
        return connection.call(method, question, answer, timeout, bulk, route, most, bounds)

    def tell_far(self, route: tuple[str, ...], method: str, message: Message) -> None:
        """A one-way message to the end of `route`; it may be lost."""
        connection = self._open_connection(self._first(route), False)
        if connection is not None:
            connection.tell(method, message, route)

    def serve(self, method: str, question: type[Q], handler: Handler[Q], *, far: bool, bulk: bool = False) -> None:
        """Answer this method, on all connections with trusted peers."""
        if far:
            self.relaying.serve(method, question, handler, bulk)
            return
        served = self._direct[method + ("/bulk" if bulk else "")] = _Direct(question, handler, bulk)
        for link in self._links.values():
            connection = link.connection(bulk)
            if connection is not None:
                self._serve_one(connection, method, served)

    def hook(self, method: str, hook: Hook) -> None:
        """Let `hook` answer the far questions of this method that only pass through here, instead of passing them on."""
        self.relaying.hook(method, hook)

    def on_change(self, callback: Callable[[str, bool], None]) -> None:
        """Call back with (peer, up) whenever a peer comes or goes; also when trust in it is revoked (not up)."""
        self._on_change.append(callback)

    # --- connections ---

    def connected(self, connection: Connection) -> None:
        """A server has come to the machines' door. Until it has said hello nothing else is served."""
        assert connection.peer is not None
        peer = connection.peer.server
        if peer == self.here:
            connection.refuse(Refused("this is the server itself"))
        elif self._stopped:
            connection.close("the server is stopping")
        else:
            self._silent[peer] += 1
            if self._silent[peer] > MAX_SILENT:
                connection.refuse(Refused(f"{MAX_SILENT} connections of this server have not said hello"))
            connection.on_closed(lambda _: self._heard_of(connection))
            connection.drop_when_idle(SILENCE)
            connection.serve("peer-hello", PeerHello, self._hello)
            connection.serve("withdrawn", Withdrawn, partial(self._withdrawn, self._met[peer]))

    def turned_away(self, connection: Connection) -> None:
        """A server has come to the machines' door, and was not let in because of what it speaks."""
        if connection.peer is not None and isinstance(connection.end, NoCommonProtocol):
            self._turned_away[connection.peer.server] = str(connection.end)

    def _heard_of(self, connection: Connection) -> None:
        """It has said hello, or is gone."""
        assert connection.peer is not None
        if connection not in self._greeters:
            self._greeters.add(connection)
            self._silent[connection.peer.server] -= 1
            self._silent += Counter()

    async def _hello(self, connection: Connection, said: PeerHello) -> PeerHello:
        assert connection.peer is not None
        peer = connection.peer.server
        if connection in self._greeters:
            raise Refused("this connection has said hello already")
        self._heard_of(connection)
        await self._admit(connection, peer, said, None, peer)
        return self._hello_of(said.bulk)

    async def _withdrawn(self, met: int, connection: Connection, said: Withdrawn) -> None:
        """Instead of a hello."""
        assert connection.peer is not None
        await self._has_ended(connection.peer.server, met, said)

    async def _has_ended(self, server: str, met: int, said: Withdrawn) -> None:
        """Said on a connection that was made when the two had met so often. If they have met since, trust was given anew since:
        whoever is on the way can hold words back."""
        if self._met[server] == met:
            await self.ended(server, said)
        else:
            log.info("{called} has ended a trust that was given anew since", called=self.book.called(server))

    async def _open(self, server: str, address: Address) -> None:
        """Both connections, or those that are not there."""
        if self._parting.due(server):
            await self._parting.tell(server, address)
            return
        for bulk in (False, True):
            link = self._links.get(server)
            if link is None or link.connection(bulk) is None:
                await self._open_one(server, address, bulk)

    async def _open_one(self, server: str, address: Address, bulk: bool) -> None:
        if not peering.pinned(self.book.state(server)):
            raise Refused("it is not trusted any more")
        met = self._met[server]
        try:
            connection = await self._connect(server, address, self.book.refusal)
        except TrustEnded as error:  # in its own words: that it is this server was checked before any was read
            await self._has_ended(server, met, Withdrawn(hand_back=error.hand_back))
            raise
        try:
            said = await connection.call("peer-hello", self._hello_of(bulk), PeerHello, timeout=CONNECT_TIME)
            await self._admit(connection, server, said, address, self.here)
        except CopernicusError as error:
            connection.close(error.message)
            raise

    async def _connect(self, server: str, address: Address, refuse: Refuse) -> Connection:
        row = self.book.get(server)
        if row is None:
            raise Refused("it is not known any more")
        security = ClientTls(self._identity(), row.authority, server, refuse)
        endpoint = self._endpoint(address.host, address.port)
        return await connect(endpoint, security, self._reactor, self._clock, CONNECT_TIME, greeting=self._greeting)

    def _hello_of(self, bulk: bool) -> PeerHello:
        return msgspec.structs.replace(self._say(), bulk=bulk)

    async def _admit(
        self, connection: Connection, peer: str, said: PeerHello, reached: Address | None, dialler: str
    ) -> None:
        """Both sides have said hello: from now on the connection is part of the link."""
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(self.here, peer, self._reactor, partial(self._link_changed, peer))
        link.check(said.bulk, dialler)
        await self.greeted(peer, said, reached)
        if self._stopped or not self.book.trusts(peer):
            raise Refused("this server does not trust it")
        if connection.closed:
            raise Unavailable("the connection was lost")
        if self._links.get(peer) is not link:
            raise Conflict("this was cut meanwhile")
        link.check(said.bulk, dialler)
        self._turned_away.pop(peer, None)
        for key, served in self._direct.items():
            if served.bulk is said.bulk:
                self._serve_one(connection, key.partition("/")[0], served)
        connection.serve("alive", Alive, None)
        connection.route(partial(self.relaying.routed, bulk=said.bulk), said.bulk, HELD_BULK if said.bulk else HELD)
        link.take(connection, said.bulk, dialler)
        self._met[peer] += 1

    def _serve_one(self, connection: Connection, method: str, served: _Direct) -> None:
        async def handle(connection: Connection, question: Any) -> Message | None:
            assert connection.peer is not None
            peer = connection.peer.server
            if not self.book.trusts(peer):
                raise Refused("this server does not trust it any more")
            return await served.handler(Caller(peer, (peer, self.here)), question)

        connection.serve(method, served.question, handle, served.bulk)

    def _open_connection(self, peer: str, bulk: bool) -> Connection | None:
        link = self._links.get(peer)
        return link.connection(bulk) if link is not None and link.up and self.book.trusts(peer) else None

    def _connected(self, peer: str, bulk: bool) -> Connection:
        connection = self._open_connection(peer, bulk)
        if connection is None:
            words = "is not connected" if self.book.trusts(peer) else "is not trusted here"
            raise Unavailable(f"{self.book.called(peer)} {words}", "see `cpcc connected-servers`")
        return connection

    def _first(self, route: tuple[str, ...]) -> str:
        if len(route) < 2 or route[0] != self.here or len(set(route)) != len(route):
            raise Refused(
                f"a route of {len(route)} servers that begins at {route[0] if route else 'none'} is none from here"
            )
        return route[1]

    def _dialler(self, server: str) -> Dialler:
        found = self._diallers.get(server)
        if found is None:
            found = self._diallers[server] = Dialler(
                called=self.book.called(server), addresses=partial(self._addresses, server),
                is_up=partial(self.is_up, server), open=partial(self._open, server), reactor=self._reactor,
                chance=self._chance, patience=0.0 if self.here < server else PATIENCE,
            )  # fmt: skip
        return found

    def _wanted(self, server: str) -> bool:
        """Whether it is to be reached."""
        return peering.pinned(self.book.state(server)) or self._parting.due(server)

    def _addresses(self, server: str) -> tuple[Address, ...]:
        row = self.book.get(server)
        return row.addresses.to_try if row is not None and self._wanted(server) else ()

    # --- changes ---

    def _link_changed(self, peer: str, up: bool) -> None:
        log.info(
            "{called} is {how}", called=self.book.called(peer), how="connected" if up else "not connected any more"
        )
        self._tell_change(peer, up)
        dialler = self._diallers.get(peer)
        if not up and dialler is not None:
            dialler.lost()

    def _tell_change(self, peer: str, up: bool) -> None:
        # Later, so that the answer to a hello has left before anything is asked; and in the order in which it happened.
        self._changes.append((peer, up))
        if not self._telling:
            self._telling = True
            self._reactor.callLater(0, self._tell_changes)

    def _tell_changes(self) -> None:
        self._telling = False
        while self._changes:
            peer, up = self._changes.popleft()
            for callback in self._on_change:
                try:
                    callback(peer, up)
                except Exception:  # the others are told all the same
                    log.failure("after a change of the link with {peer}", peer=peer)
