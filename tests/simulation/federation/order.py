"""Whose work comes first at the workers of a server: its own, then that of its peers by their priorities.

Only what is certain counts: jobs that any room would fit, which have waited for longer than a call for them may take, while
nothing happened between the two servers. Each time that a worker was given one job although such a one of somebody else waited,
it was decided who comes first; how often is counted, so that a rule that never applies is seen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cpc.core.peer import Limits

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe
    from tests.simulation.workers import Kind, Worker

CALM = 90.0  # seconds without any fault, after which all is well
CALLED = 90.0  # seconds in which a server that has work has called whoever waits for it, the longest pause between calls included


class Order:
    """Told of every job that a worker is given."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self._at: tuple[float, int] = (-1.0, -1)  # what is remembered is of this moment and commit
        self._lent_to: dict[int, list[Site]] = {}
        self._waits: dict[tuple[int, Kind, float], bool] = {}

    def own(self, home: Site, worker: Worker) -> None:
        """A worker is given a job of its own server."""
        if any(self.waits(peer, worker.kind) for peer in self.lent_to(home)):
            self.universe.decided["own work first"] += 1

    def lent(self, home: Site, worker: Worker, route: tuple[int, ...]) -> None:
        """A worker is given a job of another server, by this way."""
        if self.universe.calm(CALM) and worker.agent is not None and home.waits_for(worker.kind):
            self.universe.wrong(f"{worker.name} is given a job of s{route[-1]}, and one of its own server waits")
        for place in range(len(route) - 1):
            if not place or self._reaches(route[: place + 1]):
                self._check(worker, route, place)

    def _check(self, worker: Worker, route: tuple[int, ...], place: int) -> None:
        """At the server in this place of the way nobody comes before who is next on it."""
        here, chosen = self.universe.sites[route[place]], route[place + 1]
        trust, key = self.universe.trust, (here.number, chosen)
        if self.universe.now - trust.changed.get(key, -1e9) < CALLED:
            return
        priority, patience = self.priority(here, chosen), CALLED * (1 + place)
        for peer in self.lent_to(here):
            other = self.priority(here, peer.number)
            if peer.number in route[: place + 2] or other == priority:
                continue
            if any(trust.trusted(number, peer.number) for number in route[:place]):
                continue  # it is asked from there, and comes in another place
            if not self.waits(peer, worker.kind, patience):
                continue
            self.universe.decided["priority" if not place else "priority in between"] += 1
            if other < priority:
                self.universe.wrong(
                    f"{worker.name} is given a job of s{route[-1]} by way of {route}, and one of {peer.name} waits, "
                    f"which has a higher priority at {here.name}"
                )

    def _reaches(self, way: tuple[int, ...]) -> bool:
        """Whether the workers' home lends all it has so far that it comes to the peers of the last one on this way."""
        trust = self.universe.trust
        return all(
            self.universe.sites[peer] in self.lent_to(self.universe.sites[here])
            and trust.bond(here, peer).agreement.lend_on >= len(way) - 1 - place
            for place, (here, peer) in enumerate(pairwise(way))
        )

    def priority(self, here: Site, peer: int) -> int:
        """As the operator of `here` is shown it: a change moves others too. The smaller is asked first."""
        row = here.peers.federation.book.get(self.universe.sites[peer].id) if here.peers is not None else None
        return row.priority if row is not None else 0

    def waits(self, peer: Site, kind: Kind, seconds: float = CALLED) -> bool:
        """Whether a job that any room of such workers would fit has waited there for so long."""
        self._now()
        key = (peer.number, kind, seconds)
        if key not in self._waits:
            self._waits[key] = peer.waits_for(kind, seconds)
        return self._waits[key]

    def lent_to(self, home: Site) -> list[Site]:
        """Peers that `home` lends all it has, and nothing has stood in the way of that, nor of their place in the order."""
        self._now()
        found = self._lent_to.get(home.number)
        if found is None:
            trust, now, sites = self.universe.trust, self.universe.now, self.universe.sites
            found = self._lent_to[home.number] = [
                sites[number]
                for number in trust.peers(home.number)
                if trust.trusted(home.number, number)
                and now - trust.changed.get((home.number, number), -1e9) > CALLED
                and self._lends(home, sites[number])
            ]
        return found

    def _now(self) -> None:
        """Forget what was true before."""
        at = (self.universe.now, self.universe.common.commits)
        if at != self._at:
            self._at = at
            self._lent_to.clear()
            self._waits.clear()

    def _lends(self, home: Site, peer: Site) -> bool:
        trust, now = self.universe.trust, self.universe.now
        pair = (min(home.number, peer.number), max(home.number, peer.number))
        ours, theirs = (
            trust.bond(*each).agreement for each in ((home.number, peer.number), (peer.number, home.number))
        )
        base, network = self.universe.plan.base, self.universe.network
        return (
            not (base.faults.cut or base.faults.stall)
            and ours.lent == Limits()
            and theirs.accepted == Limits()
            and all(network.undisturbed(site.name, CALLED) and site.slowness == 1.0 for site in (home, peer))
            and all(max(site.trouble.away_until, site.trouble.full_until) < now - CALLED for site in (home, peer))
            and trust.up(home.number, peer.number)
            and pair not in trust.doubtful
            and now - trust.since.get(pair, -1e9) > CALLED
            and now - trust.changed.get((peer.number, home.number), -1e9) > CALLED
        )
