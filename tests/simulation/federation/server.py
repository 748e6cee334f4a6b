"""A server that has peers: what every simulated server is made of, with the links between servers and what goes over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cpc
from cpc.server.federation.book import Book
from cpc.server.federation.links import Links
from cpc.store import peers
from cpc.wire.connection import SERVER, Connection, Listener
from cpc.wire.identity import Identity, Name, Role
from cpc.wire.peer_messages import PeerHello
from cpc.wire.tls import ServerTls
from tests.simulation.server import PORT, YEARS, Server

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site

CLIENT_PORT = 14807


class PeerServer(Server):
    """One life of a server that has peers."""

    world: Site
    since = 0.0  # when it has begun to reach for its peers, in virtual seconds

    def _open_doors(self) -> None:
        host = self.host
        # As `cpc.server.service` does it: a certificate of its own for each life, by its own clock.
        self.identity: Identity = self.authority.identity(Name(self.world.id, Role.SERVER), YEARS)
        self.book = Book(self.world.id, self.authority.certificate_pem)
        self.links = Links(
            book=self.book, say=self._say, identity=lambda: self.identity, connect=self.world.dial, reactor=host.reactor,
            clock=host.clock, chance=self.seeded,
        )  # fmt: skip
        tls = ServerTls(self.identity, self.book.pinned, self._refusal)
        self.listener = Listener(host.reactor, tls, self._connected, host.clock, greeting=SERVER)

    def _say(self) -> PeerHello:
        return PeerHello(
            name=self.world.name, release=cpc.__version__, host=self.world.name, port=PORT, client_port=CLIENT_PORT
        )

    def _refusal(self, name: Name, fingerprint: str) -> str | None:
        return self.bundles.refusal(name, fingerprint) if name.server == self.world.id else self.book.refusal(name)

    def _connected(self, connection: Connection) -> None:
        assert connection.peer is not None
        if connection.peer.role is Role.SERVER:
            self.links.connected(connection)
        else:
            self.machines.connected(connection)

    async def start(self) -> None:
        """The doors open when everything is loaded, and the peers are dialled."""
        self.book.load(await self.store.read(peers.every))
        await super().start()
        self.links.start()
        self.since = self.world.now
