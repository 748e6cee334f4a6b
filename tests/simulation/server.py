"""The server in the test tube: the production store, queue, files and machines' door; its process can be ended at any time."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError
from cpc.core.pieces import Data
from cpc.server import joining
from cpc.server.bundles import Bundles
from cpc.server.bundles import Terms as BundleTerms
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.monitor import Monitor
from cpc.server.network_services import NetworkServices
from cpc.server.networks import Networks
from cpc.server.outbox import Outbox
from cpc.server.principal import SERVER, Call, Principal
from cpc.server.projects import Projects
from cpc.server.queue import Limits, Queue
from cpc.server.retention import Keep, Retention
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.server.workers import Workers
from cpc.store import projects, users
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import RECENT, ChunkStore
from cpc.store.disk import Found, Space
from cpc.store.projects import ProjectRow
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.bundle import Bundle, decode
from cpc.wire.connection import Listener
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.tls import ServerTls
from tests.helpers.disks import FakeDisk
from tests.helpers.stores import InlineThreads, ManualClock, create, open_store, result
from tests.simulation import versions
from tests.simulation.clock import START
from tests.simulation.databases import Connection, Killed, Trouble
from tests.simulation.dataflow import services
from tests.simulation.threads import Threads

if TYPE_CHECKING:
    from tests.simulation.realm import Realm

T = TypeVar("T")

HERE = "11111111-2222-3333-4444-555555555555"
PORT = 13807
YEARS = 10 * 366 * 86400.0


class LifeDisk:
    """The server's disk as one process has it; ended, it does nothing any more. `kill_in`: changes until the process is
    killed in the middle of one, below 0 never."""

    def __init__(self, disk: FakeDisk, killed: Callable[[str], None]) -> None:
        self._disk = disk
        self._killed = killed
        self.ended = False
        self.kill_in = -1

    def _now(self) -> FakeDisk:
        if self.ended:
            raise Killed
        return self._disk

    def _change(self) -> FakeDisk:
        disk = self._now()
        if self.kill_in == 0:
            self._killed("killed at a write")
            raise Killed
        self.kill_in -= 1
        return disk

    def make(self, directory: str) -> None:
        self._change().make(directory)

    def create(self, path: str, data: Data) -> None:
        self._change().create(path, data)

    def rename(self, old: str, new: str) -> None:
        self._change().rename(old, new)

    def sync(self, directory: str) -> None:
        self._change().sync(directory)

    def read(self, path: str, offset: int, length: int) -> bytes:
        return self._now().read(path, offset, length)

    def unlink(self, path: str) -> bool:
        return self._change().unlink(path)

    def list(self, directory: str) -> list[Found]:
        return self._now().list(directory)

    def space(self) -> Space:
        return self._now().space()


class Given:
    """What all worlds of this process share of one server, because making it takes long: keys, and a database as setup leaves
    it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = f"{number:08d}-2222-3333-4444-555555555555" if number else HERE
        self.host = f"s{number}" if number else "s"
        self.directory = directory()
        clock, chance = ManualClock(), SeededChance(7 + number)
        # Of servers whose clocks are hours apart, nobody's bundle is of the future.
        made = START - (2 * 86_400_000_000 if number else 60_000_000)
        clock.now = lambda: made  # type: ignore[method-assign]
        self.authority = Authority.create(self.id, clock, chance)
        self.identity: Identity = self.authority.identity(Name(self.id, Role.SERVER), YEARS)
        self.database = self.directory / f"template-{number}.db"
        url = f"sqlite:///{self.database}"
        create(url, server=self.id)
        store = open_store(url, clock)
        gate = Gate(store, Seal(self.authority.key_pem, chance))
        terms = BundleTerms("simulation", ((self.host, PORT),), ())
        bundles = Bundles(store, gate, Tokens(store, gate, clock, chance), self.authority, clock, terms)
        text, _ = result(ensureDeferred(bundles.make(Call(SERVER, "bundle"), "lab", "worker", expires_in=YEARS)))
        self.bundle: Bundle = decode(text.encode())
        text, _ = result(ensureDeferred(bundles.make(Call(SERVER, "field"), "field", "worker", expires_in=YEARS)))
        self.field: Bundle = decode(text.encode())  # the one that may be revoked
        owner = result(store.write(lambda tx: users.add(tx, "ada", "", False)))
        self.owner = Principal(owner.id, owner.name, False)
        self.projects = [
            result(store.write(lambda tx, name=name: projects.add(tx, name, owner.id, 0, 1.0)))  # type: ignore[misc]
            for name in ("p", "q")
        ]
        result(ensureDeferred(store.close()))

    def remove(self) -> None:
        """With what the other servers were given."""
        shutil.rmtree(self.directory, ignore_errors=True)


@lru_cache(maxsize=1)
def directory() -> Path:
    """Of this process, for all servers and worlds; gone when it ends."""
    made = Path(tempfile.mkdtemp(prefix="cpc-simulation-", dir=shared_memory()))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def given(number: int = 0) -> Given:
    """That of a server, made once. A world of one server has number 0; those of a network have 1, 2, …"""
    return _given(number)


@cache
def _given(number: int) -> Given:
    return Given(number)


def shared_memory() -> str | None:
    """A directory without a disk behind it, if the machine has one: what survives is decided here, not by fsync."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Server:
    """One life of the server's process."""

    def __init__(self, world: Realm, number: int) -> None:
        self.world = world
        self.number = number
        self.host = world.server_host
        self.ready = False
        self.ended = False
        self._make()

    def _make(self) -> None:
        world, host, shared = self.world, self.host, self.world.given
        reactor, clock = host.reactor, host.clock
        chance = SeededChance(world.seed * 1000 + self.number + shared.number * 1_000_003)
        threads = Threads(host, lambda: world.chance.uniform(0.0005, 0.004) * world.slowness)
        self.disk = LifeDisk(world.server_disk, self._killed_at_write)
        self.store = store = Store(
            world.url, writing=threads, reading=InlineThreads(), clock=clock, reactor=reactor, fatal=self._fatal,
            holder=f"life {self.number}", connect=self._connect,
        )  # fmt: skip
        gate = Gate(store, Seal(shared.authority.key_pem, chance))
        disk_threads = Threads(host, lambda: world.chance.uniform(0.001, 0.02) * world.slowness)
        chunk_store = ChunkStore(store, ChunkFiles(self.disk), disk_threads, clock, RECENT)
        self.storage = Storage(self.disk, InlineThreads(), reactor, lambda: 1 << 20)
        limits = Limits(heartbeat_time=world.plan.heartbeat_time, patience=world.plan.patience)
        self.queue = Queue(store.journal, clock, store.incarnation, Outbox(reactor), limits)
        tokens = Tokens(store, gate, clock, chance)
        terms = BundleTerms("simulation", ((shared.host, PORT),), (), certificate_time=world.plan.certificate_time)
        authority = Authority.load(shared.authority.key_pem, shared.authority.certificate_pem, clock, chance)
        self.bundles = Bundles(store, gate, tokens, authority, clock, terms)
        self.files = Files(store, chunk_store, gate, self.storage, disk_threads)
        self.machines = Machines(
            queue=self.queue, store=store, clock=clock, chunks=_Chunks(self.files, self.storage),
            enrolment=self.bundles,
            terms=MachineTerms(
                shared.id, limits.heartbeat_time, 3, world.plan.checkpoint_interval, world.plan.certificate_time
            ),
        )  # fmt: skip
        keep = Keep(jobs=world.plan.keep)
        self.retention = Retention(store, chunk_store, lambda: keep, gate.expire_answers, clock, reactor)
        self.jobs = Jobs(store, gate, self.queue, self.storage, self._purge)
        self.projects = Projects(gate)
        self.projects.jobs, self.projects.files = self.jobs, self.files
        self.projects.on_change.append(self._project_changed)
        self.bundles.on_revoke.append(self._bundle_revoked)
        self.network_services: NetworkServices | None = None
        if world.plan.networks:
            self.network_services, self._settings = services(self, gate)
            self.projects.networks = self.network_services.networks
        self.workers = Workers(store, gate, self.queue, self.machines)
        self.monitor = Monitor(
            self.queue, store, reactor, clock, self.machines, self._crowded
        )  # fmt: skip
        self.authority, self.gate, self.tokens, self.seeded = authority, gate, tokens, chance
        self._open_doors()
        if world.plan.mixed:
            versions.speak_newer(self.machines)

    def _open_doors(self) -> None:
        """Who is let in, and where to."""
        shared, host = self.world.given, self.host
        pinned = {shared.id: shared.authority.certificate_pem}
        tls = ServerTls(shared.identity, lambda: pinned, self.bundles.refusal)
        speaks = versions.NEXT if self.world.plan.mixed else versions.THIS
        self.listener = Listener(host.reactor, tls, self.machines.connected, host.clock, greeting=speaks)

    @property
    def networks(self) -> Networks:
        """Projects' networks, in a world that has them."""
        assert self.network_services is not None
        return self.network_services.networks

    # As `cpc.server.service` does it.

    def _purge(self, array: int) -> None:
        purging = ensureDeferred(self.retention.purge(array))
        purging.addErrback(lambda failure: failure.trap(CopernicusError, Killed))

    def _project_changed(self, tx: Tx, row: ProjectRow) -> None:
        shares, now = self.queue.index.shares, self.queue.now
        shares.load(row.id, shares.usage(row.id, now), now, row.weight)

    def _bundle_revoked(self, tx: Tx, bundle: int) -> None:
        sessions = joining.revoke(self.queue, tx, bundle)
        self.queue.round(tx)

        def cut() -> None:
            self.machines.cut(sessions, "the worker has been revoked")
            self.machines.cut_names(self.bundles.refusal, self.listener.connections)

        tx.after(cut)

    async def _load(self) -> None:
        """What memory has of the database."""
        await self.store.write(self.queue.load)

    async def start(self) -> None:
        """The doors open when everything is loaded."""
        await self._load()
        await self.bundles.start()
        await self.storage.start()
        await self.listener.listen(self.host.listen(PORT))
        self.monitor.start()
        self.retention.start()
        if self.network_services is not None:
            await self._settings.load()
            await self.network_services.start()
        self.ready = True
        self.world.story.tell(self.world.name, "takes connections")

    def _killed_at_write(self, how: str) -> None:
        self.world.fault(how)
        self.world.killed(how)

    def _crowded(self) -> bool:
        return self.listener.crowded()

    def end(self) -> None:
        """The process is gone, now, wherever it is."""
        self.ended = True
        self.ready = False
        self.disk.ended = True

    def _connect(self, url: str, read_only: bool = False) -> Connection:
        if self.ended:
            raise Killed
        return Connection(self.world.trouble, url, read_only)

    def _fatal(self, reason: str) -> None:
        if not self.ended:
            self.world.server_exits(reason)


class _Chunks:
    """The file service as workers see it, as in `cpc.server.service`."""

    def __init__(self, files: Files, storage: Storage) -> None:
        self._files = files
        self._storage = storage

    async def put_chunk(self, project: int, digest: bytes, data: bytes, of: int) -> None:
        await self._files.put_chunk(project, digest, data, of)

    async def get_chunk(self, project: int, digest: bytes, most: int, of: int) -> bytes:
        return await self._files.chunk(project, digest, most, of)

    def has_chunk(self, project: int, digest: bytes, of: int) -> Awaitable[int]:
        return self._files.has_chunk(project, digest, of)

    async def missing(self, project: int, digests: tuple[bytes, ...], of: int) -> tuple[bytes, ...]:
        return await self._files.missing(project, digests, of)

    def full(self) -> str:
        return "" if self._storage.takes_results else "the server's disk is full"


def server_trouble(now: Callable[[], float]) -> Trouble:
    """What the databases of one world's servers have in common."""
    return Trouble(now)
