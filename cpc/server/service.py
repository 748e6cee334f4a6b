"""The server put together: which part is made of which, in which order they start and stop. No logic of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.logger import Logger

from cpc.api.scheduler import Tools
from cpc.core.chance import Chance, SystemChance
from cpc.core.clock import SECOND, Clock, SystemClock, Timer
from cpc.core.errors import Conflict, CopernicusError, Refused
from cpc.core.threads import Threads
from cpc.core.views import ServerStatus, ServerView
from cpc.server import joining, upkeep
from cpc.server.accounts import Accounts, Rules
from cpc.server.bundles import Bundles, Terms
from cpc.server.config import Config, Place
from cpc.server.events import Events
from cpc.server.federation.services import Federation
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.http.door import Door, over_tls
from cpc.server.jobs import Jobs
from cpc.server.logins import TryLimits
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.metrics import Figures, Metrics
from cpc.server.monitor import Monitor
from cpc.server.network_services import Controlling, NetworkServices
from cpc.server.outbox import Outbox
from cpc.server.passwords import Passwords
from cpc.server.pool_services import PoolServices
from cpc.server.principal import Call, Principal
from cpc.server.projects import Projects
from cpc.server.queue import Limits, Queue
from cpc.server.results import Results
from cpc.server.retention import Keep, Retention
from cpc.server.roles import Act
from cpc.server.seal import Seal
from cpc.server.settings import Settings
from cpc.server.status import Status
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.server.worker_files import WorkerFiles
from cpc.server.workers import Workers
from cpc.store import projects, schema
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import RECENT, ChunkStore
from cpc.store.disk import RealDisk
from cpc.store.projects import ProjectRow
from cpc.store.statement import Statement
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.connection import SERVER, Connection, Listener
from cpc.wire.identity import Authority, Identity, Name, Role, not_after_of
from cpc.wire.tls import PeopleTls, ServerTls

log = Logger()

#: The server's own certificate: made anew at every start, and by itself long before it ends.
CERTIFICATE_TIME = 90 * 86400.0
RENEW_EVERY = 86400.0

_SERVER_ID = Statement(sa.select(schema.server.c.id))


class Service:
    """One running server. `fatal` is called when the process must stop; `request_stop` when somebody asks for it."""

    def __init__(
        self, place: Place, config: Config, reactor: Any, fatal: Callable[[str], None], *,
        clock: Clock | None = None, chance: Chance | None = None, controllers: Controlling | None = None,
        tools: Tools | None = None,
    ) -> None:  # fmt: skip
        self.place = place
        self.config = config
        self.on_stop: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._clock = clock or SystemClock()
        self._chance = chance or SystemChance()
        self._controllers = controllers
        self._tools = tools
        self._fatal = fatal
        self._ports: list[Any] = []
        self._pools: list[Threads] = []
        self._renewal: Timer | None = None
        self._identity: Identity | None = None

    # --- start ---

    async def start(self) -> None:
        """Everything, in order; when it returns, both doors are open. Raises in words, and has then closed what it opened."""
        try:
            self._open_store()
            await self._load()
            self._make_services()
            await self._store.write(self.queue.load)
            await self.federation.load()
            await self._store.write(self.pool_services.keeper.load)
            await self._open_doors()
        except BaseException:
            await self.stop()
            raise
        self._begin()
        await self.network_services.start()
        await self.pool_services.keeper.start()
        await self._store.write(
            lambda tx: tx.event("server", "server.started", release=self.status_page.view().release)
        )

    def _pool(self, name: str, size: int = 1) -> Threads:
        made = Threads(self._reactor, name, size)
        self._pools.append(made)
        return made

    def _open_store(self) -> None:
        self.authority_key = Authority.load(
            self.place.key_file.read_bytes(), self.place.certificate_file.read_bytes(), self._clock, self._chance
        )
        self._store = Store(
            self.config.database, writing=self._pool("writer"), reading=self._pool("reader"), clock=self._clock,
            reactor=self._reactor, fatal=self._fatal, holder=self._chance.token(16).hex(),
        )  # fmt: skip

    async def _load(self) -> None:
        server = await self._store.read(lambda tx: tx.scalar(_SERVER_ID))
        if server != self.authority_key.server_id:
            raise Conflict(
                f"the database belongs to server {server}, the identity key to server {self.authority_key.server_id}",
                f"use the key that belongs to the database: {self.place.key_file}",
            )
        self.gate = Gate(self._store, Seal(self.authority_key.key_pem, self._chance))
        self.settings = Settings(self._store, self.gate)
        await self.settings.load()

    def _make_services(self) -> None:
        disk_threads = self._pool("disk", 4)
        clock, chance, gate, store = self._clock, self._chance, self.gate, self._store
        disk = RealDisk(Path(self.config.run_dir))
        chunk_store = ChunkStore(store, ChunkFiles(disk), disk_threads, clock, RECENT)
        self.storage = Storage(disk, disk_threads, self._reactor, lambda: self.settings.whole("min_free_space"))
        self.queue = Queue(store.journal, clock, store.incarnation, Outbox(self._reactor), Limits())
        self.tokens = Tokens(store, gate, clock, chance)
        self.accounts = Accounts(
            store, gate, self.tokens, Passwords(chance), self._pool("passwords", 2), clock, Rules()
        )  # fmt: skip
        self.projects = Projects(gate, lambda tx, numbers: self.queue.split(projects.counts(tx, numbers)))
        terms = Terms(
            self.config.name, ((self.config.host, self.config.port),), ((self.config.host, self.config.client_port),)
        )
        self.bundles = Bundles(store, gate, self.tokens, self.authority_key, clock, terms)
        self.events = Events(store, gate)
        self.files = Files(store, chunk_store, gate, self.storage, disk_threads)
        self.machines = Machines(
            queue=self.queue, store=store, clock=clock, chunks=WorkerFiles(self.files, self.storage),
            enrolment=self.bundles, terms=MachineTerms(self.authority_key.server_id),
        )  # fmt: skip
        self.jobs = Jobs(store, gate, self.queue, self.storage, self._purge)
        self.results = Results(
            store=store, gate=gate, queue=self.queue, jobs=self.jobs, files=self.files, machines=self.machines,
            timers=self._reactor, clock=clock,
        )  # fmt: skip
        self.workers = Workers(store, gate, self.queue, self.machines)
        self.monitor = Monitor(self.queue, store, self._reactor, clock, self.machines, self._crowded)
        self.retention = Retention(store, chunk_store, self._keep, self._expire, clock, self._reactor)
        self.status_page = Status(
            config=self.config, server=self.authority_key.server_id, fingerprint=self.authority_key.fingerprint,
            store=store, gate=gate, queue=self.queue, machines=self.machines, storage=self.storage, clock=clock,
            certificates=self._certificates, last_backup=self._last_backup,
        )  # fmt: skip
        self.network_services = NetworkServices(
            place=self.place, config=self.config, store=store, gate=gate, queue=self.queue, files=self.files,
            settings=self.settings, offload=disk_threads.run, reactor=self._reactor, controllers=self._controllers,
        )  # fmt: skip
        self.networks, self.modules = self.network_services.networks, self.network_services.modules
        federation = self.federation = Federation(
            config=self.config, authority=self.authority_key, identity=self._own_identity, store=store, gate=gate,
            queue=self.queue, machines=self.machines, storage=self.storage, settings=self.settings,
            offload=disk_threads.run, connect=self._way_to, reactor=self._reactor, clock=clock, chance=chance,
        )  # fmt: skip
        self.workers.lending = self.status_page.lending = federation.lending
        self.monitor.borrowers, self.custody = federation.lending.owner, federation.filing.custody
        self.retention.borrowed, self.jobs.servers = federation.lending.owner.register, federation.connected
        self.peers, self.peer_requests, self.surveying = federation.trust, federation.requests, federation.surveying
        self.retention.directories, self.storage.on_low = self.network_services.workspace, self.retention.hurry
        self.pool_services = PoolServices(
            store=store, gate=gate, jobs=self.jobs, queue=self.queue, bundles=self.bundles, config=self.config, clock=clock,
            machines=self.machines, reactor=self._reactor, chance=chance, cut=self._cut, tools=self._tools,
        )  # fmt: skip
        self.pools = self.pool_services.pools
        self._join_services()

    def _join_services(self) -> None:
        """Where one service has to hear of what another does, in the same commit."""
        self.projects.jobs = self.jobs
        self.projects.networks, self.projects.files = self.networks, self.files
        self.files.moved = self.queue.tallies.move
        self.projects.on_change.append(self._project_changed)
        self.accounts.on_delete.append(self.bundles.user_deleted)
        self.bundles.on_revoke.append(self._bundle_revoked)
        self.federation.trust.cut = self._cut_refused
        self.status_page.servers, self.status_page.areas = self.federation.summary, self.federation.areas
        self.settings.watch(self._setting_changed)
        self._setting_changed("")

    async def _open_doors(self) -> None:
        await self.bundles.start()
        await self.storage.start()
        self._identity = self._certify()
        self._machine_tls = ServerTls(self._identity, self.federation.pinned, self._refusal)
        self._people_tls = PeopleTls(self._identity, *self._site_files())
        self.listener = Listener(self._reactor, self._machine_tls, self._connected, self._clock, greeting=SERVER)
        self.metrics = Metrics()
        self.queue.tallies.waited = self.metrics.queue_wait.observe_all
        self.queue.tallies.ran = self.metrics.run.observe_all
        self.queue.tallies.staged = self.metrics.staged
        self._store.writer.took = self.metrics.transaction.observe
        self.door = Door(self, reactor=self._reactor, clock=self._clock, chance=self._chance, metrics=self.metrics)
        for address in self.config.listen:
            try:
                await self.listener.listen(self._endpoint(address, self.config.port))
                factory = over_tls(self.door, cast(Any, self._people_tls), self._reactor)
                self._ports.append(await self._endpoint(address, self.config.client_port).listen(factory))
            except OSError as error:
                raise Conflict(
                    f"cannot listen on {address} ports {self.config.port} and {self.config.client_port}: {_words(error)}",
                    "another program may use the port: see `cpc-server doctor`, or choose others with `cpc-server config`",
                ) from error

    def _crowded(self) -> bool:
        return self.listener.crowded()  # made after the monitor

    def _endpoint(self, address: str, port: int) -> Any:
        kind = TCP6ServerEndpoint if ":" in address else TCP4ServerEndpoint
        return kind(self._reactor, port, backlog=1024, interface=address)

    def _way_to(self, host: str, port: int) -> Any:
        return HostnameEndpoint(self._reactor, host, port, timeout=30)

    def _connected(self, connection: Connection) -> None:
        if self.federation.is_server(connection):
            self.federation.links.connected(connection)
        else:
            self.machines.connected(connection)

    def _begin(self) -> None:
        self.monitor.start()
        self.federation.start(self.listener)
        self.retention.start()
        self._renewal = self._reactor.callLater(RENEW_EVERY, self._renew)

    # --- stop ---

    async def stop(self) -> None:
        """Close the doors, finish what was accepted, close the database. Running jobs go on at their workers."""
        if self._renewal is not None and self._renewal.active():
            self._renewal.cancel()
        for part in ("monitor", "retention", "storage", "federation"):
            if hasattr(self, part):
                getattr(self, part).stop()
        for port in self._ports:
            if (closing := port.stopListening()) is not None:
                await closing
        if hasattr(self, "door"):
            await self.door.close(patience=1.0)
        if hasattr(self, "listener"):
            await self.listener.stop()
        if hasattr(self, "pool_services"):
            await self.pool_services.stop()
        if hasattr(self, "network_services"):
            await self.network_services.stop()
        if hasattr(self, "_store"):
            await self._close_store()
        for pool in reversed(self._pools):
            pool.stop()

    async def _close_store(self) -> None:
        try:
            if hasattr(self, "queue") and self.monitor_began:
                await self._store.write(self.queue.save_shares)
                await self._store.write(lambda tx: tx.event("server", "server.stopped"))
        except CopernicusError as error:
            log.warn("stopping: {error}", error=str(error))
        await self._store.close()

    @property
    def client_port(self) -> int:
        """The people's port that is in use; another than configured when that is 0."""
        return int(self._ports[0].getHost().port)

    @property
    def monitor_began(self) -> bool:
        """Whether the start came to its end."""
        return self._renewal is not None

    # --- certificates ---

    def _certify(self) -> Identity:
        name = Name(self.authority_key.server_id, Role.SERVER)
        return self.authority_key.identity(name, CERTIFICATE_TIME, _hosts(self.config))

    def _own_identity(self) -> Identity:
        assert self._identity is not None
        return self._identity

    def _refusal(self, name: Name, fingerprint: str) -> str | Refused | None:
        return self.bundles.refusal(name, fingerprint) or self.federation.refusal(name, fingerprint)

    def _cut_refused(self) -> None:
        self.machines.cut_names(self._refusal, self.listener.connections)

    def _renew(self) -> None:
        self._renewal = self._reactor.callLater(RENEW_EVERY, self._renew)
        self._identity = self._certify()
        self._machine_tls.renew(self._identity)
        self._people_tls.reload(self._identity)

    def _site_files(self) -> tuple[Path | None, Path | None]:
        certificate, key = self.settings.text("site_certificate"), self.settings.text("site_key")
        return (Path(certificate) if certificate else None), (Path(key) if key else None)

    def _certificates(self) -> list[tuple[str, int]]:
        found = [("the server's identity", not_after_of(self.authority_key.certificate_pem))]
        if self.settings.text("site_certificate"):
            found.append(("the site certificate", self._people_tls.not_after))
        return found

    def _last_backup(self) -> int | None:
        last = upkeep.last_backup(self.place)
        return last.made if last else None

    # --- what changes while it runs ---

    def _setting_changed(self, _name: str) -> None:
        settings, limits = self.settings, self.queue.limits
        limits.heartbeat_time = settings.number("heartbeat_time")
        limits.patience = settings.number("max_reserved_wait")
        self.queue.index.shares.half_life = settings.number("fairshare_halflife")
        self.status_page.soon = int(settings.number("warn_expiry") * SECOND)
        owner = self.federation.lending.owner
        owner.peer_grace, owner.beats = settings.number("peer_grace"), settings.whole("beats")
        terms = self.machines.terms
        self.machines.set_beat(limits.heartbeat_time, settings.whole("beats"))
        terms.checkpoint_interval = settings.number("checkpoint_interval")
        terms.certificate_time = self.bundles.terms.certificate_time = settings.number("certificate_time")
        self.bundles.terms.bundle_time = settings.number("bundle_time")
        tries = TryLimits(
            settings.whole("login_tries"), settings.whole("login_tries_address"), settings.whole("login_tries_user"),
            settings.number("login_window"),
        )  # fmt: skip
        self.accounts.rules = Rules(settings.number("session_time"), tries)
        self.federation.filing.setting_changed()
        self.storage.took(0)  # nothing: judged by the new minimum at once

    def _keep(self) -> Keep:
        settings = self.settings
        return Keep(
            settings.number("keep_jobs"), settings.number("keep_results"), settings.number("keep_events"),
            settings.number("keep_audit"),
        )  # fmt: skip

    def _purge(self, array: int) -> None:
        purging = ensureDeferred(self.retention.purge(array))
        purging.addErrback(lambda failure: log.warn("forgetting a submission stopped: {why}", why=failure.value))

    async def _expire(self) -> int:
        return await self.gate.expire_answers() + await self.tokens.drop_expired()

    def _project_changed(self, tx: Tx, row: ProjectRow) -> None:
        shares, now = self.queue.index.shares, self.queue.now
        shares.load(row.id, shares.usage(row.id, now), now, row.weight)

    def _bundle_revoked(self, tx: Tx, bundle: int) -> None:
        sessions = joining.revoke(self.queue, tx, bundle)
        self.queue.round(tx)

        tx.after(lambda: self._cut(sessions, "the worker has been revoked"))

    def _cut(self, sessions: list[int], why: str) -> None:
        self.machines.cut(sessions, why)
        self._cut_refused()

    # --- for the people's door (cpc.server.http.services.Services) ---

    def view(self) -> ServerView:
        """What anybody may know."""
        return self.status_page.view()

    def authority(self) -> bytes:
        """The authority's certificate, DER."""
        import ssl

        return ssl.PEM_cert_to_DER_cert(self.authority_key.certificate_pem.decode())

    def status(self, who: Principal) -> Awaitable[ServerStatus]:
        """`cpcc status`."""
        return self.status_page.status(who)

    def permit(self, who: Principal, act: Act, project: str) -> Awaitable[object]:
        """May `who` do this in `project`?"""
        return self.gate.read(who, act, lambda tx: None, project=project)

    async def reload(self, call: Call) -> None:
        """Read settings and certificates again."""
        await self.gate.write(call, Act.SERVER_RELOAD, lambda tx: None, answer=None)
        await self.reread()

    async def reread(self) -> None:
        """The same for the operator of the machine (SIGHUP)."""
        await self.settings.load()
        self._setting_changed("")
        former, self._people_tls.files = self._people_tls.files, self._site_files()
        try:
            self._people_tls.reload()
        except CopernicusError:
            self._people_tls.files = former
            raise

    async def request_stop(self, call: Call) -> None:
        """Begin to stop, after the answer has left."""
        await self.gate.write(call, Act.SERVER_STOP, lambda tx: None, answer=None)
        self._reactor.callLater(0.1, self.on_stop)

    def health(self) -> tuple[str, ...]:
        """Why the server is not well."""
        return self.status_page.health()

    def metrics_open(self) -> bool:
        """Whether this machine may read /metrics without a token."""
        return self.settings.text("metrics_access") == "loopback"

    def figures(self) -> Awaitable[Figures]:
        """For /metrics."""
        return self.status_page.figures()


def _hosts(config: Config) -> tuple[str, ...]:
    return tuple(dict.fromkeys((config.host, *config.listen, "localhost")))


def _words(error: Exception) -> str:
    cause = getattr(error, "socketError", error)
    return getattr(cause, "strerror", None) or str(cause)
