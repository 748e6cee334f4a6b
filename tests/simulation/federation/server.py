"""A server that has peers: what every simulated server is made of, and all that has to do with other servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from cpc import __version__
from cpc.core.errors import Refused, Unavailable
from cpc.core.peer_views import PeerAnswer, PeerRequest
from cpc.core.views import ServerView
from cpc.server.config import Config
from cpc.server.federation.outside import Stranger
from cpc.server.federation.services import Federation
from cpc.server.settings import Settings
from cpc.wire.connection import Connection, Listener
from cpc.wire.identity import Identity, Name, Role
from cpc.wire.messages import Message
from cpc.wire.tls import ServerTls
from tests.helpers.memory_disk import MemoryDisk
from tests.simulation.federation import plain
from tests.simulation.federation.releases import speak
from tests.simulation.server import PORT, YEARS, Server
from tests.simulation.threads import Pool

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site

T = TypeVar("T")

CLIENT_PORT = 14807
PATIENCE = 20.0  # seconds for a question to a server that is not trusted yet


class PeerServer(Server):
    """One life of a server that has peers."""

    world: Site
    since = 0.0  # when it has begun to reach for its peers, in virtual seconds

    def _open_doors(self) -> None:
        host = self.host
        # As `cpc.server.service` does it: a certificate of its own for each life, by its own clock.
        self.identity: Identity = self.authority.identity(Name(self.world.id, Role.SERVER), YEARS)
        config = Config(
            name=self.world.name, host=self.world.name, listen=(), port=PORT, client_port=CLIENT_PORT,
            database=self.world.url, run_dir="/run",
        )  # fmt: skip
        self._pool = Pool(host)
        self.local_disk = MemoryDisk(self.world.platter)
        self.settings = Settings(self.store, self.gate)
        self.federation = Federation(
            config=config, authority=self.authority, identity=lambda: self.identity, store=self.store, gate=self.gate,
            queue=self.queue, machines=self.machines, storage=self.storage, settings=self.settings, disk=self.local_disk,
            offload=self._offload, connect=self.world.dial, reactor=host.reactor, clock=host.clock, chance=self.seeded,
            outside=PeoplesDoors(self.world),
        )  # fmt: skip
        self._count()
        self.lending, self.custody = self.federation.lending, self.federation.filing.custody
        self.lending.owner.peer_grace = self.world.universe.plan.peer_grace
        self.monitor.borrowers = self.lending.owner
        tls = ServerTls(self.identity, self.federation.pinned, self._refusal)
        greeting = speak(self.federation.links, self.world.release)
        self.listener = Listener(host.reactor, tls, self._connected, host.clock, greeting=greeting)
        self.federation.trust.cut = lambda: self.machines.cut_names(self._refusal, self.listener.connections)

    def _count(self) -> None:
        """Of what it says to its neighbours."""
        links, messages = self.federation.links, self.world.universe.messages
        ask, tell = links.ask, links.tell

        async def counted_ask(peer: str, method: str, *args: Any, **keywords: Any) -> Any:
            messages[method] += 1
            return await ask(peer, method, *args, **keywords)

        def counted_tell(peer: str, method: str, message: Message) -> None:
            messages[method] += 1
            tell(peer, method, message)

        links.ask = counted_ask  # type: ignore[method-assign]
        links.tell = counted_tell  # type: ignore[method-assign]

    def _refusal(self, name: Name, fingerprint: str) -> str | None:
        return self.bundles.refusal(name, fingerprint) or self.federation.refusal(name, fingerprint)

    def _connected(self, connection: Connection) -> None:
        if self.federation.is_server(connection):
            self.federation.links.connected(connection)
        else:
            self.machines.connected(connection)

    async def _load(self) -> None:
        await self.settings.load()
        await super()._load()
        await self.federation.load()

    async def start(self) -> None:
        """The doors open when everything is loaded, and the peers are dialled."""
        await super().start()
        if self.world.universe.plan.plain:
            await self.listener.listen(self.world.universe.plain(self.host.listen(plain.PORT)))
        self.federation.start(self.listener)
        self.since = self.world.now

    def end(self) -> None:
        """The process is gone, with its hold on the disk."""
        super().end()
        self.local_disk.end()

    def _offload(self, work: Callable[[], T]) -> Deferred[T]:
        """A thread of the server's: meanwhile other things happen."""
        return self._pool.run(work, self.world.chance.uniform(0.0005, 0.01) * self.world.slowness)

    def is_up(self, peer: Site) -> bool:
        """Whether it has a link with this one."""
        return self.federation.links.is_up(peer.id)


class PeoplesDoors:
    """What `outside.Outside` does over HTTP, without HTTP: questions and answers take time, and are lost."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def look(self, host: str, port: int) -> Stranger:
        """Who is there."""
        server = await self._reach(host, port)
        other = server.world
        view = ServerView(
            id=other.id, name=other.name, release=__version__, protocol=1, incarnation=1, host=other.name, port=PORT,
            client_port=CLIENT_PORT, fingerprint=other.given.authority.fingerprint, started=0, heartbeat_time=60.0,
        )  # fmt: skip
        return Stranger(view, other.given.authority.certificate_pem, server.federation.requests.word())

    async def ask(self, host: str, port: int, request: PeerRequest) -> PeerAnswer:
        """Send a request."""
        server = await self._reach(host, port)
        answer = await server.federation.requests.take(request, self._site.name)
        await self._reach(host, port)  # the answer's way back
        return answer

    async def _reach(self, host: str, port: int) -> PeerServer:
        """The server that runs there, a moment later."""
        site = self._site
        if port != CLIENT_PORT:
            raise Refused(f"nothing listens at {host} port {port}")
        other = site.universe.by_name(host)
        network = site.network
        if network.blocked(site.name, host) or network.blocked(host, site.name) or not site.dials(other):
            await site.universe.pause(PATIENCE)
            raise Unavailable(f"{host} does not answer")
        await site.universe.pause(network.latency())
        if other.peers is None or other.peers.host.reactor.frozen:
            raise Unavailable(f"nothing listens at {host}")
        return other.peers
