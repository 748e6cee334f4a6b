"""One server of a simulated network, with its disk and database, its workers, the people who use it, and its oracle."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.spec import JobSpec
from cpc.queue.job import State
from cpc.server.principal import SERVER, Call
from cpc.wire.messages import Settled, Task
from tests.helpers.disks import FakeDisk
from tests.helpers.memory_disk import Platter
from tests.simulation.architect import Architect
from tests.simulation.clients import Client
from tests.simulation.clock import VirtualReactor
from tests.simulation.databases import Killed, copy, end_all
from tests.simulation.durable import Durable
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle
from tests.simulation.past import Backup, back_up, restore
from tests.simulation.plan import ALL, KINDS, Plan
from tests.simulation.server import Server, given, server_trouble
from tests.simulation.story import Story
from tests.simulation.versions import Release
from tests.simulation.workers import Kind, Worker


@dataclass
class Common:
    """What all servers of a simulated network share: time, chance, the network itself, and the story that is told."""

    seed: int
    plan: Plan
    chance: random.Random
    reactor: VirtualReactor
    story: Story
    network: Network
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # what should not have happened, in words
    commits: int = 0

    @classmethod
    def of(cls, seed: int, plan: Plan) -> Common:
        """By seed."""
        reactor = VirtualReactor()
        story, faults = Story(reactor.seconds), Counter[str]()
        network = Network(reactor, random.Random(seed + 2), plan.faults)
        network.on_note = story.note
        network.on_fault = lambda what: faults.update((what,))
        return cls(seed, plan, random.Random(seed), reactor, story, network, faults)


class Realm:
    """Server `number` of the network; machines of its own have names that begin with `prefix`."""

    def __init__(self, common: Common, number: int = 0, prefix: str = "") -> None:
        self.common = common
        self.given = given(number)
        self.name = self.given.host
        self.prefix = prefix
        self.seed, self.plan, self.chance = common.seed, common.plan, common.chance
        self.reactor, self.story, self.network, self.faults = (
            common.reactor,
            common.story,
            common.network,
            common.faults,
        )
        self.slowness = 1.0  # of disks and databases
        self._directory = tempfile.TemporaryDirectory(prefix=f"seed-{self.seed}-", dir=self.given.directory)
        self.url = copy(self.given.database, Path(self._directory.name))
        self.path = self.url.removeprefix("sqlite:///")
        self.server_host = self.network.host(self.name)
        self.server_disk = FakeDisk(self.server_host.clock.now)
        self.server_disk.make("run")
        self.controllers_disk = Durable(Path(self._directory.name) / "run")
        self.controllers_disk.root.mkdir()
        self.trouble = server_trouble(self.reactor.seconds)
        self.trouble.killed = self.killed
        self.trouble.happened = self.fault
        self.trouble.committed = self._committed
        self.oracle = Oracle(self)
        self.project_numbers = {row.name: row.id for row in self.given.projects}
        self.backup: Backup | None = None
        self.field = self.given.field
        self.bundles_made = 0
        self.server: Server | None = None
        self.workers: dict[str, Worker] = {}
        self.clones: dict[str, Worker] = {}
        self.clients: dict[str, Client] = {}
        self.architect: Architect | None = None
        self.unchecked = False  # something was committed and nobody has looked at it yet
        self.restored = 0  # times
        self._lives = 0
        self._commits = 0

    def people(self, workers: int, clients: int) -> None:
        """Its workers and users, by chance."""
        shared = Platter(self.reactor.seconds)
        for number in range(workers):
            name = f"{self.prefix}n{number + 1}"
            kind = ALL if number == 0 else self.chance.choice(KINDS)
            platter = shared if self.chance.random() < 0.3 else Platter(self.reactor.seconds)
            worker = self.workers[name] = Worker(self, name, kind, platter)
            if self.plan.revokes and number:
                worker.bundle = self.given.field
            if self.plan.mixed:
                worker.release = self.chance.choice(list(Release))
        for number in range(clients):
            name = f"{self.prefix}u{number + 1}"
            self.clients[name] = Client(self, name, self.plan.actions)
        if self.plan.networks:
            self.architect = self.clients["a1"] = Architect(self, "a1", self.plan.actions * 2)

    def begin(self) -> None:
        """Everybody starts."""
        self.start_server()
        for worker in self.workers.values():
            self.reactor.callLater(self.chance.uniform(0.0, 20.0), worker.start)
        for client in self.clients.values():
            client.start()

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.reactor.seconds()

    @property
    def broken(self) -> list[str]:
        """What should not have happened, in words."""
        return self.common.broken

    def fault(self, what: str) -> None:
        """Something has gone wrong, on purpose."""
        self.faults[what] += 1

    def check(self) -> None:
        """All invariants that hold at any time."""
        self.oracle.invariants.check(self.server)
        if self.architect is not None:
            self.oracle.networks.check(self.server)

    def look(self) -> None:
        """After each event: what was committed is looked at before anything else happens."""
        if self.unchecked:
            self.unchecked = False
            self.check()
        elif self.server is not None and self.server.ready:
            self.oracle.invariants.glance(self.server)

    def unfinished(self) -> list[int]:
        """Jobs that should end by themselves and have not."""
        return self.oracle.unfinished()

    def settled(self) -> bool:
        """Whether nothing is left to be done, told or handed in."""
        return (
            all(client.done for client in self.clients.values())
            and self.server is not None
            and self.server.ready
            and not self.clones
            and not self.unfinished()
            and not self.oracle.kept()
            and not self.oracle.half_forgotten()
            and all(worker.quiet for worker in self.workers.values())
        )

    def unsettled(self) -> str:
        """What is left, in words."""
        left = self.unfinished()
        busy = [worker.name for worker in self.workers.values() if not worker.quiet]
        waiting = [client.name for client in self.clients.values() if not client.done]
        kept = ", ".join(map(str, self.oracle.kept()))
        after = f"jobs {left}, busy {busy}, people who wait {waiting}"
        return f"{after}, half forgotten {self.oracle.half_forgotten()}, results not handed in: {kept or 'none'}"

    def verdict(self) -> None:
        """Everything that must hold when all has settled."""
        self.check()
        self.oracle.verdict()
        if self.architect is not None and self.server is not None and not self.broken:
            self.oracle.networks.verdict(self.server, self.architect)

    def oracle_of(self, lease: Lease) -> Oracle:
        """That of the server to whom a worker's lease belongs."""
        return self.oracle

    def settled_at(self, worker: Worker, settled: Settled) -> None:
        """A worker is told that it may forget a result."""
        self.oracle.settled(worker.name, settled)

    def calm(self, host: str, seconds: float) -> bool:
        """Whether nothing has happened to a machine, and between it and the server, for so long."""
        # Of a machine that has been copied, one of the two is always in the other's way.
        alone = host in self.workers and f"{host}c" not in self.workers and not host.endswith("c")
        stormy = self.plan.faults.cut or self.plan.faults.stall
        return alone and not stormy and self.network.undisturbed(host, seconds)

    # --- the server -----------------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """A new process of the server."""
        if self.server is not None:
            return
        self._lives += 1
        if not self.server_host.reactor.alive:
            self.server_host.start()
        self.story.tell(self.name, f"starts, life {self._lives}")
        try:
            self.server = server = self.make_server(self._lives)
        except Killed:
            return
        except Exception as error:  # its database or disk is not there: the service manager tries again
            self.story.tell(self.name, f"cannot start: {error}")
            self.kill_server("gives up", away=10.0)
            return
        ensureDeferred(server.start()).addErrback(partial(self._not_started, server))

    def _not_started(self, server: Server, failure: Failure) -> None:
        if self.server is server and not server.ended:
            self.kill_server(f"cannot start: {failure.getErrorMessage()}", away=10.0)

    def given_to(self, worker: Worker, tasks: tuple[Task, ...]) -> None:
        """A worker is told to run these."""

    def make_server(self, life: int) -> Server:
        """A process of the server, which has not begun to start yet."""
        return Server(self, life)

    def server_exits(self, reason: str) -> None:
        """It has found that it must stop and recover."""
        self.kill_server(f"stops: {reason}", away=2.0)

    def killed(self, how: str) -> None:
        """The server's process ends in the middle of something."""
        self.kill_server(how, away=self.chance.choice([0.5, 5.0, 130.0]))

    def kill_server(self, how: str, away: float, power: bool = False) -> None:
        """The process is gone; another one starts after `away` seconds."""
        self.story.tell(self.name, how)
        server, self.server = self.server, None
        if server is not None:
            server.end()
        end_all(self.trouble)  # also of one that was just being made
        self.trouble.strike = None
        self.server_host.kill(silent=power)
        if power:
            eager = self.chance.random() < 0.5
            self.server_disk.power_loss(eager)
            self.controllers_disk.power_loss(eager)
        self.reactor.callLater(away * self.plan.scale, self.start_server)

    def back_up(self) -> None:
        """A person has a backup made."""
        self.backup = back_up(self)
        self.story.tell(self.name, "is backed up")

    def restore(self) -> None:
        """Its disk is lost; a person restores the backup."""
        assert self.backup is not None
        self.kill_server("loses its disk", away=self.chance.uniform(10.0, 100.0))
        life = restore(self, self.backup)
        self.restored += 1
        self.project_numbers = dict(self.oracle.rows("SELECT name, id FROM projects WHERE deleted IS NULL"))
        self.story.tell(self.name, f"is restored, incarnation {life}")

    def _committed(self) -> None:
        self._commits += 1
        self.common.commits += 1
        if self._commits % self.plan.check_every == 0:
            self.unchecked = True

    # --- for stories told by hand ---------------------------------------------------------------------------------------

    def until(self, true: Callable[[], object], within: float = 100.0) -> None:
        """Step until it is so."""
        self.reactor.run_until(true, within)
        self.check()

    def submit(self, spec: JobSpec, project: str = "p") -> int:
        """Submit and be told; the id."""
        call = Call(SERVER, f"by hand {self.reactor.steps}")
        made = self.call(lambda server: server.jobs.submit(call, project, spec, False))
        array = ids.read(made.id)[0]
        self.oracle.acknowledged(array, spec)
        return array

    def call(self, work: Callable[[Server], Awaitable[Any]]) -> Any:
        """Ask the server something, without a network in between."""
        assert self.server is not None
        return self.reactor.finish(_await(work(self.server)))

    def joined(self, name: str, life: int = 1) -> bool:
        """Whether a machine's worker has a session, in at least this life of it."""
        worker = self.workers[name]
        return worker.agent is not None and worker.lives >= life and worker.agent.link.session is not None

    def state(self, job: int) -> State:
        """Where a job stands, by the database."""
        query = "SELECT state FROM jobs WHERE id = ? UNION ALL SELECT state FROM finished WHERE id = ?"
        return State(self.oracle.rows(query, job, job)[0][0])

    def attempts(self, job: int) -> int:
        """How many tries a job has had."""
        return int(self.oracle.rows("SELECT count(*) FROM attempts WHERE job = ?", job)[0][0])

    # --- lookups --------------------------------------------------------------------------------------------------------

    def project_of(self, array: int) -> str:
        """The project of a submission; "" when either is not there any more."""
        query = "SELECT p.name FROM arrays a JOIN projects p ON p.id = a.project WHERE a.id = ? AND p.deleted IS NULL"
        found = self.oracle.rows(query, array)
        return str(found[0][0]) if found else ""

    def worker_name(self, host: str) -> str:
        """What the server calls the worker of a machine; "" while it does not know it."""
        found = self.oracle.rows("SELECT name FROM workers WHERE host = ?", host)
        return str(found[0][0]) if found else ""

    def machines(self) -> list[str]:
        """Those that its people may meddle with."""
        return sorted(self.workers)

    def shares(self, platter: Platter) -> bool:
        """Whether several machines use this disk, which then has power of its own."""
        return sum(worker.platter is platter for worker in self.workers.values()) > 1

    def kind_of(self, name: str) -> Kind:
        """What a machine has, or had: a copy that is gone was like its original."""
        return self.workers[name if name in self.workers else name.rstrip("c")].kind

    def removed(self, name: str) -> bool:
        """Whether a machine is gone for good, with its disk."""
        return name not in self.workers

    def clone(self, worker: Worker, seconds: float) -> bool:
        """A copy of a machine, running at the same time, for a while. False when there is one, or nothing to copy."""
        name = f"{worker.name}c"
        if name in self.clones or worker.agent is None or self.shares(worker.platter):
            return False
        seconds *= self.plan.scale
        self.story.tell("…", f"{worker.name} is copied for {seconds:.0f} s")
        platter = Platter(self.reactor.seconds)
        made = Worker(self, name, worker.kind, platter)
        made.copy_home(worker)
        self.clones[name] = self.workers[name] = made
        made.start()
        self.reactor.callLater(seconds, self._end_clone, name)
        return True

    def _end_clone(self, name: str) -> None:
        made = self.clones.pop(name)
        del self.workers[name]
        made.retire()
        self.network.disturb(name, name.removesuffix("c"))
        self.story.tell("…", f"{name} is removed")

    def close(self) -> None:
        """Let go of everything."""
        if self.server is not None:
            self.server.end()
        self.oracle.close()
        self._directory.cleanup()


async def _await(work: Awaitable[Any]) -> Any:
    return await work
