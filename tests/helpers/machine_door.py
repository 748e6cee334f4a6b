"""The machines' door with all that is behind it — TLS, frames, the service, queue and store — on a simulated network."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.server import joining
from cpc.server.bundles import Bundles, Terms
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.wire.connection import Connection
from cpc.wire.identity import Identity
from cpc.wire.messages import Hello, Message, Orders, Turn, Welcome
from tests.helpers.benches import Bench
from tests.helpers.disks import FakeDisk
from tests.helpers.stores import InlineThreads
from tests.helpers.wires import HERE, Wires


class Anything(Message, frozen=True):
    """Any answer: its keys are ignored."""


class MachineDoor:
    """A server's door, and machines that connect to it."""

    def __init__(self, url: str) -> None:
        self.bench = bench = Bench(url=url)
        self.wires = wires = Wires()
        clock, chance, store = wires.s.clock, SeededChance(5), bench.store
        disk = FakeDisk(clock.now)
        disk.make("run")
        gate = Gate(store, Seal(wires.authority.key_pem, chance))
        storage = Storage(disk, InlineThreads(), wires.s.reactor, lambda: 1 << 20)
        bundles = Bundles(store, gate, Tokens(store, gate, clock, chance), wires.authority, clock, Terms("t", (), ()))
        chunk_store = ChunkStore(store, ChunkFiles(disk), InlineThreads(), clock)
        files = Files(store, chunk_store, gate, storage, InlineThreads())
        self.machines = Machines(
            queue=bench.queue, store=store, clock=clock, chunks=ChunkDoor(files), enrolment=bundles,
            terms=MachineTerms(HERE),
        )  # fmt: skip
        wires.on_connection = self.machines.connected
        wires.reactor.finish(ensureDeferred(storage.start()))
        wires.listen()
        self._names = 0

    def worker(self) -> Worker:
        """A machine with a certificate of its own, connected; it has said nothing yet."""
        self._names += 1
        name = f"w{self._names}"
        identity = self.wires.worker(name)
        self.bench.do(lambda tx: joining.enrolled(tx, name, identity.fingerprint, 1))
        return Worker(self, identity)

    def submit(self, **fields: Any) -> int:
        """A job; returns when the workers have been told."""
        job = self.bench.submit(**fields)
        self.settle()
        return job

    def settle(self) -> None:
        """Whatever is due now happens."""
        self.bench.clock.seconds += 1.0
        self.bench.reactor.advance(0)
        self.wires.reactor.advance(1.0)

    def close(self) -> None:
        """Let go of the database."""
        self.bench.close()


class Worker:
    """What a worker has: its connection, and the tasks that it was sent."""

    def __init__(self, door: MachineDoor, identity: Identity) -> None:
        self.door = door
        self.identity = identity
        self.tasks: dict[int, Lease] = {}
        self.connection = self._connect()

    def _connect(self) -> Connection:
        return self.door.wires.connect(self.identity, prepare=lambda it: it.serve("orders", Orders, self._orders))

    async def _orders(self, _: Connection, orders: Orders) -> None:
        self.tasks |= {task.lease.job: task.lease for task in orders.tasks}

    def ask(self, method: str, body: object, kind: type[Any] = Anything) -> Any:
        """The answer to a question with any body at all, or the refusal. On a new connection if the last one is gone."""
        if self.connection.closed:
            self.connection = self._connect()
        asked: Any = self.connection.call(method, body, kind, timeout=30.0)  # type: ignore[arg-type]
        try:
            answer = self.door.wires.reactor.finish(asked, 100.0)
        except CopernicusError as error:
            answer = error
        self.door.settle()
        return answer

    def join(self, boot: str = "b", **fields: Any) -> Welcome:
        """Hello, as a worker of ours says it, and a first turn that asks for work."""
        fields.setdefault("total", Amounts(cores=2))
        hello = Hello(boot=boot, host="h", release="t", platform="smp", **fields)
        welcome = self.ask("hello", hello, Welcome)
        assert isinstance(welcome, Welcome), welcome
        self.turn()
        return welcome

    def turn(self, **fields: Any) -> Orders:
        """A turn that holds what it was sent."""
        orders = self.ask("turn", Turn(number=1, holds=tuple(self.tasks.values()), **fields), Orders)
        if isinstance(orders, CopernicusError):
            raise orders
        assert isinstance(orders, Orders)
        self.tasks |= {task.lease.job: task.lease for task in orders.tasks}
        for settled in orders.settled:
            self.tasks.pop(settled.lease.job, None)
        return orders


class ChunkDoor:
    """The file service as workers see it, as in `cpc.server.service`."""

    def __init__(self, files: Files) -> None:
        self.put_chunk = files.put_chunk
        self.get_chunk = files.chunk
        self.missing = files.missing
        self.has_chunk = files.has_chunk

    def full(self) -> str:
        return ""
