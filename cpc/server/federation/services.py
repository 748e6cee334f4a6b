"""All that has to do with other servers, put together. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpc import __version__
from cpc.core import ids
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import Refused
from cpc.core.offload import Offload
from cpc.server.config import Config
from cpc.server.federation.addresses import called
from cpc.server.federation.book import Book
from cpc.server.federation.filing import Filing
from cpc.server.federation.handing import Handing
from cpc.server.federation.lending import Lending
from cpc.server.federation.links import Links
from cpc.server.federation.outside import Outside
from cpc.server.federation.quarantine import SETTING as QUARANTINE
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.requests import Requests
from cpc.server.federation.survey import Surveying
from cpc.server.federation.trust import Asking, Trust
from cpc.server.gate import Gate
from cpc.server.machines import Machines
from cpc.server.queue import Queue
from cpc.server.settings import Settings
from cpc.server.storage import Storage
from cpc.spool.disk import Disk
from cpc.spool.real_disk import RealDisk
from cpc.store import figures
from cpc.store.store import Store
from cpc.wire.connection import Connection, Listener
from cpc.wire.endpoints import ClientEndpoint
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.peer_messages import PeerHello, ServerSeen


class Federation:
    """`identity`: the server's certificate now. `connect`: how to get to a host and port. `outside`: another way to servers
    that are not trusted yet than their people's doors, and `disk` another one than the machine's, for the simulation."""

    def __init__(
        self, *, config: Config, authority: Authority, identity: Callable[[], Identity], store: Store, gate: Gate,
        queue: Queue, machines: Machines, storage: Storage, settings: Settings, offload: Offload,
        connect: Callable[[str, int], ClientEndpoint], reactor: Any, clock: Clock, chance: Chance,
        outside: Asking | None = None, disk: Disk | None = None,
    ) -> None:  # fmt: skip
        self._config = config
        self._store = store
        self._queue = queue
        self.book = Book(authority.server_id, authority.certificate_pem)
        self.links = Links(
            book=self.book, say=self.say, identity=identity, connect=connect, reactor=reactor, clock=clock, chance=chance,
        )  # fmt: skip
        self.trust = Trust(
            store=store, gate=gate, book=self.book, links=self.links, outside=outside or Outside(reactor, connect),
            authority=authority, say=self.say,
        )  # fmt: skip
        quarantine = Quarantine(queue, clock, lambda: settings.whole(QUARANTINE), self.book.called)
        self.lending = Lending(
            queue=queue, store=store, machines=machines, ways=self.links, timers=reactor, clock=clock, chance=chance,
            name=self.say().name, quarantine=quarantine, trusts=self.book.trusts,
        )  # fmt: skip
        self.trust.on_revoke.append(self.lending.revoked)
        self.trust.on_agreed.append(self.lending.agreed)
        self.requests = Requests(gate, self.book, self.trust, clock, chance)
        self.surveying = Surveying(
            ways=self.links, book=self.book, gate=gate, about=self.about, name=self.say().name, clock=clock, chance=chance,
            trouble=self.links.trouble,
        )  # fmt: skip

        def worker_name(worker: int) -> str:
            seat = machines.seats.of_worker(worker)
            return seat.name if seat is not None else ids.show(worker)

        self.filing = Filing(
            ways=self.links, files=machines.files, store=store, gate=gate, storage=storage, disk=disk or RealDisk(),
            run_dir=config.run_dir, offload=offload, size_of=settings.whole, called=self.book.called, timers=reactor,
            clock=clock, chance=chance, quarantine=quarantine, name_of=worker_name,
        )  # fmt: skip
        machines.far_files = self.filing.home
        self.filing.home.speaks = self.lending.speaks
        self.lending.home.custody = self.filing.custody
        self.lending.home.finishes = self.book.finishes
        self.filing.custody.gone = self.lending.first.handed_in
        self.filing.custody.reports = Handing(self.links, self.lending.home)

    async def load(self) -> None:
        """Know who is known, before the doors open."""
        await self.trust.load()
        await self._store.write(self.lending.load)
        await self.filing.load()

    def start(self, door: Listener) -> None:
        """Reach the peers; the machines' door is open."""
        door.turned_away = self.links.turned_away
        self.links.start()
        self.filing.start()

    def stop(self) -> None:
        """Let them go."""
        self.lending.stop()
        self.filing.stop()
        self.links.stop()

    # --- for the machines' door ---

    def pinned(self) -> dict[str, bytes]:
        """Server id → certificate of the authority that may vouch for it."""
        return self.book.pinned()

    def refusal(self, name: Name, fingerprint: str) -> str | Refused | None:
        """Why somebody with a certificate of another server's authority may not connect."""
        return self.links.refusal(name, fingerprint)

    def is_server(self, connection: Connection) -> bool:
        """Whether this is for `links`, and not a worker."""
        return connection.peer is not None and connection.peer.role is Role.SERVER

    # --- what this server says of itself ---

    def summary(self) -> tuple[int, int, list[str]]:
        """For the status: how many servers are connected, how many away, and what an administrator should know."""
        connected, away, said = self.trust.summary()
        return connected, away, [*said, *self.filing.custody.lines()]

    def connected(self) -> int:
        """How many servers are."""
        return len(self.links.up())

    def areas(self) -> dict[str, int]:
        """For the monitoring: bytes on disk by what they are for."""
        return {"relay-cache": self.filing.cache.size, "custody": self.filing.custody.size}

    def say(self) -> PeerHello:
        """What it calls itself."""
        config = self._config
        return PeerHello(
            name=called(config.name, config.host), release=__version__, host=config.host, port=config.port,
            client_port=config.client_port,
        )  # fmt: skip

    async def about(self) -> ServerSeen:
        """How it is."""
        sessions = [session for session in list(self._queue.index.sessions.values()) if not session.home]
        totals = await self._store.read(figures.totals)
        running = len(self._queue.index.running)
        return ServerSeen(
            server=self.book.here,
            name=called(self._config.name, self._config.host),
            release=__version__,
            peers=self.links.up(),
            workers=len(sessions),
            cores=sum(session.total.cores for session in sessions),
            busy_cores=sum(session.total.cores - session.free.cores for session in sessions),
            working_for=tuple((owner, jobs) for owner, (jobs, _) in sorted(self.lending.home.totals().items())),
            jobs_waiting=max(0, sum(counted[0] for counted in totals.values()) - running),
        )
