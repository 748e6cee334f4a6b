"""Three servers in a row for tests of files and custody: `a`, the home of the workers; `b`, a relay; `c`, the owner of the jobs.

The owner has its queue, database and file store; the home and the relay have disks in memory. Links are fake, and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.digest import Content
from cpc.core.errors import Unavailable
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.offload import inline
from cpc.core.outcome import Outcome
from cpc.queue.session import Session
from cpc.server import settling
from cpc.server.bulk import JobFiles
from cpc.server.federation.borrowed import key_of
from cpc.server.federation.cache import RelayCache
from cpc.server.federation.custody import Custody
from cpc.server.federation.files import HomeFiles, OwnerFiles, RelayedFiles
from cpc.server.federation.held import Held
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.ways import Caller
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.store import references, workers
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.references import Kind, Owned
from cpc.store.transaction import Tx
from cpc.wire.messages import Checkpoint, Orders, Result, Settled
from cpc.wire.peer_messages import Report, ReportAnswer, WorkerOrders, WorkerReport
from tests.helpers.benches import Bench
from tests.helpers.disks import FakeDisk
from tests.helpers.fake_ways import FakeNet
from tests.helpers.files import content_of
from tests.helpers.machine_door import ChunkDoor
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.helpers.stores import InlineThreads, ManualClock
from tests.simulation.clock import Clock, VirtualReactor

PATH = "b/c"
RUN = "/run"


class Owner:
    """The server `c`: its jobs run at workers of `a`, which it knows as `a/NUMBER`."""

    def __init__(self, world: FarWorld, directory: Path) -> None:
        directory.mkdir()
        self.bench = bench = Bench(directory)
        self.disk = FakeDisk(bench.clock.now)
        threads = InlineThreads()
        storage = Storage(self.disk, threads, bench.reactor, lambda: 1 << 20)
        gate = Gate(bench.store, Seal(b"key", SeededChance(1)))
        chunks = ChunkStore(bench.store, ChunkFiles(self.disk), threads, bench.clock)
        self.files = Files(bench.store, chunks, gate, storage, threads)
        self._jobs: list[int] = []
        self._given: list[Content] = []
        self.full = False
        self.renewals = 0
        self.ways = world.net.server("c")
        self.quarantine_limit = 1 << 30
        quarantine = Quarantine(bench.queue, bench.clock, lambda: self.quarantine_limit, str.upper)
        OwnerFiles(JobFiles(bench.queue, bench.store, ChunkDoor(self.files)), bench.store, quarantine).serve(self.ways)
        self.ways.serve("report", Report, self._report, far=True)

    def keep(self, data: bytes, given: bool = True) -> bytes:
        """A chunk of the project, an input of all jobs that are lent, unless it is not `given` to them; its digest."""
        content = content_of(data)
        for start, digest in enumerate(content.chunks):
            piece = memoryview(data)[start << 22 : (start + 1) << 22]
            _done(self.files.put_chunk(self.bench.project, digest, piece))
        if given:
            self._given.append(content)
            self._give(*self._jobs)
        return content.digest

    def _give(self, *jobs: int) -> None:
        for job in jobs:
            owned = Owned(Kind.ARRAY_INPUT, job, 0, self.bench.project, tuple(self._given))
            assert self.bench.do(lambda tx, owned=owned: references.add_many(tx, [owned])) == [()]  # type: ignore[misc]

    def lend(self, number: int = 7, home: str = "a") -> tuple[Session, Lease]:
        """A job of ours that runs at this worker of a home: the session here, and the lease as the worker knows it."""
        self._jobs.append(self.bench.submit())
        self._give(self._jobs[-1])
        session = self.bench.worker(f"b/{home}/{number}", bundle=0, cores=1)
        row = session.worker  # lent by way of b
        self.bench.do(lambda tx: workers.joined(tx, row, "n", f"b/{home}", session.number, b""))
        (task,) = self.bench.tasks(session)
        return session, task.lease.on("b/c")

    async def _report(self, caller: Caller, report: Report) -> ReportAnswer:
        answers = []
        for each in report.workers:

            def unit(tx: Tx, each: WorkerReport = each) -> Orders:
                row = workers.by_key(tx, key_of(caller.back, each.worker))
                assert row is not None
                if self.full:
                    return Orders(retry=tuple(result.lease for result in each.results))
                queue = self.bench.queue
                for lease in each.holds:
                    run = queue.index.running.get(lease.job)
                    self.renewals += run is not None and run.lease == lease
                answer = settling.settle(queue, tx, row.id, each.results, "server:a", caller.peer)
                answer.retry += settling.take_checkpoints(queue, tx, row.id, each.checkpoints, caller.peer)
                return Orders(settled=tuple(answer.settled), retry=tuple(answer.retry))

            answers.append(WorkerOrders(worker=each.worker, orders=self.bench.do(unit)))
        return ReportAnswer(workers=tuple(answers))


class Reporter:
    """How the home reports a result, as lending does it."""

    def __init__(self, home: Home) -> None:
        self._home = home

    async def hand_in(
        self, route: tuple[str, ...], worker: int, result: Result, checkpoint: Checkpoint | None
    ) -> Settled | None:
        if checkpoint is not None:  # first: a later one than the result would be of an attempt that is over
            await self._report(route, WorkerReport(worker=worker, checkpoints=(checkpoint,)))
        orders = await self._report(route, WorkerReport(worker=worker, results=(result,)))
        return next(iter(orders.settled), None)

    async def renew(self, route: tuple[str, ...], held: dict[int, tuple[Lease, ...]]) -> None:
        for worker, leases in held.items():
            await self._report(route, WorkerReport(worker=worker, holds=leases))

    async def _report(self, route: tuple[str, ...], said: WorkerReport) -> Orders:
        report = Report(number=1, workers=(said,))
        answer = await self._home.ways.ask_far(route, "report", report, ReportAnswer, 60.0)
        (orders,) = answer.workers
        return orders.orders


class Home:
    """One life of the server `a`, or of another home behind `b`."""

    def __init__(self, world: FarWorld, bench: Bench, platter: Platter, name: str = "a", cache: int = 1 << 30,
                 custody: int = 1 << 30) -> None:  # fmt: skip
        self.bench = bench
        self.disk = MemoryDisk(platter)
        self.limit = custody
        self.ways = world.net.server(name)
        chance, clock = SeededChance(3), Clock(world.reactor)
        self.gate = Gate(bench.store, Seal(b"key", chance))
        storage = Storage(FakeDisk(), InlineThreads(), world.reactor, lambda: 0)
        self.cache = RelayCache(self.disk, f"{RUN}/relay-cache", lambda: cache, inline)
        self.held = Held(self.disk, RUN, lambda: self.limit, inline, clock)
        self.custody = Custody(
            ways=self.ways, held=self.held, store=bench.store, gate=self.gate, storage=storage, timers=world.reactor,
            clock=clock, chance=chance, limit=lambda: self.limit,
        )  # fmt: skip
        self.custody.reports = Reporter(self)
        self.files = HomeFiles(self.ways, self.cache, self.custody)
        world.reactor.finish(self.cache.open())
        world.reactor.finish(self.custody.load())
        self.custody.start()


class FarWorld:
    """`trust` has been given along the row; everything is up."""

    def __init__(self, directory: Path, relay_cache: int = 1 << 30, home_cache: int = 1 << 30) -> None:
        self.reactor = VirtualReactor()
        self.net = FakeNet(self.reactor)
        self.clock = ManualClock()
        self.owner = Owner(self, directory / "c")
        self.platter = _platter()
        self.relay_disk = MemoryDisk(_platter())
        self.relay_cache = RelayCache(self.relay_disk, f"{RUN}/relay-cache", lambda: relay_cache, inline)
        self.reactor.finish(self.relay_cache.open())
        self.relay = self.net.server("b")
        RelayedFiles(self.relay_cache).serve(self.relay)
        (directory / "a").mkdir()
        self.home_bench = Bench(directory / "a")
        self.net.trust("a", "b")
        self.net.trust("b", "c")
        self._home_cache = home_cache
        self.home = self.begin()

    def begin(self) -> Home:
        """A life of the home."""
        self.home = Home(self, self.home_bench, self.platter, cache=self._home_cache)
        return self.home

    def another_home(self, directory: Path, name: str) -> Home:
        """One more home behind `b`."""
        (directory / name).mkdir()
        made = Home(self, Bench(directory / name), _platter(), name)
        self.net.trust(name, "b")
        return made

    def power_loss(self) -> Home:
        """The home's machine loses power; its next life begins. What it had asked for is lost."""
        self.net.leave("a")
        self.platter.power_loss()
        if RUN not in self.platter.names:
            MemoryDisk(self.platter).make_directory(RUN)
        home = self.begin()
        self.net.arrive("a")
        return home

    def get(self, lease: Lease, digest: bytes, worker: int = 7, home: Home | None = None) -> bytes:
        """What the worker reads."""
        return bytes(self.reactor.finish((home or self.home).files.get(worker, lease, digest), 600.0))

    def send(self, lease: Lease, *chunks: bytes, worker: int = 7) -> None:
        """What a worker does with the chunks of a result: ask what is missing, put that."""
        named = {content_of(data).digest: data for data in chunks}
        missing = self.reactor.finish(self.home.files.missing(worker, lease, tuple(named)), 600.0)
        for digest in missing:
            self.put(lease, digest, memoryview(named[digest]), worker)

    def put(self, lease: Lease, digest: bytes, data: memoryview, worker: int = 7) -> None:
        """One chunk; again where it did not get there."""
        try:
            self.reactor.finish(self.home.files.put(worker, lease, digest, data), 600.0)
        except Unavailable:
            self.reactor.finish(self.home.files.put(worker, lease, digest, data), 600.0)

    def take(self, result: Result, checkpoint: Checkpoint | None = None, worker: int = 7) -> bool:
        """The worker reports it while the owner is away: may it forget it?"""
        return self.reactor.finish(self.home.custody.take(worker, result, checkpoint), 600.0)


def result_of(lease: Lease, *chunks: bytes, outcome: Outcome = Outcome.OK) -> Result:
    """A result with these files."""
    return Result(lease=lease, outcome=outcome, exit_code=0, files=manifest_of(*chunks))


def manifest_of(*chunks: bytes) -> Manifest:
    """Files with these contents."""
    return Manifest(tuple(Entry(b"file-%d" % number, content=content_of(data)) for number, data in enumerate(chunks)))


def _platter() -> Platter:
    platter = Platter(lambda: 0.0)
    disk = MemoryDisk(platter)
    disk.make_directory(RUN)
    return platter


def _done(work: Any) -> None:
    found: list[object] = []
    ensureDeferred(work).addBoth(found.append)
    assert found == [None], found
