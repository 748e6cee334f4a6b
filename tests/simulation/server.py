"""The server in the test tube: the production store, queue, files and machines' door; its process can be ended at any time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core.chance import SeededChance
from cpc.server.bundles import Bundles
from cpc.server.bundles import Terms as BundleTerms
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.monitor import Monitor
from cpc.server.outbox import Outbox
from cpc.server.principal import SERVER, Call
from cpc.server.queue import Limits, Queue
from cpc.server.retention import Keep, Retention
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.server.workers import Workers
from cpc.store import projects
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.disk import Found, Space
from cpc.store.store import Store
from cpc.wire.bundle import Bundle, decode
from cpc.wire.connection import Listener
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.tls import ServerTls
from tests.helpers.disks import FakeDisk
from tests.helpers.stores import InlineThreads, ManualClock, create, open_store, result
from tests.simulation.clock import START
from tests.simulation.databases import Connection, Killed, Trouble
from tests.simulation.network import Host

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

HERE = "11111111-2222-3333-4444-555555555555"
PORT = 13807
YEARS = 10 * 366 * 86400.0


class Threads:
    """The thread seam on virtual time: a call takes a while, and what waits meanwhile is taken together."""

    def __init__(self, host: Host, seconds: Callable[[], float]) -> None:
        self._reactor = host.reactor
        self._seconds = seconds
        self._free_at = 0.0

    def run(self, call: Callable[[], T]) -> Deferred[T]:
        answer: Deferred[T] = Deferred()
        now = self._reactor.seconds()
        self._free_at = max(self._free_at, now) + self._seconds()
        self._reactor.callLater(self._free_at - now, self._do, call, answer)
        return answer

    def _do(self, call: Callable[[], Any], answer: Deferred[Any]) -> None:
        try:
            value = call()
        except Killed:
            return  # nobody is left to be told
        except Exception:
            answer.errback(Failure())
        else:
            answer.callback(value)


class LifeDisk:
    """The server's disk as one process has it; ended, it does nothing any more."""

    def __init__(self, disk: FakeDisk) -> None:
        self._disk = disk
        self.ended = False

    def _now(self) -> FakeDisk:
        if self.ended:
            raise Killed
        return self._disk

    def make(self, directory: str) -> None:
        self._now().make(directory)

    def create(self, path: str, data: bytes | memoryview) -> None:
        self._now().create(path, data)

    def rename(self, old: str, new: str) -> None:
        self._now().rename(old, new)

    def sync(self, directory: str) -> None:
        self._now().sync(directory)

    def read(self, path: str, offset: int, length: int) -> bytes:
        return self._now().read(path, offset, length)

    def unlink(self, path: str) -> bool:
        return self._now().unlink(path)

    def list(self, directory: str) -> list[Found]:
        return self._now().list(directory)

    def space(self) -> Space:
        return self._now().space()


class Given:
    """What all worlds of this process share, because making it takes long: keys, and a database as setup leaves it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cpc-simulation-", dir=shared_memory()))
        clock, chance = ManualClock(), SeededChance(7)
        clock.now = lambda: START - 60_000_000  # type: ignore[method-assign]
        self.authority = Authority.create(HERE, clock, chance)
        self.identity: Identity = self.authority.identity(Name(HERE, Role.SERVER), YEARS)
        self.database = self.directory / "template.db"
        url = f"sqlite:///{self.database}"
        create(url, server=HERE)
        store = open_store(url, clock)
        gate = Gate(store, Seal(self.authority.key_pem, chance))
        terms = BundleTerms("simulation", (("s", PORT),), ())
        bundles = Bundles(store, gate, Tokens(store, gate, clock, chance), self.authority, clock, terms)
        text, _ = result(ensureDeferred(bundles.make(Call(SERVER, "bundle"), "lab", "worker", expires_in=YEARS)))
        self.bundle: Bundle = decode(text.encode())
        self.projects = [
            result(store.write(lambda tx, name=name: projects.add(tx, name, 0, 0, 1.0)))  # type: ignore[misc]
            for name in ("p", "q")
        ]
        result(ensureDeferred(store.close()))

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


@lru_cache(maxsize=1)
def given() -> Given:
    """Made once."""
    return Given()


def shared_memory() -> str | None:
    """A directory without a disk behind it, if the machine has one: what survives is decided here, not by fsync."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Server:
    """One life of the server's process."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.host = world.server_host
        self.ready = False
        self.ended = False
        self._make()

    def _make(self) -> None:
        world, host, shared = self.world, self.host, given()
        reactor, clock, chance = host.reactor, host.clock, SeededChance(world.seed * 1000 + self.number)
        threads = Threads(host, lambda: world.chance.uniform(0.0005, 0.004))
        self.disk = LifeDisk(world.server_disk)
        self.store = store = Store(
            world.url, writing=threads, reading=InlineThreads(), clock=clock, reactor=reactor, fatal=self._fatal,
            holder=f"life {self.number}", connect=self._connect,
        )  # fmt: skip
        gate = Gate(store, Seal(shared.authority.key_pem, chance))
        disk_threads = Threads(host, lambda: world.chance.uniform(0.001, 0.02))
        chunk_store = ChunkStore(store, ChunkFiles(self.disk), disk_threads, clock)
        self.storage = Storage(self.disk, InlineThreads(), reactor, lambda: 1 << 20)
        limits = Limits(heartbeat_time=world.plan.heartbeat_time, patience=world.plan.patience)
        self.queue = Queue(store.journal, clock, store.incarnation, Outbox(reactor), limits)
        tokens = Tokens(store, gate, clock, chance)
        terms = BundleTerms("simulation", (("s", PORT),), ())
        self.bundles = Bundles(store, gate, tokens, shared.authority, clock, terms)
        self.files = Files(store, chunk_store, gate, self.storage, disk_threads)
        self.machines = Machines(
            queue=self.queue, store=store, clock=clock, chunks=_Chunks(self.files, self.storage),
            enrolment=self.bundles,
            terms=MachineTerms(HERE, limits.heartbeat_time, 3, world.plan.checkpoint_interval),
        )  # fmt: skip
        self.retention = Retention(store, chunk_store, Keep, gate.expire_answers, clock, reactor)
        self.jobs = Jobs(store, gate, self.queue, self.storage, self.retention.purge)
        self.workers = Workers(store, gate, self.queue, self.machines)
        self.monitor = Monitor(self.queue, store, reactor, clock, self.machines.heard)
        pinned = {HERE: shared.authority.certificate_pem}
        tls = ServerTls(shared.identity, lambda: pinned, self.bundles.refusal)
        self.listener = Listener(reactor, tls, self.machines.connected, clock)

    async def start(self) -> None:
        """As `cpc.server.service` does it."""
        await self.store.write(self.queue.load)
        await self.bundles.start()
        await self.storage.start()
        await self.listener.listen(self.host.listen(PORT))
        self.monitor.start()
        self.retention.start()
        self.ready = True
        self.world.story.tell("s", "takes connections")

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

    async def put_chunk(self, project: int, digest: bytes, data: bytes) -> None:
        await self._files.put_chunk(project, digest, data)

    async def get_chunk(self, project: int, digest: bytes) -> bytes:
        return await self._files.chunk(project, digest)

    async def missing(self, project: int, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return await self._files.missing(project, digests)

    def full(self) -> str:
        return "" if self._storage.takes_results else "the server's disk is full"


def server_trouble(now: Callable[[], float]) -> Trouble:
    """What the databases of one world's servers have in common."""
    return Trouble(now)
