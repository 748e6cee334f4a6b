"""Nobody waits for nothing: a job that some idle worker could run is given to it soon, wherever the two are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from cpc.core import ids
from cpc.core.spec import JobSpec
from tests.simulation.federation.order import CALLED
from tests.simulation.truth import fits

if TYPE_CHECKING:
    from cpc.queue.session import Session
    from tests.simulation.federation.order import Order
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe
    from tests.simulation.workers import Worker

PATIENCE = 600.0  # seconds: two subscriptions


class Room:
    """Room of workers that work waits for, at any time: that of a server without work of its own, for a peer whose jobs any room
    would fit. Looked at every few seconds; remembers since when there is room."""

    def __init__(self, universe: Universe, order: Order) -> None:
        self.universe = universe
        self._order = order
        self._since: dict[str, float] = {}

    def check(self) -> Iterator[str]:
        """What is wrong, in words."""
        since, self._since = self._since, {}
        for home in self.universe.sites.values():
            if home.workers and home.peers is not None and not _waits(home):
                for worker in home.workers.values():
                    yield from self._look(home, worker, since)

    def _look(self, home: Site, worker: Worker, since: dict[str, float]) -> Iterator[str]:
        session = _session(home, worker)
        if session is None or worker.kind.project or not home.calm(worker.name, CALLED):
            return
        peers = [
            peer for peer in self._order.lent_to(home) if self._order.waits(peer, worker.kind) and not _large(peer)
        ]
        if not peers:
            return
        self.universe.decided["room is filled"] += 1
        if session.spare.cores > 0:
            began = self._since[worker.name] = since.get(worker.name, self.universe.now)
            if self.universe.now - began > CALLED:
                yield (
                    f"{worker.name} has had room for {session.spare} for more than {CALLED:.0f} s, and jobs of "
                    f"{', '.join(peer.name for peer in peers)} wait"
                )


def _session(home: Site, worker: Worker) -> Session | None:
    """Of a worker that takes jobs, and has no end."""
    agent, server = worker.agent, home.server
    if agent is None or server is None or not server.ready or worker.kind.time_left or agent.link.session is None:
        return None
    session = server.queue.index.sessions.get(agent.link.session.number)
    return session if session is not None and session.wants and session.drain is None else None


def _waits(site: Site) -> list[int]:
    return [row[0] for row in site.oracle.rows("SELECT id FROM jobs WHERE state = 1 ORDER BY rank, id LIMIT 50")]


def _large(site: Site) -> bool:
    """Whether jobs wait that need much room: it may be kept for them."""
    specs = site.oracle.rows(
        "SELECT a.spec FROM arrays a WHERE a.open > 0 AND EXISTS (SELECT 1 FROM jobs j WHERE j.id >= a.id "
        "AND j.id < a.id + 1048576 AND j.state = 1)"
    )
    needs = (msgspec.msgpack.decode(text, type=JobSpec).need for (text,) in specs)
    return any(need.cores > 1 or need.memory for need in needs)


class Idle:
    """Looked at every few seconds once faults have ended. Remembers since when jobs wait and workers have nothing to do."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self._jobs: dict[tuple[int, int], float] = {}  # (server, job) → since when it waits
        self._workers: dict[str, float] = {}  # name → since when it has nothing to do
        self._lenders: dict[tuple[int, int, str, str], list[Site]] = {}  # found in this look

    def check(self) -> Iterator[str]:
        """What is wrong, in words."""
        now, sites = self.universe.now, self.universe.sites.values()
        waiting = {(site.number, job): now for site in sites for job in _waits(site)}
        workers = [(site, worker) for site in sites for worker in site.workers.values()]
        resting = {worker.name: now for site, worker in workers if self._rests(site, worker)}
        busy = [worker.name for _, worker in workers if worker.agent is not None and worker.agent.desk.attempts]
        self.universe.decided["idle workers get work"] += sum(name in self._workers for name in busy)
        self._jobs = {key: self._jobs.get(key, now) for key in waiting}
        self._workers = {name: self._workers.get(name, now) for name in resting}
        long = {name for name, since in self._workers.items() if now - since > PATIENCE}
        self._lenders.clear()
        for (number, job), since in self._jobs.items():
            if long and now - since > PATIENCE:
                yield from self._could(self.universe.sites[number], job, long)

    def _rests(self, site: Site, worker: Worker) -> bool:
        """Its own server knows it, and would give it anything."""
        return worker.agent is not None and not worker.agent.desk.attempts and _session(site, worker) is not None

    def _could(self, owner: Site, job: int, long: set[str]) -> Iterator[str]:
        spec, project = owner.oracle.truth.known_spec(ids.array(job)), owner.project_of(ids.array(job))
        drained = {host for (host,) in owner.oracle.rows("SELECT host FROM workers WHERE drain IS NOT NULL")}
        key = (owner.number, spec.need.cores, spec.executable, project)
        if key not in self._lenders:
            self._lenders[key] = self.universe.trust.lenders(owner, spec, project, plenty=True)
        for home in self._lenders[key]:
            for worker in home.workers.values():
                kind = worker.kind
                mine = not kind.project or (home is owner and kind.project == project)
                if worker.name in long and worker.name not in drained and mine and fits(spec, kind):
                    yield (
                        f"job {ids.show(job, True)} of {owner.name} has waited for more than {PATIENCE:.0f} s, and "
                        f"{worker.name}, which could run it, has had nothing to do"
                    )
                    return
