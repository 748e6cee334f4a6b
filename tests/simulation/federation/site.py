"""One server of a network of servers: a realm that knows the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.spec import JobSpec
from cpc.store.transaction import Tx
from cpc.wire.endpoints import ClientEndpoint
from cpc.wire.messages import Settled, Task
from tests.helpers.memory_disk import Platter
from tests.helpers.stores import open_store, result
from tests.simulation.federation import plain
from tests.simulation.federation.releases import mixed
from tests.simulation.federation.server import PeerServer
from tests.simulation.oracle import Oracle
from tests.simulation.realm import Common, Realm
from tests.simulation.server import Server
from tests.simulation.truth import fits
from tests.simulation.versions import Release
from tests.simulation.workers import Kind, Worker

if TYPE_CHECKING:
    from tests.simulation.federation.universe import Universe

CUSTODY = "in custody"


class Site(Realm):
    """Server `number`, with `workers` machines and `clients` people of its own; both may be none."""

    def __init__(self, universe: Universe, common: Common, number: int) -> None:
        super().__init__(common, number, f"s{number}")
        self.universe = universe
        self.number = number
        self.platter = Platter(self.reactor.seconds)  # where custody and the cache of relayed files lie

    @property
    def id(self) -> str:
        """What other servers call it."""
        return self.given.id

    @property
    def release(self) -> Release:
        """Which it runs."""
        return mixed(self.universe.plan.releases, self.number)

    def make_server(self, life: int) -> Server:
        """A process of the server."""
        return PeerServer(self, life) if self.number not in self.universe.plan.old else Server(self, life)

    @property
    def peers(self) -> PeerServer | None:
        """The server, while it runs and takes connections."""
        return self.server if isinstance(self.server, PeerServer) and self.server.ready else None

    def dial(self, host: str, port: int) -> ClientEndpoint:
        """How to get to another server. A firewall lets through what the plan says."""
        other = self.universe.by_name(host)
        if self.universe.plan.plain:
            return self.universe.plain(
                self.server_host.connect(host, plain.PORT if self.dials(other) else plain.PORT + 1)
            )
        return self.server_host.connect(host, port if self.dials(other) else port + 1)

    def dials(self, other: Site) -> bool:
        """Whether it can connect to this one; at least one of two that trust each other can."""
        pair = (min(self.number, other.number), max(self.number, other.number))
        return self.universe.plan.dials.get(pair, 0) in (0, self.number)

    def write(self, unit: Callable[[Tx], object]) -> None:
        """Into the database, before the server's first life."""
        store = open_store(self.url)
        result(store.write(unit))
        result(ensureDeferred(store.close()))

    def can_be_done(self, array: int) -> bool:
        """Whether a worker that could run it is here, or is lent to this server; and what it waits for can be done."""
        spec = self.oracle.truth.known_spec(array)
        before = {ids.array(ids.read(dependency.job)[0]) for dependency in spec.after}
        open_still = [
            each for each in before if self.oracle.rows("SELECT 1 FROM arrays WHERE id = ? AND open > 0", each)
        ]
        if not all(self.can_be_done(each) for each in open_still):
            return False
        project = self.project_of(array)
        return any(
            fits(spec, worker.kind) and worker.kind.project in ("", project if home is self else "")
            for home in self.universe.trust.lenders(self, spec, project)
            for worker in home.workers.values()
        )

    def unfinished(self) -> list[int]:
        """Jobs that could be done, and are not."""
        left = self.oracle.unfinished()
        able = {array: self.can_be_done(array) for array in {ids.array(job) for job in left}}
        return [job for job in left if able[ids.array(job)]]

    def machines(self) -> list[str]:
        """Those that its people may meddle with: also borrowed ones."""
        return [name for (name,) in self.oracle.rows("SELECT DISTINCT host FROM workers ORDER BY host")]

    def given_to(self, worker: Worker, tasks: tuple[Task, ...]) -> None:
        """A worker is told to run these."""
        for task in tasks:
            self.universe.truth.given(self, worker, task)

    def waits_for(self, kind: Kind, seconds: float = 10.0) -> bool:
        """Whether a job that any room would fit has waited here for so long, and a worker of this kind could run it."""
        server = self.peers
        if server is None or kind.project:
            return False
        now = self.server_host.clock.now()
        paused = server.queue.index.paused
        for text, project, since in self.oracle.rows(
            "SELECT a.spec, a.project, a.submitted FROM arrays a WHERE a.open > 0 AND EXISTS (SELECT 1 FROM jobs j "
            "WHERE j.id >= a.id AND j.id < a.id + 1048576 AND j.state = 1 AND j.attempts = 0)"
        ):
            spec = msgspec.msgpack.decode(text, type=JobSpec)
            small = spec.need.cores == 1 and not spec.need.memory and not spec.after and project not in paused
            if small and not spec.walltime and now - since > seconds * 1e6 and fits(spec, kind):
                return True
        return False

    def kill_server(self, how: str, away: float, power: bool = False) -> None:
        """The process is gone; another one starts after `away` seconds."""
        super().kill_server(how, away, power)
        if power:
            self.platter.power_loss()

    def oracle_of(self, lease: Lease) -> Oracle:
        """The owner's, at the end of the lease's path."""
        return self.universe.by_id[lease.route[-1]].oracle if lease.path else self.oracle

    def settled_at(self, worker: Worker, settled: Settled) -> None:
        """A worker is told that it may forget a result: by the owner, or because its home keeps it now."""
        oracle = self.oracle_of(settled.lease)
        if settled.verdict == CUSTODY:
            self.story.tell(worker.name, f"has handed over {settled.lease}")
            oracle.entrusted(settled.lease.of_owner())
            return
        if settled.verdict == "gone" and self.universe.truth.withdrawn(self, settled.lease):
            self.story.tell(worker.name, f"is told to forget {settled.lease}: {settled.note}")
            oracle.discarded(settled.lease.of_owner())
            return
        oracle.settled(worker.name, Settled(lease=settled.lease.of_owner(), verdict=settled.verdict, note=settled.note))

    def kind_of(self, name: str) -> Kind:
        """What a machine of any of the servers has."""
        home = self.universe.home_of(name)
        return super().kind_of(name) if home is self else home.kind_of(name)

    def removed(self, name: str) -> bool:
        """Whether a machine is gone for good, with its disk."""
        return name not in self.universe.home_of(name).workers

    def calm(self, host: str, seconds: float) -> bool:
        """Also nowhere on the way to the machine's home."""
        home = self.universe.home_of(host)
        if home is self:
            return super().calm(host, seconds)
        return home.calm(host, seconds) and self.universe.calm(seconds)
