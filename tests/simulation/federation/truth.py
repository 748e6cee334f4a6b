"""What must hold for a network of servers as a whole; see `tests.simulation.oracle` for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from cpc.core.lease import Lease
from cpc.queue import terms
from cpc.wire.messages import Task
from tests.simulation.federation import memory
from tests.simulation.federation.idle import Idle, Room
from tests.simulation.federation.limits import Terms
from tests.simulation.federation.order import Order
from tests.simulation.federation.shares import FairShares
from tests.simulation.versions import Release

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe
    from tests.simulation.link import Link
    from tests.simulation.workers import Worker

LINK_TIME = 180.0  # seconds after the last fault in which all that trust each other are connected
REMEMBER_EVERY = 60.0  # seconds between looks at what is remembered
REMEMBERING = 10  # servers that are looked at then, of many one after the other
REST = 300.0  # seconds in which that is forgotten, when nothing is left to be done
SOON = 5.0  # seconds in which what one server has on record has come about at others, when all is well
HEARD = 120.0  # seconds in which two servers that run and can reach each other have met
RULES = (
    "a way of trust", "terms", "own work first", "priority", "priority in between", "fair shares", "room is filled",
    "idle workers get work", "withdrawn is gone", "trusted are connected", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class Loan:
    """A job that was given to a worker of another server: `route` are the numbers of the servers from home to owner."""

    lease: Lease  # the owner's
    worker: str
    route: tuple[int, ...]
    at: float


class WideTruth:
    """`check` every few seconds, `verdict` when all has settled."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.wrong, self.decided = universe.wrong, universe.decided
        self.loans: dict[tuple[int, Lease], Loan] = {}  # (owner's number, its lease) → who has it
        self._healed: float | None = None
        self._terms = Terms(universe, self.loans)
        self._order = Order(universe)
        self._shares = FairShares(universe, self._order)
        self._room = Room(universe, self._order)
        self._idle = Idle(universe)
        self._remembered = -1e9
        self._next = 0  # the server whose memory is looked at next
        self._restless = 1  # the one that had something left when this was last looked at

    # --- what is heard --------------------------------------------------------------------------------------------------

    def given(self, home: Site, worker: Worker, task: Task) -> None:
        """A worker is told to run a job, perhaps of another server."""
        lease = task.lease
        if not lease.path:
            self._order.own(home, worker)
            return
        route = (home.number, *(self.universe.by_id[server].number for server in lease.route))
        owner = self.universe.sites[route[-1]]
        key = (owner.number, lease.of_owner())
        home.story.tell(
            worker.name, f"is given {lease} of {owner.name} by {' '.join(f's{number}' for number in route)}"
        )
        before = self.loans.get(key)
        if before is not None and (before.worker, before.route) != (worker.name, route):
            self.wrong(
                f"{lease} of {owner.name} was given to {before.worker} by {before.route}, and to {worker.name} by {route}"
            )
        self.loans[key] = Loan(lease.of_owner(), worker.name, route, self.universe.now)
        self._check_route(lease, route)
        for words in self._terms.given(lease, route, task):
            self.wrong(words)
        self._order.lent(home, worker, route)

    def _check_route(self, lease: Lease, route: tuple[int, ...]) -> None:
        """No circles; every two neighbours trust each other, but for the time that it takes to hear of the end."""
        self.decided["a way of trust"] += 1
        if len(set(route)) != len(route):
            self.wrong(f"{lease} goes in a circle: {route}")
        trust = self.universe.trust
        for one, other in pairwise(route):
            pair = (min(one, other), max(one, other))
            if other not in trust.peers(one):
                self.wrong(f"{lease} went from s{one} to s{other}, who never trusted each other: {route}")
            ended = trust.ended.get(pair)
            if ended is not None and self.universe.now - ended > self.universe.plan.base.heartbeat_time:
                self.wrong(f"{lease} goes by {route}; the trust between s{one} and s{other} ended at {ended:.1f}")

    def withdrawn(self, home: Site, lease: Lease) -> bool:
        """Whether the trust along a lease's path has ended, now or not long ago, so that its result may be refused."""
        route = (home.number, *(self.universe.by_id[server].number for server in lease.route))
        trust = self.universe.trust
        return any((min(pair), max(pair)) in trust.touched for pair in pairwise(route))

    def revoked(self, here: Site, other: Site) -> None:
        """An operator is told that the trust in another server has ended."""
        if here.peers is not None and here.peers.is_up(other):
            self.wrong(f"{here.name} has revoked {other.name}, and is connected with it")

    def faults_end(self) -> None:
        """From now on nothing goes wrong."""
        self._healed = self.universe.now

    # --- at any time ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at any time."""
        if self.universe.now - self._remembered >= REMEMBER_EVERY:
            self._remembered = self.universe.now
            sites = list(self.universe.sites.values())
            self._check_memory((sites * 2)[self._next : self._next + min(REMEMBERING, len(sites))])
            self._next = (self._next + REMEMBERING) % len(sites)
        self._check_links()
        self._check_ended()
        self._shares.check()
        for words in self._room.check():
            self.wrong(words)
        if self._healed is not None:
            for words in self._idle.check():
                self.wrong(words)

    def _check_memory(self, sites: Iterable[Site]) -> None:
        """What servers keep of each other stays within its bounds."""
        for site in sites:
            if site.peers is not None:
                self.decided["memory"] += 1
                for words in memory.too_many(site.peers):
                    self.wrong(f"{site.name} remembers too much: {words}")

    def at_rest(self) -> bool:
        """Whether nothing is kept any more of what is over."""
        for site in sorted(self.universe.sites.values(), key=lambda site: site.number != self._restless):
            if self._remains(site):
                self._restless = site.number
                return False
        return True

    def _remains(self, site: Site) -> list[str]:
        """What a server keeps and should not; results that only an operator can let go it should."""
        server = site.peers
        if server is None:
            return []
        return memory.left(server, any(self._shut(site, item.lease) for item in server.custody._held.items.values()))

    def _check_links(self) -> None:
        """Whoever trusts each other and can be reached is connected soon after the last fault."""
        if self._healed is None or self.universe.now - self._healed < LINK_TIME:
            return
        self.decided["trusted are connected"] += 1
        if self.universe.trust.apart(LINK_TIME):
            self.wrong(f"not connected {LINK_TIME:.0f} s after the last fault: {self.universe.trust.trouble()}")

    def _check_ended(self) -> None:
        """Who has withdrawn the trust has no lease that goes by the other one, a heartbeat time later; nor has the other one,
        a heartbeat time after it could be told."""
        trust, patience = self.universe.trust, self.universe.plan.base.heartbeat_time
        for pair, ended in trust.ended.items():
            if self.universe.now - ended < patience:
                continue
            heard = self._heard(pair, ended, patience)
            for loan in self.loans.values():
                owner = self.universe.sites[loan.route[-1]]
                by = set(pairwise(loan.route)) | set(pairwise(loan.route[::-1]))
                knows = owner.number in trust.enders[pair] or (heard and owner.number in pair)
                if pair not in by or not knows or loan.at >= ended:
                    continue
                self.decided["withdrawn is gone"] += 1
                if self._runs(owner, loan.lease):
                    self.wrong(f"{loan.lease} goes by {loan.route}, and the trust of {pair} ended at {ended:.1f}")

    def _heard(self, pair: tuple[int, int], ended: float, patience: float) -> bool:
        """Whether both servers of a pair know that its trust has ended: a heartbeat time after they could meet."""
        span = HEARD + patience
        sites = [self.universe.sites[number] for number in pair]
        told = [site for site in sites if site.number not in self.universe.trust.enders[pair]]
        if any(site.release is Release.OLDER for site in told):
            return False  # it does not understand, and waits for `peer_grace`
        if self.universe.now - ended < span or not all(self.universe.network.undisturbed(s.name, span) for s in sites):
            return False
        for here, other in (sites, sites[::-1]):
            server = here.peers
            if server is None or self.universe.now - server.since < span or server.store.writer.away:
                return False
            if server.federation.book.trusts(other.id):
                self.wrong(f"{here.name} has not heard that the trust with {other.name} ended at {ended:.1f}")
        return True

    def _runs(self, owner: Site, lease: Lease) -> bool:
        server = owner.peers
        if server is None or server.store.writer.away or server.host.reactor.frozen:
            return False
        run = server.queue.index.running.get(lease.job)
        return run is not None and run.lease == lease

    # --- at the end -----------------------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Whether nothing is left between the servers."""
        trust = self.universe.trust
        return not trust.apart() and not trust.ended and not trust.doubtful and not self._left()

    def _left(self) -> list[str]:
        """What servers still have of each other's."""
        found = self._doubles()
        for site in self.universe.sites.values():
            server = site.peers
            if server is None and site.number not in self.universe.plan.old:
                found.append(f"{site.name} does not run")
            if server is None:
                continue
            waiting = [item for item in server.custody._held.items.values() if not self._shut(site, item.lease)]
            if waiting:
                found.append(f"{site.name} has {len(server.custody)} results in custody: {server.custody.lines()}")
            sessions = list(server.queue.index.sessions.values())
            lent = [str(lease) for session in sessions for lease in session.lent]
            if lent:
                found.append(f"{site.name} lends workers for {lent}")
            borrowed = [session.name for session in sessions if session.home]
            if borrowed:
                found.append(f"{site.name} has borrowed {borrowed}")
        return found

    def _shut(self, home: Site, lease: Lease) -> bool:
        """Whether somebody on the way to the owner lets nothing of a neighbour's pass: then an operator has to decide."""
        route = (home.number, *(self.universe.by_id[server].number for server in lease.route))
        steps = [(here, peer) for pair in pairwise(route) for here, peer in (pair, pair[::-1]) if here != home.number]
        return any(terms.withdrawn(self.universe.trust.bond(*step).agreement) for step in steps)

    def unsettled(self) -> str:
        """What is left between the servers, in words."""
        trust = self.universe.trust
        apart = f"not connected: {trust.trouble() or 'none'}; not agreed: {trust.doubtful | set(trust.ended)}"
        return f"{apart}; {'; '.join(self._left())}"

    def verdict(self) -> None:
        """What must hold when all has settled."""
        self._check_memory(self.universe.sites.values())
        end = self.universe.now + REST
        while not self.at_rest() and self.universe.now < end:
            self.universe.reactor.advance(1.0)
        for site in self.universe.sites.values():
            if words := self._remains(site):
                self.wrong(f"{site.name} keeps what is over: {words}")
        enemy = self.universe.enemy
        if enemy is not None and enemy.given:
            self.wrong(
                f"a hostile peer with which nothing is agreed was given {len(enemy.given)} things: {enemy.given[:3]}"
            )

    def _doubles(self) -> list[str]:
        """Pairs with more connections than one for messages and one for files."""
        found = []
        between: dict[frozenset[str], list[Link]] = {}
        for link in self.universe.network.links:
            between.setdefault(frozenset(link.hosts), []).append(link)
        for one, other in self.universe.trust.together():
            links = between.get(frozenset((f"s{one}", f"s{other}")), [])
            if len(links) != 2:
                found.append(f"{len(links)} connections between s{one} and s{other}: {', '.join(map(str, links))}")
        return found
