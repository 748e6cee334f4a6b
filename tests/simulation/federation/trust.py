"""Who trusts whom, as the operators have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.core.peer import Address, PeerState
from cpc.core.spec import JobSpec
from cpc.store import peers
from cpc.store.peers import Addresses, PeerRow
from tests.simulation.federation.graphs import Pair
from tests.simulation.federation.plan import Bond
from tests.simulation.federation.reach import Reach, Work
from tests.simulation.federation.server import CLIENT_PORT
from tests.simulation.server import PORT

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe


class Trust:
    """What the operators have done: `bonds` is (server, peer) → what was agreed last, `ended` the pairs whose trust was
    withdrawn and when that was on record, `doubtful` those of which it is being changed."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.bonds: dict[tuple[int, int], Bond] = dict(universe.plan.bonds)
        self._pairs = frozenset(universe.plan.pairs)
        self._old = frozenset(universe.plan.old)
        self._pinned: dict[int, list[int]] = {number: [] for number in universe.sites}  # whom each has ever trusted
        for one, other in universe.plan.pairs:
            self._pinned[one].append(other)
            self._pinned[other].append(one)
        self.ended: dict[Pair, float] = {}
        self.doubtful: set[Pair] = set()
        self.enders: dict[Pair, set[int]] = {}  # who has withdrawn it
        self.touched: set[Pair] = set()  # pairs whose trust was ever withdrawn
        self.since: dict[Pair, float] = {}  # when trust that had ended began again
        self.changed: dict[tuple[int, int], float] = {}  # when a bond was last changed

    def found(self) -> None:
        """Before the first life: every pair of the plan trusts each other."""
        sites = self.universe.sites
        known: dict[int, list[PeerRow]] = {number: [] for number in sites}
        for one, other in self.universe.plan.pairs:
            known[one].append(self._row(sites[one], sites[other]))
            known[other].append(self._row(sites[other], sites[one]))
        for number, rows in known.items():
            sites[number].write(lambda tx, rows=rows: [peers.add(tx, row) for row in rows])  # type: ignore[misc]

    def _row(self, here: Site, other: Site) -> PeerRow:
        """What `here` has on record of `other`: with an address when it can reach it."""
        bond = self.bond(here.number, other.number)
        where = Addresses(typed=Address(other.name, PORT, CLIENT_PORT)) if here.dials(other) else Addresses()
        return PeerRow(
            other.id, PeerState.TRUSTED, other.name, other.given.authority.certificate_pem, bond.priority, where,
            bond.agreement, "", "", 0, 0, 0,
        )  # fmt: skip

    def bond(self, here: int, peer: int) -> Bond:
        """What an operator has set for a peer."""
        return self.bonds.get((here, peer), Bond())

    def trusted(self, one: int, other: int) -> bool:
        """Whether the two trust each other, for all that is known."""
        pair = (min(one, other), max(one, other))
        return pair in self._pairs and pair not in self.ended and self._old.isdisjoint(pair)

    def peers(self, number: int) -> list[int]:
        """Servers that this one has ever trusted, by the plan."""
        return self._pinned[number]

    def together(self) -> list[Pair]:
        """Pairs that trust each other."""
        return [pair for pair in self.universe.plan.pairs if pair not in self.doubtful and self.trusted(*pair)]

    def apart(self, since: float = 0.0) -> list[Pair]:
        """Pairs that trust each other and are not connected, although both servers run for so long."""
        return [pair for pair in self.together() if not self.up(*pair) and self._run(pair, since)]

    def _run(self, pair: Pair, seconds: float) -> bool:
        if not seconds:
            return True
        if self.universe.now - self.since.get(pair, 0.0) <= seconds:
            return False
        servers = [self.universe.sites[number].peers for number in pair]
        return all(server is not None and self.universe.now - server.since > seconds for server in servers)

    def lenders(self, owner: Site, spec: JobSpec, project: str, plenty: bool = False) -> list[Site]:
        """Servers whose workers may run such a job of `owner`: by some way on which each server lends so far, and for that.
        `plenty`: only by ways without limits that other jobs could use up."""
        sites = self.universe.sites
        near = {one: [other for other in self.peers(one) if self.trusted(one, other)] for one in sites}
        work = Work(spec.need.cores, spec.executable, project, plenty)
        reach = Reach(owner.number, near, lambda here, peer: self.bond(here, peer).agreement, work)
        return [sites[number] for number in sorted(reach.homes())]

    def up(self, one: int, other: int) -> bool:
        """Whether the two are connected, as both see it."""
        ends = [(self.universe.sites[a], self.universe.sites[b]) for a, b in ((one, other), (other, one))]
        return all(here.peers is not None and here.peers.is_up(there) for here, there in ends)

    def trouble(self) -> str:
        """Why pairs that trust each other are not connected, as the servers tell it."""
        found = []
        for pair in self.apart():
            for one, other in (pair, pair[::-1]):
                here, there = self.universe.sites[one], self.universe.sites[other]
                words = here.peers.federation.links.trouble(there.id) if here.peers is not None else "does not run"
                found.append(f"{here.name} to {there.name}: {words or 'nothing'}")
        return "; ".join(found)
