"""Servers that lend each other workers: the production queue, store, machines' door and lending of each, in virtual time.

Between the servers are `FakeNet`'s links. Workers are driven by hand (`Hand`), over the production wire.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.chance import SeededChance
from cpc.core.clock import DAY, SECOND
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.queue.job import State
from cpc.server import joining, submission
from cpc.server.bundles import Bundles, Terms
from cpc.server.federation.lending import Lending
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.ways import Caller
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.monitor import Monitor
from cpc.server.outbox import Outbox
from cpc.server.queue import Limits, Queue
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.server.workers import Workers
from cpc.store import attempts, database, jobs, projects
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.connection import Connection, Listener, connect
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import (
    Checkpoint,
    Goodbye,
    Held,
    Hello,
    Message,
    Orders,
    Program,
    Result,
    Tail,
    Task,
    Turn,
    Welcome,
)
from cpc.wire.peer_messages import Ping, Pong
from cpc.wire.tls import ClientTls, ServerTls
from tests.helpers.disks import FakeDisk
from tests.helpers.fake_ways import OFF, FakeNet
from tests.helpers.stores import InlineThreads, create
from tests.simulation.clock import VirtualReactor
from tests.simulation.network import Network

T = TypeVar("T")

PORT = 13807
YEAR = 365 * DAY / SECOND


class Nothing(Message, frozen=True):
    """An empty answer."""


class World:
    """A few servers. `reactor` is the time of all; `net` the links between them."""

    def __init__(self, directory: Path, *names: str, seed: int = 1, monitored: bool = True) -> None:
        self.directory = directory
        self.monitored = monitored  # leases that are not renewed expire
        self.template = directory / "template.db"
        create(f"sqlite:///{self.template}")
        self.reactor = VirtualReactor()
        self.net = FakeNet(self.reactor)
        self.network = Network(self.reactor, random.Random(seed))
        self.houses = {name: House(self, name) for name in names}

    def __getitem__(self, name: str) -> House:
        return self.houses[name]

    def run(self, seconds: float = 1.0) -> None:
        """Time goes on."""
        self.reactor.advance(seconds)

    def close(self) -> None:
        """Let go of the databases; nothing unexpected has happened."""
        for house in self.houses.values():
            house.end()
        self.net.check()


class House:
    """One server. `start` begins a life on the same database, `kill` ends it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.id = name
        self.host = world.network.host(f"server-{name}")
        self.chance = SeededChance(sum(map(ord, name)))
        self.authority = Authority.create(self.id, self.host.clock, self.chance)
        path = world.directory / f"{name}.db"
        shutil.copy(world.template, path)
        self.url = f"sqlite:///{path}"
        self.disk = FakeDisk(self.host.clock.now)
        self.disk.make("run")
        self.hands: list[Hand] = []
        self.project = 0
        self.quarantine_limit = 1 << 30
        self.start()
        self.project = self.do(lambda tx: projects.add(tx, "p", 1, 0, 1.0)).id

    def start(self) -> None:
        """A process."""
        world, host, threads = self.world, self.host, InlineThreads()
        if not host.reactor.alive:
            host.start()
        clock = host.clock
        self.store: Store = Store(
            self.url, writing=threads, reading=threads, clock=clock, reactor=host.reactor, fatal=self._fatal, holder="me"
        )  # fmt: skip
        self.queue = Queue(self.store.journal, clock, self.store.incarnation, Outbox(host.reactor), Limits())
        gate = Gate(self.store, Seal(self.authority.key_pem, self.chance))
        storage = Storage(self.disk, threads, host.reactor, lambda: 1 << 20)
        bundles = Bundles(
            self.store, gate, Tokens(self.store, gate, clock, self.chance), self.authority, clock, Terms("t", (), ())
        )  # fmt: skip
        chunks = ChunkStore(self.store, ChunkFiles(self.disk), threads, clock)
        self.files = Files(self.store, chunks, gate, storage, threads)
        self.machines = Machines(
            queue=self.queue, store=self.store, clock=clock, chunks=_Chunks(self.files), enrolment=bundles,
            terms=MachineTerms(self.id),
        )  # fmt: skip
        self.ways = world.net.server(self.name)
        self.lending = Lending(
            queue=self.queue, store=self.store, machines=self.machines, ways=self.ways, timers=host.reactor, clock=clock,
            chance=self.chance, name=self.name.upper(),
            quarantine=Quarantine(self.queue, clock, lambda: self.quarantine_limit, str.upper),
        )  # fmt: skip
        self.workers = Workers(self.store, gate, self.queue, self.machines)
        self.workers.lending = self.lending
        self.jobs = Jobs(self.store, gate, self.queue, storage, lambda array: None)
        self.ways.serve("ping", Ping, self._pong, far=True)
        self.ways.on_change(self._changed)
        self.monitor = Monitor(self.queue, self.store, host.reactor, clock, self.machines, lambda: False)
        self.monitor.borrowers = self.lending.owner
        self.do(self.queue.load)
        self.do(self.lending.load)
        identity = self.authority.identity(Name(self.id, Role.SERVER), YEAR)
        pinned = {self.id: self.authority.certificate_pem}
        tls = ServerTls(identity, lambda: pinned, lambda *_: None)
        listener = Listener(host.reactor, tls, self.machines.connected, clock)
        world.reactor.finish(ensureDeferred(listener.listen(host.listen(PORT))))
        if world.monitored:
            self.monitor.start()
        world.net.arrive(self.name)

    async def _pong(self, _: Caller, _ping: Ping) -> Message:
        return Pong(server=self.id, name=self.name, release="t")

    def _changed(self, peer: str, up: bool) -> None:
        """What `trust` does when the trust in a peer ends."""
        if not up and self.ways.agreement(peer) is OFF:
            self.store.write(lambda tx: self.lending.revoked(tx, peer, hand_back=True))

    def _fatal(self, reason: str) -> None:
        raise AssertionError(f"{self.name}: {reason}")

    def kill(self) -> None:
        """kill -9: memory is gone, connections break."""
        self.world.net.leave(self.name)
        self.host.kill()
        self.end()

    def end(self) -> None:
        """Let go of the database."""
        self.store.writer._database.close()

    def restored(self) -> None:
        """It is killed, and begins a new life, as after a restore."""
        self.kill()
        with contextlib.closing(sqlite3.connect(database.sqlite_path(self.url))) as connection, connection:
            connection.execute("UPDATE writer SET incarnation = incarnation + 1")
        self.start()

    def do(self, unit: Any) -> Any:
        """One unit, committed, and what follows from it at once."""
        value = self.world.reactor.finish(ensureDeferred(_await(self.store.write(unit))))
        self.world.reactor.advance(0)
        return value

    # --- people ---

    def submit(self, *argv: str, project: int = 0, **fields: Any) -> int:
        """Submit; the array's id. Workers here have been told, nobody else has."""
        spec = JobSpec(argv=argv or ("true",), **fields)

        def unit(tx: Tx) -> int:
            row = submission.submit(self.queue, tx, project or self.project, 1, "user:test", spec)
            self.queue.round(tx)
            return row.id

        return self.do(unit)  # type: ignore[no-any-return]

    def state(self, job: int) -> State:
        """Where a job stands, by the database."""

        def unit(tx: Tx) -> State:
            row = jobs.get(tx, job) or jobs.done(tx, job)
            assert row is not None, f"job {ids.show(job, True)} is not there"
            return row.state

        return self.do(unit)  # type: ignore[no-any-return]

    def states(self, array: int, size: int) -> dict[str, int]:
        """How many of an array's jobs stand where."""
        found: dict[str, int] = {}
        for index in range(size):
            label = self.state(array + index).label
            found[label] = found.get(label, 0) + 1
        return found

    def look(self, answer: Awaitable[T]) -> T:
        """What a service says."""
        return self.world.reactor.finish(_await(answer))

    def outcomes(self, job: int) -> list[str]:
        """How the job's attempts ended, so far."""
        rows = self.do(lambda tx: [attempts.get(tx, job, number) for number in range(1, 20)])
        return [row.outcome or "runs" for row in rows if row is not None]

    def worker(self, cores: int = 2, **fields: Any) -> Hand:
        """A worker of this server, joined, that wants work."""
        hand = Hand(self, f"w{len(self.hands) + 1}", cores, fields)
        self.hands.append(hand)
        hand.join()
        return hand


class Hand:
    """A worker, by hand: it does what it is told to, and ends jobs when the test says so."""

    def __init__(self, house: House, name: str, cores: int, fields: dict[str, Any]) -> None:
        self.house = house
        self.world = house.world
        self.name = f"{name}{house.name}"
        self.cores = cores
        bundle = fields.pop("bundle", 1)
        self.fields = {"paths": True, **fields}
        self.boot = "b"
        self.host = house.world.network.host(self.name)
        self.identity: Identity = house.authority.identity(Name(house.id, Role.WORKER, self.name), YEAR)
        self.row = house.do(lambda tx: joining.enrolled(tx, self.name, self.identity.fingerprint, bundle)).id
        self.tasks: dict[Lease, Task] = {}
        self.told: dict[Lease, Result] = {}  # results that are not settled
        self.verdicts: dict[Lease, str] = {}
        self.cancelled: list[tuple[Lease, str]] = []
        self.handed_back: list[Lease] = []
        self.retried: list[Lease] = []
        self.followed: list[Lease] = []
        self.connection: Connection | None = None
        self.busy = False
        self.dirty = False
        self.wants = True

    # --- the link ---

    def join(self) -> Welcome:
        """Connect and say hello, with all that it has."""
        house = self.house
        tls = ClientTls(self.identity, house.authority.certificate_pem, house.id)
        made = connect(
            self.host.connect(house.host.name, PORT), tls, self.host.reactor, self.host.clock,
            prepare=lambda it: it.serve("orders", Orders, self._orders),
        )  # fmt: skip
        self.connection = self.world.reactor.finish(made, 100.0)
        hello = Hello(
            boot=self.boot, host=self.host.name, release="t", platform="smp", total=Amounts(cores=self.cores),
            programs=tuple(Program(name=n, version=v) for n, v in self.fields.get("programs", ())),
            paths=self.fields["paths"], ahead=self.fields.get("ahead", 0), labels=self.fields.get("labels", ()),
            holds=(*self.tasks, *self.told),
            lent=tuple(
                Held(lease=one, granted=task.granted, first=task.is_first)
                for one, task in self.tasks.items()
                if one.path
            ),
        )  # fmt: skip
        welcome: Welcome = self.world.reactor.finish(self.connection.call("hello", hello, Welcome, timeout=30.0), 100.0)
        for lease in welcome.drop:
            self.tasks.pop(lease, None)
        self.beat()
        return welcome

    def beat(self, tails: tuple[Tail, ...] = (), checkpoints: tuple[Checkpoint, ...] = (), brief: bool = False) -> None:
        """A turn, now; what has happened since goes along. `brief`: what it holds is not named."""
        if self.connection is None or self.connection.closed:
            return
        if self.busy:
            self.dirty = True
            return
        self.busy, self.dirty = True, False
        turn = Turn(
            number=1, holds=() if brief else (*self.tasks, *self.told), results=tuple(self.told.values()), tails=tails,
            checkpoints=checkpoints, wants=self.wants, brief=brief,
        )  # fmt: skip
        ensureDeferred(self._turn(self.connection, turn)).addErrback(self._lost)

    async def _turn(self, connection: Connection, turn: Turn) -> None:
        orders = await connection.call("turn", turn, Orders, timeout=30.0)
        self.busy = False
        self._obey(orders)
        if self.dirty:
            self.beat()

    def _lost(self, failure: Any) -> None:
        self.busy = False
        failure.trap(CopernicusError)

    async def _orders(self, _: Connection, orders: Orders) -> None:
        self._obey(orders)

    def _obey(self, orders: Orders) -> None:
        for task in orders.tasks:
            assert task.lease not in self.verdicts, "a lease is given once"
            self.tasks[task.lease] = task
        for settled in orders.settled:
            self.verdicts.setdefault(settled.lease, settled.verdict)
            self.told.pop(settled.lease, None)
        self.retried += [lease for lease in orders.retry if lease in self.told]
        self.followed += orders.follow
        for lease, reason in orders.cancel:
            if self.tasks.pop(lease, None) is not None:
                self.cancelled.append((lease, reason))
        for lease in orders.hand_back:
            self.handed_back.append(lease)

    # --- jobs ---

    @property
    def jobs(self) -> list[str]:
        """What it runs: `57` of its own server, `57 of c` of others."""
        shown = []
        for lease in self.tasks:
            number = ids.show(lease.job, ids.index(lease.job) > 0)
            shown.append(f"{number} of {lease.route[-1]}" if lease.path else number)
        return sorted(shown)

    def finish(self, *leases: Lease, outcome: Outcome = Outcome.OK, brief: bool = False, **fields: Any) -> None:
        """These jobs, or all that it runs, end now."""
        for lease in leases or tuple(self.tasks):
            task = self.tasks.pop(lease)
            self.told[lease] = Result(
                lease=lease, outcome=outcome, exit_code=0 if outcome is Outcome.OK else 1, first=task.is_first, **fields
            )  # fmt: skip
        self.beat(brief=brief)

    def leave(self) -> None:
        """Goodbye; what it still has goes back."""
        assert self.connection is not None
        said: Any = self.connection.call("goodbye", Goodbye(reason="done"), Nothing, timeout=30.0)
        self.world.reactor.finish(said, 100.0)
        self.kill()

    def kill(self) -> None:
        """It is gone, and nobody is told but its server's kernel."""
        assert self.connection is not None
        self.connection.close("killed")
        self.tasks.clear()
        self.told.clear()

    def drive(self, seconds: float, every: float = 10.0, work: float = 0.0) -> None:
        """Live for a while: a turn each `every` seconds; jobs last `work` seconds, if that is not 0."""
        end = self.world.reactor.seconds() + seconds
        while self.world.reactor.seconds() < end:
            self.world.run(min(every, work or every))
            if work:
                self.finish()
            else:
                self.beat()
        self.world.run(0.1)


class _Chunks:
    def __init__(self, files: Files) -> None:
        self.put_chunk = files.put_chunk
        self.get_chunk = files.chunk
        self.missing = files.missing

    def full(self) -> str:
        return ""


async def _await(answer: Awaitable[T]) -> T:
    return await answer
