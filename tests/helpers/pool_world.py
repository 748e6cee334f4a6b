"""A server with pools in virtual time: the real keeper, queue, bundles and store; batch system and workers by the script.

Workers do what the script of an allocation says: they enrol with the bundle that is in it, take jobs, and leave when they
are told. The server may be killed and started at any time.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.api.scheduler import Tools
from cpc.core.allocation import SeenOutcome
from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError, TurnedAway
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.pool_views import PoolSettings
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.pools.allocation import State
from cpc.queue.job import State as JobState
from cpc.server import joining, settling, submission
from cpc.server.bundles import Bundles, Terms
from cpc.server.gate import Gate
from cpc.server.outbox import Outbox
from cpc.server.pools import offline
from cpc.server.pools.book import Book
from cpc.server.pools.ground import Ground
from cpc.server.pools.happening import Happening
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.probing import Probing
from cpc.server.pools.service import Pools
from cpc.server.principal import SERVER, Call
from cpc.server.queue import Limits, Queue
from cpc.server.seal import Seal
from cpc.server.tokens import Tokens
from cpc.store import allocations, bundles, jobs, projects, schema
from cpc.store.allocations import AllocationRow
from cpc.store.statement import Statement
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire import bundle as wire_bundle
from cpc.wire.bundle import Bundle
from cpc.wire.identity import Authority, fingerprint_of
from cpc.wire.messages import Hello, Orders, Result
from tests.helpers.fake_batch import SYSTEMS, BatchSystem, Entry, FakeBatch
from tests.helpers.stores import InlineThreads
from tests.simulation.clock import Clock, HostReactor, VirtualReactor

T = TypeVar("T")
SERVER_ID = "00000000-0000-4000-8000-000000000001"
BOOT = 3.0  # seconds from a job's start to its worker's hello
BUNDLE = re.compile(r"^(?:(\d+)\) )?exec \{bundle\}<<'END_OF_BUNDLE'\n(.*?)\nEND_OF_BUNDLE\n", re.DOTALL | re.MULTILINE)


class PoolWorld:
    """`seconds_per_job`: how long each job runs; `boot()`: from a job's start to its worker's hello. `deaf`: nodes whose workers
    never join; `poisonous`: where they end at once. `ran`: cores that each task was granted, and that its allocation had;
    `in_vain`: tasks that a worker was told of and did not begin, because it takes no more."""

    def __init__(self, url: str, monkeypatch: Any) -> None:
        from cpc.server.pools import schedulers

        monkeypatch.setitem(schedulers.BUILT_IN, FakeBatch.name, "tests.helpers.fake_batch:FakeBatch")
        self.url = url
        self.reactor = VirtualReactor()
        self.system = BatchSystem(self.reactor, on_start=self._began, on_end=self._ended)
        monkeypatch.setitem(SYSTEMS, "main", self.system)
        self.authority = Authority.create(SERVER_ID, Clock(self.reactor), SeededChance(3))
        self.workers: dict[str, SimWorker] = {}
        self.seconds_per_job = 10.0
        self.boot: Callable[[], float] = lambda: BOOT
        self.ran: list[tuple[int, int]] = []
        self.in_vain: list[Lease] = []
        self.looks: list[tuple[Entry, Bundle]] = []  # what was started to look, not to work; tests tell what it says
        self.deaf: set[str] = set()
        self.poisonous: set[str] = set()
        self.project = 0
        self.live = False
        self.ground = Ground("127.0.0.1", 13807, ("127.0.0.1",))
        self.lives = 0
        self.turned_away = 0
        self.start()

    # --- the server ---

    def start(self) -> None:
        """The server starts, on what is in the database."""
        self.lives += 1
        self.host = HostReactor(self.reactor)
        self.clock = Clock(self.host)
        chance = SeededChance(100 + self.lives)
        self.store = Store(
            self.url, writing=InlineThreads(), reading=InlineThreads(), clock=self.clock, reactor=self.host, fatal=_fatal,
            holder=f"life {self.lives}",
        )  # fmt: skip
        self.gate = Gate(self.store, Seal(b"key", chance))
        outbox = Outbox(self.host)
        outbox.send = self._orders
        self.queue = Queue(self.store.journal, self.clock, self.store.incarnation, outbox, Limits())
        terms = Terms("test", (("127.0.0.1", 13807),), ())
        tokens = Tokens(self.store, self.gate, self.clock, chance)
        self.bundles = Bundles(self.store, self.gate, tokens, self.authority, self.clock, terms)
        self.happening = Happening(Book(self.store.journal, self.clock), self.queue, self.bundles, SERVER_ID)
        self.cut: list[int] = []
        self.keeper = Keeper(
            store=self.store, queue=self.queue, happening=self.happening,
            tools=Tools(offline.run, offline.http, self.clock, chance),
            timers=self.host, cut=lambda sessions, why: self.cut.extend(sessions),
        )  # fmt: skip
        self.pools = Pools(self.store, self.gate, self.queue, self.keeper, self.ground)
        self.probing = self.pools.probing = Probing(
            self.store, self.gate, self.keeper, self.pools.shows, self.bundles, ("127.0.0.1", 13807)
        )
        self.do(self.queue.load)
        self.do(self.keeper.load)
        if not self.project:
            self.project = self.do(lambda tx: projects.add(tx, "p", 1, 0, 1.0)).id
        self.live = True
        self.finish(self.keeper.start())
        for worker in self.workers.values():
            worker.session = 0
            self.reactor.callLater(1.0, worker.join)

    def kill(self) -> None:
        """kill -9: memory and all that was planned is gone."""
        self.live = False
        self.host.bury(self.keeper)
        self.host.end()
        store, self.store = self.store, None  # type: ignore[assignment]
        ensureDeferred(store.close())

    def close(self) -> None:
        if self.live:
            self.finish(self.keeper.stop())
            self.kill()

    def do(self, unit: Callable[[Tx], T]) -> T:
        return self.reactor.finish(self.store.write(unit))

    def finish(self, work: Awaitable[T]) -> T:
        return self.reactor.finish(work if isinstance(work, Deferred) else ensureDeferred(work))  # type: ignore[arg-type]

    def call(self) -> Call:
        return Call(SERVER)

    # --- people ---

    def pool(self, name: str = "hpc", force: bool = False, **settings: Any) -> None:
        settings = {"cores": 2, "walltime": 3600.0, "idle": 60.0, "max_allocations": 3} | settings
        self.finish(self.pools.add(self.call(), name, "fake", PoolSettings(**settings), force))

    def submit(self, count: int = 0, project: int = 0, **fields: Any) -> int:
        spec = JobSpec(argv=("true",), array=count, **fields)

        def unit(tx: Tx) -> int:
            row = submission.submit(self.queue, tx, project or self.project, 1, "user:test", spec)
            self.queue.round(tx)
            return row.id

        return self.do(unit)

    def known_to_be_long(self) -> None:
        """Jobs like those that wait took an hour, earlier."""
        for project, requirement in self.queue.index.windows:
            self.queue.pace.note_alike(project, requirement, 3600.0)

    def state(self, job: int) -> JobState:
        def unit(tx: Tx) -> JobState:
            row = jobs.get(tx, job) or jobs.done(tx, job)
            assert row is not None
            return row.state

        return self.do(unit)

    def unfinished(self) -> int:
        return int(self.do(lambda tx: tx.scalar(Statement(sa.select(sa.func.count()).select_from(schema.jobs)))))

    def events(self, kind: str) -> int:
        query = Statement(sa.select(sa.func.count()).select_from(schema.events).where(schema.events.c.kind == kind))
        return int(self.do(lambda tx: tx.scalar(query)))

    # --- looking ---

    def rows(self) -> list[AllocationRow]:
        """All allocations by the database, oldest first."""
        return self.do(lambda tx: allocations.page(tx, 0, 1000))[::-1]

    def alive(self) -> list[AllocationRow]:
        return [row for row in self.rows() if row.facts.state is not State.ENDED]

    def until(self, true: Callable[[], object], within: float = 3600.0) -> None:
        self.reactor.run_until(true, within)

    def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    def settle(self, within: float = 7200.0) -> None:
        """Until all jobs are done and nothing is left in the batch system; then memory and disk agree."""
        self.until(lambda: self.live and self.unfinished() == 0 and not self.alive(), within)
        self.check()
        assert self.system.alive() == []

    def check(self) -> None:
        """Memory and database agree, and what has ended can enrol nobody."""
        book = self.keeper.book

        def unit(tx: Tx) -> None:
            there = {row.token: (row.id, row.native, row.facts.state) for row in allocations.live(tx)}
            held = {row.token: (row.id, row.native, row.facts.state) for row in book.live.values()}
            assert there == held
            for row in allocations.page(tx, 0, 1000):
                found = bundles.by_id(tx, row.bundle) if row.bundle else None
                if found is not None:
                    assert (found.revoked is not None) == (row.facts.state is State.ENDED)

        self.do(unit)

    # --- what batch system and workers do ---

    def _began(self, entry: Entry) -> None:
        if entry.node in self.poisonous:
            self.reactor.callLater(1.0, self.system.end, entry, SeenOutcome.FAILED, "NonZeroExitCode")
            return
        if entry.node in self.deaf:
            return
        table = {int(index or 0): text for index, text in BUNDLE.findall(entry.wanted.script)}
        if entry.index not in table:  # it is not wanted any more, and its script says so
            assert table, entry.wanted.script
            self.reactor.callLater(1.0, self.system.end, entry, SeenOutcome.OK, "")
            return
        if " check -c - " in entry.wanted.script:
            self.looks.append((entry, wire_bundle.decode(table[entry.index].encode())))
            return
        worker = SimWorker(self, entry, wire_bundle.decode(table[entry.index].encode()))
        self.workers[worker.name] = worker
        self.reactor.callLater(self.boot(), worker.join)

    def _ended(self, entry: Entry) -> None:
        for name, worker in list(self.workers.items()):
            if worker.entry is entry:
                worker.gone = True
                del self.workers[name]

    def _orders(self, session: int, orders: Orders) -> None:
        for worker in list(self.workers.values()):
            if worker.session == session and self.live:
                worker.obey(orders)


@dataclass
class SimWorker:
    """One worker in an allocation: as many jobs at once as it has cores, or with `--jobs 1` only one."""

    world: PoolWorld
    entry: Entry
    bundle: Bundle
    session: int = 0
    gone: bool = False
    holds: dict[Lease, float] = field(default_factory=dict)
    done: list[Lease] = field(default_factory=list)
    refused: list[Lease] = field(default_factory=list)
    taken: int = 0
    draining: bool = False

    @property
    def name(self) -> str:
        return f"{self.entry.native}-{self.entry.restarts}"

    @property
    def sated(self) -> bool:
        """Whether it has taken all that it ever will."""
        return self.taken > 0 and " --jobs 1 " in self.entry.wanted.script

    def join(self) -> None:
        """Enrol and say hello; again in a while where the server is away."""
        world = self.world
        if self.gone or self.session:
            return
        if not world.live:
            world.reactor.callLater(5.0, self.join)
            return
        key = fingerprint_of(self.bundle.certificate.encode())

        def unit(tx: Tx) -> int:
            number = world.bundles.admit(tx, self.bundle.name, key, self.name)
            row = joining.enrolled(tx, self.name, self.name, number)
            row = joining.worker(tx, row.fingerprint)
            hello = Hello(
                boot=self.name, host=self.entry.node, release="t", platform="smp",
                total=Amounts(cores=self.entry.wanted.cores, memory=1 << 34), holds=tuple(self.holds),
                time_left=max(0.0, self.entry.wanted.walltime - (world.reactor.seconds() - self.entry.started)),
                allocation=self.entry.own, node=self.entry.node, restarts=self.entry.restarts,
            )  # fmt: skip
            return joining.join(world.queue, tx, row, hello, False)[0].number

        try:
            self.session = world.do(unit)
        except TurnedAway:
            world.turned_away += 1
            self.leave("the server does not want it")
            return
        except CopernicusError:
            world.reactor.callLater(5.0, self.join)
            return
        self.turn()

    def turn(self) -> None:
        """Tell what is done, and that there is room."""
        world = self.world
        if self.gone or not self.session or not world.live:
            return
        told, self.done = self.done, []
        back, self.refused = self.refused, []

        def unit(tx: Tx) -> bool:
            session = world.queue.index.sessions.get(self.session)
            if session is None:
                return False
            for run in world.queue.each_running():
                if run.worker == session.worker:
                    run.renewed = world.queue.now
            results = [Result(lease=lease, outcome=Outcome.OK, exit_code=0, wall_seconds=1.0) for lease in told]
            results += [Result(lease=lease, outcome=Outcome.PREEMPTED) for lease in back]
            settling.settle(world.queue, tx, session.worker, results, "worker:x")
            world.queue.index.change(session, wants=not self.draining and not self.sated)
            world.queue.feed(session)
            world.queue.round(tx)
            return True

        if not world.do(unit):
            self.session, self.done, self.refused = 0, [*told, *self.done], [*back, *self.refused]
            self.join()
            return
        if (self.draining or self.sated) and not self.holds and not self.gone:
            self.goodbye("drained" if self.draining else "its jobs are done")

    def obey(self, orders: Orders) -> None:
        for task in orders.tasks:
            if self.sated:
                self.world.in_vain.append(task.lease)
                self.refused.append(task.lease)
                self.world.reactor.callLater(0, self.turn)
                continue
            self.taken += 1
            self.world.ran.append((task.granted.cores, self.entry.wanted.cores))
            self.holds[task.lease] = self.world.reactor.seconds()
            self.world.reactor.callLater(self.world.seconds_per_job, self._finished, task.lease)
        for lease, _ in orders.cancel:
            self.holds.pop(lease, None)
            if self.sated:
                self.world.reactor.callLater(0, self.turn)
        if orders.drain:
            self.draining = True
            self.turn()

    def _finished(self, lease: Lease) -> None:
        if self.holds.pop(lease, None) is not None and not self.gone:
            self.done.append(lease)
            self.turn()

    def goodbye(self, reason: str) -> None:
        world, session = self.world, self.session
        if world.live:
            world.do(lambda tx: joining.leave(world.queue, tx, session, reason))
        self.leave(reason)

    def leave(self, reason: str) -> None:
        self.gone = True
        self.world.reactor.callLater(1.0, self.world.system.end, self.entry, SeenOutcome.OK, "")


def _fatal(reason: str) -> None:
    raise AssertionError(f"the store is broken: {reason}")
