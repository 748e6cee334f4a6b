"""Workers in the test tube: the production agent on simulated machines, started again whenever it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.offload import inline
from cpc.core.resources import Amounts
from cpc.spool.ownership import Owner, claim
from cpc.wire.bundle import Bundle
from cpc.wire.messages import Checkpoint, Orders, Program, Turn
from cpc.worker.agent import Agent, Options
from cpc.worker.credentials import Credentials, place
from cpc.worker.offer import Offer
from cpc.worker.placing import key_of
from cpc.worker.room import Kept
from cpc.worker.starting import PlainStarter
from tests.helpers.memory_disk import MemoryDisk, Node, Platter
from tests.simulation import versions
from tests.simulation.network import Host
from tests.simulation.programs import Ear, SimProcesses
from tests.simulation.threads import Pool
from tests.simulation.versions import Release

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.realm import Realm

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What a machine has."""

    cores: int = 4
    memory: int = 8 << 30
    labels: tuple[str, ...] = ()
    programs: tuple[tuple[str, str], ...] = ()
    project: str = ""
    cores_per_job: int = 0
    time_left: float = 0.0  # of each life; 0: no end

    @property
    def total(self) -> Amounts:
        return Amounts(cores=self.cores, memory=self.memory)


class Worker:
    """One machine with a worker. `platter` is its disk; two machines may share one."""

    def __init__(self, world: Realm, name: str, kind: Kind, platter: Platter) -> None:
        self.world = world
        self.name = name
        self.kind = kind
        self.platter = platter
        self.host: Host = world.network.host(name)
        self.agent: Agent | None = None
        self.lives = 0
        self.clone_of = ""
        self.retired = False
        self.bundle = world.given.bundle
        self.release = Release.SAME
        self._empty = False  # its last process has left with nothing to be told any more
        self._runs: dict[str, Oracle] = {}  # of its programs, that of the job's owner
        self.flaps_until = 0.0  # until then, it is killed soon after each start

    # --- life ---

    def start(self) -> None:
        """A new process, if none runs."""
        if self.agent is not None or self.retired:
            return
        self.lives += 1
        if not self.host.reactor.alive:
            self.host.start()
        world, host, kind = self.world, self.host, self.kind
        chance = SeededChance(number_of(f"{world.seed} {self.name} {self.lives}"))
        self.disk = disk = MemoryDisk(self.platter)
        try:
            self._begin(world, host, kind, chance, disk)
        except (OSError, CopernicusError) as error:
            world.story.tell(self.name, f"cannot start: {error}")
            disk.end()
            self.host.kill()
            world.reactor.callLater(60.0, self.start)

    def _begin(self, world: Realm, host: Host, kind: Kind, chance: SeededChance, disk: MemoryDisk) -> None:
        self._threads = Pool(host)
        for directory in ("/work", "/home"):
            disk.make_directory(directory)
        bundle = self.bundle
        spot = place(disk, ("/home",), bundle, self.clone_of or host.name)
        self.processes = SimProcesses(
            host.reactor,
            MemoryDisk(self.platter, breaks=False),
            Ear(self._started, self._ended, self._poison),
            chance.uniform(0.1, 40.0) * world.plan.scale,
        )
        options = Options(
            least_free=1 << 20, linger=30.0, cache_limit=1 << 20,
            until=host.clock.monotonic() + kind.time_left if kind.time_left else None,
        )  # fmt: skip
        self._credentials = Credentials(disk, spot.directory, bundle, chance)
        agent = Agent(
            bundle=bundle,
            credentials=self._credentials,
            connect=host.connect,
            reactor=host.reactor,
            clock=host.clock,
            chance=chance,
            processes=self.processes,
            starter=PlainStarter(),
            disk=disk,
            offload=self._offload if world.plan.slow else inline,
            claim=claim(disk, "/work", Owner(credential=f"{world.given.id}/{bundle.name}", host=host.name, pid=100 + self.lives)),
            offer=Offer(
                host.name, "smp", kind.total, tuple(Program(name=name, version=v) for name, v in kind.programs),
                kind.labels, kind.project, kind.cores_per_job,
            ),
            options=options,
            say=lambda text: world.story.tell(self.name, text),
        )  # fmt: skip
        self.agent = agent
        self._listen(agent)
        if self.release is not Release.SAME:
            versions.speak(agent, self.release)
        if world.now < self.flaps_until:
            host.reactor.callLater(world.chance.uniform(0.0, 6.0), self.flap)
        ensureDeferred(agent.run()).addBoth(self._left, agent)

    def _offload(self, work: Callable[[], T]) -> Deferred[T]:
        """A thread of the agent's: meanwhile other things happen."""
        seconds = self.world.chance.choice([0.0, 0.001, 0.05])
        return self._threads.run(work, seconds * self.world.slowness)

    def flap(self) -> None:
        """Its allocation is taken away again."""
        self.kill(away=self.world.chance.uniform(0.5, 4.0))

    def _listen(self, agent: Agent) -> None:
        """The oracle hears what the agent spools and what it is told."""
        spool, desk, oracle_of = agent.room.spool, agent.desk, self.world.oracle_of
        told: list[Checkpoint] = []
        add, obey, answered = spool.add, desk.obey, desk.answered

        async def heard_add(lease: Lease, body: bytes) -> None:
            await add(lease, body)
            oracle_of(lease).spooled(self, lease.of_owner(), msgspec.msgpack.decode(body, type=Kept).result)

        def heard_obey(orders: Orders) -> None:
            self.world.given_to(self, orders.tasks)
            for settled in orders.settled:
                self.world.settled_at(self, settled)
            for checkpoint in told:
                if checkpoint.lease not in orders.retry and not checkpoint.lease.path:
                    oracle_of(checkpoint.lease).checkpointed(self.called, checkpoint.lease, checkpoint.files)
            told.clear()
            obey(orders)

        def heard_answered(turn: Turn) -> None:
            told.extend(turn.checkpoints)
            answered(turn)

        spool.add = heard_add  # type: ignore[method-assign]
        desk.answered = heard_answered  # type: ignore[method-assign]
        desk.obey = heard_obey  # type: ignore[method-assign]

    def _left(self, outcome: Any, agent: Agent) -> None:
        if self.agent is not agent:
            return
        words = str(outcome.value) if isinstance(outcome, Failure) else outcome
        self.world.story.tell(self.name, f"has left: {words}")
        self._empty = not agent.desk.attempts and not agent.desk.deliveries
        self.agent = None
        self.disk.end()
        self.host.kill()
        self.world.reactor.callLater(self.world.chance.uniform(5.0, 60.0) * self.world.plan.scale, self.start)

    def kill(self, power: bool = False, away: float = 10.0, zeros: bool = False) -> bool:
        """kill -9 of the agent and all its jobs; `power`: of the machine, with what its disk had not flushed; `zeros`: of
        what was appended and not flushed, the file system kept the length. False when no agent runs."""
        if self.agent is None:
            return False
        self.world.story.tell(self.name, "loses power" if power else "is killed")
        self._empty = False
        self.agent = None
        self.host.kill(silent=power)
        self.disk.end()
        self.disk.killed = GeneratorExit  # says nothing when the coroutines of the process are collected
        if power and not self.world.shares(self.platter):
            self.platter.power_loss(zeros)
        self.world.reactor.callLater(away * self.world.plan.scale, self.start)
        return True

    def copy_home(self, other: Worker) -> None:
        """The key and certificate of another machine, under its name."""
        self.clone_of = other.name
        for name, node in other.platter.names.items():
            if name.startswith("/home"):
                self.platter.inodes += 1
                self.platter.names[name] = self.platter.durable[name] = Node(
                    node.kind, self.platter.inodes, node.mode, node.data, node.synced, node.changed
                )

    def set_up(self, bundle: Bundle) -> None:
        """A person gives the machine another bundle; the worker that runs with the old one is ended."""
        self.bundle = bundle
        self.world.story.tell(self.name, f"is set up with {bundle.name}")
        self.kill(away=1.0)

    def lose_key(self) -> None:
        """Its home is gone: the next life enrols under a new name, and finds the old one's work."""
        for names in (self.platter.names, self.platter.durable):
            for name in [
                name
                for name in names
                if name.startswith(f"/home/worker/{self.world.given.id}/{self.bundle.name}/{self.name}-")
            ]:
                del names[name]

    def retire(self) -> None:
        """Gone for good."""
        self.retired = True
        self.agent = None
        self.host.kill()

    @property
    def called(self) -> str:
        """What its certificate says that it is called; another name after it has lost its key."""
        identity = self._credentials.identity
        return identity.name.name if identity is not None else ""

    # --- its programs ---

    def _started(self, launch: Any) -> None:
        assert self.agent is not None
        lease = next(lease for lease in self.agent.desk.attempts if key_of(lease) == launch.key)
        oracle = self._runs[launch.key] = self.world.oracle_of(lease)
        oracle.started(self, launch, lease)

    def _ended(self, key: str, code: int) -> None:
        self._runs[key].exited(self.name, key, code)

    def _poison(self, key: str) -> None:
        self.world.story.tell(self.name, f"job {key} takes the machine down")
        # Not from within its own call: the machine ends with all that it is doing.
        self.world.reactor.callLater(0, self.kill, True, 30.0)

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to be told; also between two allocations that end almost at once, for of many such machines
        there is always one that is away."""
        if self.agent is None and self._empty:
            return True
        if self.agent is None:
            # A worker whose bundle is revoked is not let in again, however often it tries.
            query = "SELECT 1 FROM bundles WHERE name = ? AND revoked IS NOT NULL"
            return bool(self.world.oracle.rows(query, self.bundle.name))
        return not self.agent.desk.attempts and not self.agent.desk.deliveries


def number_of(text: str) -> int:
    """The same in every run, and another one for every other text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
