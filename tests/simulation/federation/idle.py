"""Nobody waits for nothing: a job that some idle worker could run is given to it soon, wherever the two are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpc.core import ids
from tests.simulation.truth import fits

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe
    from tests.simulation.workers import Worker

PATIENCE = 600.0  # seconds: two subscriptions


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
        waiting = {(site.number, job): now for site in sites for job in self._waits(site)}
        resting = {worker.name: now for site in sites for worker in site.workers.values() if self._rests(site, worker)}
        self._jobs = {key: self._jobs.get(key, now) for key in waiting}
        self._workers = {name: self._workers.get(name, now) for name in resting}
        long = {name for name, since in self._workers.items() if now - since > PATIENCE}
        self._lenders.clear()
        for (number, job), since in self._jobs.items():
            if long and now - since > PATIENCE:
                yield from self._could(self.universe.sites[number], job, long)

    def _waits(self, site: Site) -> list[int]:
        return [row[0] for row in site.oracle.rows("SELECT id FROM jobs WHERE state = 1 ORDER BY rank, id LIMIT 50")]

    def _rests(self, site: Site, worker: Worker) -> bool:
        """Its own server knows it, and would give it anything."""
        agent, server = worker.agent, site.server
        if agent is None or agent.desk.attempts or server is None or not server.ready or worker.kind.time_left:
            return False
        if agent.link.session is None:
            return False
        session = server.queue.index.sessions.get(agent.link.session.number)
        return session is not None and session.wants and session.drain is None

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
