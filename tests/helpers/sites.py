"""Several servers with the production links between them, on a simulated network and virtual time. No database."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cpc.core.chance import SeededChance
from cpc.core.clock import DAY, SECOND
from cpc.core.peer import Address, Agreement, PeerState
from cpc.server.federation.book import Book
from cpc.server.federation.links import Links
from cpc.store.peers import Addresses, PeerRow
from cpc.wire.connection import SERVER, Connection, Listener
from cpc.wire.frames import Greeting
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.peer_messages import PeerHello
from cpc.wire.tls import ServerTls
from tests.simulation.clock import VirtualReactor
from tests.simulation.network import Faults, Network

YEAR = 365 * DAY / SECOND
PORT = 13807


def server_id(name: str) -> str:
    """`a` → an id that begins so and sorts like the name."""
    return f"{name * 8}-0000-4000-8000-000000000000"[:36]


@lru_cache(maxsize=64)
def keys(name: str) -> tuple[bytes, bytes]:
    """Key and certificate of a server's authority, made once."""
    made = Authority.create(server_id(name), chance=SeededChance(ord(name[0])))
    return made.key_pem, made.certificate_pem


class Site:
    """One server: its door, its book, its links. `changes` are what `on_change` has told."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.id = server_id(name)
        self.host = lab.network.host(name)
        self.authority = Authority.load(*keys(name), self.host.clock, SeededChance(len(lab.sites)))
        self.identity = self.authority.identity(Name(self.id, Role.SERVER), YEAR)
        self.book = Book(self.id, self.authority.certificate_pem)
        self.strangers: list[Connection] = []
        self.changes: list[tuple[str, bool]] = []
        self.greeting = lab.greetings.get(name, SERVER)
        self.start()

    def start(self) -> None:
        """The process begins; what the book holds, it knows."""
        host = self.host
        tls = ServerTls(self.identity, self.book.pinned, lambda name, key: self.links.refusal(name, key))
        self.links = Links(
            book=self.book, say=self.say, identity=lambda: self.identity, connect=host.connect, reactor=host.reactor,
            clock=host.clock, chance=SeededChance(7), greeting=self.greeting,
        )  # fmt: skip
        self.links.on_change(lambda peer, up: self.changes.append((self.lab.name(peer), up)))
        self.listener = Listener(host.reactor, tls, self._connected, host.clock, greeting=self.greeting)
        self.listener.turned_away = self.links.turned_away
        self.lab.reactor.finish(self.listener.listen(host.listen(PORT)))
        self.links.start()

    def restart(self) -> None:
        """kill -9, and again."""
        self.host.start()
        self.start()

    def say(self) -> PeerHello:
        return PeerHello(name=self.name, release="t", host=self.name, port=PORT, client_port=PORT + 1000)

    def _connected(self, connection: Connection) -> None:
        assert connection.peer is not None
        if connection.peer.role is Role.SERVER:
            self.links.connected(connection)
        else:
            self.strangers.append(connection)

    def knows(self, other: Site, *, address: bool = True, state: PeerState = PeerState.TRUSTED, priority: int = 0,
              agreement: Agreement | None = None) -> None:  # fmt: skip
        """From now on it does."""
        where = Addresses(said=Address(other.name, PORT, PORT + 1000)) if address else Addresses()
        pem, agreed = other.authority.certificate_pem, agreement or Agreement()
        self.book.put(PeerRow(other.id, state, other.name, pem, priority, where, agreed, "", "", 0, 0, 0))
        self.links.changed(other.id)

    def issue(self, role: Role, name: str = "", server: Site | None = None) -> Identity:
        """A certificate that this server's authority makes; of another server's machine, if one is given."""
        return self.authority.identity(Name((server or self).id, role, name), YEAR)


class Lab:
    """`Lab("ab")`: servers of these names that do not know each other yet. `greetings`: of those of other releases."""

    site: type[Site] = Site

    def __init__(
        self, names: str, seed: int = 1, faults: Faults | None = None, greetings: Mapping[str, Greeting] | None = None
    ) -> None:
        self.greetings = greetings or {}
        self.reactor = VirtualReactor()
        self.network = Network(self.reactor, random.Random(seed), faults)
        self.sites: dict[str, Site] = {}
        for name in names:
            self.sites[name] = self.site(self, name)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def name(self, server: str) -> str:
        """Of a server, by its id."""
        return next((site.name for site in self.sites.values() if site.id == server), server)

    def trust(self, *pairs: str, **options: Any) -> None:
        """`"ab"`: these two trust each other, and can reach each other."""
        for pair in pairs:
            one, other = self[pair[0]], self[pair[1]]
            one.knows(other, **options)
            other.knows(one, **options)

    def route(self, names: str) -> tuple[str, ...]:
        """The ids of these servers."""
        return tuple(server_id(name) for name in names)

    def finish(self, work: Any, within: float = 300.0) -> Any:
        """The result, in virtual time."""
        return self.reactor.finish(work, within)

    def until(self, true: Any, within: float = 300.0) -> None:
        """Go on until it is."""
        self.reactor.run_until(true, within)
        self.reactor.advance(0)

    def connected(self, pair: str) -> bool:
        """Whether both say so."""
        one, other = self[pair[0]], self[pair[1]]
        return one.links.is_up(other.id) and other.links.is_up(one.id)
