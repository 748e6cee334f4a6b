"""Requests of servers that are not trusted yet. Anybody may send one: they are signed, bounded and rare, and wait for people."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from cpc.core.chance import Chance
from cpc.core.clock import DAY, Clock
from cpc.core.errors import BadInput, Conflict, CopernicusError, RateLimited, Refused, TooLarge
from cpc.core.peer import Agreement, PeerState
from cpc.core.peer_views import PeerAnswer, PeerRequest
from cpc.core.texts import plain
from cpc.server.federation import addresses, peering
from cpc.server.federation.book import Book
from cpc.server.federation.fresh import Fresh
from cpc.server.federation.peering import Event
from cpc.server.federation.trust import MAX_NAME, Trust
from cpc.server.gate import Gate
from cpc.server.principal import NOBODY, Call
from cpc.server.roles import Act
from cpc.store import peers
from cpc.store.peers import Addresses, PeerRow
from cpc.store.transaction import Tx
from cpc.wire.identity import check_authority, fingerprint_of, is_signed_by

MAX_WAITING = 100  # requests that wait for somebody to decide
MAX_OF_ADDRESS = 10  # of them, that came from one address
MAX_AGE = 90 * DAY  # then they make room
MAX_AUTHORITY = 16 << 10  # bytes
WINDOW = 3600.0  # seconds
MAX_OF_ONE = 30  # requests of one address within the window
MAX_OF_ALL = 300
MAX_ADDRESSES = 5000  # that are remembered


class Requests:
    """Takes them, and lets them be taken back; each once (see `fresh`)."""

    def __init__(self, gate: Gate, book: Book, trust: Trust, clock: Clock, chance: Chance) -> None:
        self._gate = gate
        self._book = book
        self._trust = trust
        self._clock = clock
        self._fresh = Fresh(clock, chance)
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def word(self) -> str:
        """For whoever will send one."""
        return self._fresh.word()

    async def take(self, request: PeerRequest, address: str, signed: bytes = b"") -> PeerAnswer:
        """A server asks, or takes back what it has asked. `address` is where it comes from, `signed` what its signature is of,
        if that is more than is known of requests here."""
        self._count(address)
        server = self._check(request, signed or request.signed)

        def unit(tx: Tx) -> PeerAnswer:
            row = peers.get(tx, server)
            if row is not None and fingerprint_of(row.authority) != fingerprint_of(request.authority.encode()):
                raise Conflict(
                    f"another server has asked here under the id {server}",
                    "ask the administrator here to refuse that one: cpcc connected-servers, cpcc refuse-server",
                )
            if request.withdrawn:
                return self._take_back(tx, server, row)
            return self._asked(tx, server, row, request, address)

        return await self._gate.write(Call(NOBODY), Act.PEER_REQUEST, unit, answer=PeerAnswer)

    def _asked(self, tx: Tx, server: str, row: PeerRow | None, request: PeerRequest, address: str) -> PeerAnswer:
        state = row.state if row else None
        if not peering.can(state, Event.REQUESTED):
            raise Refused(
                "that server does not want to be asked by this one",
                "its administrator can change that: cpcc trust, or cpcc refuse-server to forget this one",
            )
        if row is not None and peering.pinned(row.state):  # this side has asked too, or trusts it already
            moved = self._trust.move(tx, row, row, Event.REQUESTED)
            return PeerAnswer(id=self._book.here, state=moved.state.value)
        if row is None:
            self._make_room(tx, address)
        where = row.addresses if row else Addresses()
        where = Addresses(
            typed=where.typed, said=addresses.said(request.host, request.port, request.client_port), good=where.good
        )
        fresh = PeerRow(
            server, PeerState.RECEIVED, plain(request.name, MAX_NAME), request.authority.encode(), 0, where,
            row.agreement if row else Agreement(), plain(address, MAX_NAME), "", tx.now, None, None,
            finish=row is not None and row.finish,
        )  # fmt: skip
        moved = self._trust.move(tx, row, fresh, Event.REQUESTED)
        if row is None or row.state is PeerState.WITHDRAWN:
            tx.event("server", "peer.requested", name=fresh.name, server=server, address=address)
        return PeerAnswer(id=self._book.here, state=moved.state.value)

    def _take_back(self, tx: Tx, server: str, row: PeerRow | None) -> PeerAnswer:
        if row is not None and row.state is PeerState.RECEIVED:
            self._trust.move(tx, row, row, Event.DROPPED)
            tx.event("server", "peer.dropped", name=row.name, server=server, state=row.state.value)
        return PeerAnswer(id=self._book.here, state="")

    def _make_room(self, tx: Tx, address: str) -> None:
        waiting = [row for row in peers.every(tx) if row.state is PeerState.RECEIVED]
        for row in [row for row in waiting if row.requested < tx.now - MAX_AGE]:
            self._trust.move(tx, row, row, Event.DROPPED)
            waiting.remove(row)
        # Identities are made in no time: whoever invents many must not keep everybody else out.
        network = _network(address)
        if sum(_network(row.origin) == network for row in waiting) >= MAX_OF_ADDRESS:
            raise RateLimited(
                f"{MAX_OF_ADDRESS} requests from this address wait there already",
                "ask that server's administrator to decide about them: cpcc trust, cpcc refuse-server",
            )
        if len(waiting) >= MAX_WAITING:
            raise RateLimited(
                f"{MAX_WAITING} requests wait there already", "ask that server's administrator to decide about them"
            )

    def _check(self, request: PeerRequest, signed: bytes) -> str:
        """Whose request it is. Refusals in words for the other server's administrator."""
        pem = request.authority.encode()
        if len(pem) > MAX_AUTHORITY:
            raise TooLarge(f"a server's certificate has at most {MAX_AUTHORITY} bytes")
        if request.to != self._book.here:
            raise Refused(
                f"this is server {self._book.here}, not {request.to[:64]}", "give the address of the one you mean"
            )
        try:
            server = check_authority(pem)
        except CopernicusError as error:
            raise BadInput(f"the certificate in the request: {error.message}") from None
        if server == self._book.here:
            raise BadInput("a server cannot ask itself", "give the address of another one")
        if not is_signed_by(pem, signed, request.signature_bytes):
            raise Refused("the request is not signed by the server that it names")
        self._fresh.use(request.word)
        return server

    def _count(self, address: str) -> None:
        now = self._clock.monotonic()
        for key, most in ((_network(address), MAX_OF_ONE), ("", MAX_OF_ALL)):
            times = self._times.setdefault(key, deque())
            while times and times[0] <= now - WINDOW:
                times.popleft()
            if len(times) >= most:
                wait = max(1, round(times[0] + WINDOW - now))
                raise RateLimited("too many requests of servers to be trusted", f"try again in {wait} s")
        for key in (_network(address), ""):
            self._times[key].append(now)
            self._times.move_to_end(key)
        while len(self._times) > MAX_ADDRESSES:
            self._times.popitem(last=False)


def _network(address: str) -> str:
    """Whoever has one address of IPv6 has its whole network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address or "nowhere"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
