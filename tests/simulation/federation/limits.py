"""What each operator on the way lets be lent: nothing that is new goes beyond it, a bounded time after it was set.

By questions and by reports alike. What an owner was told before a change it may still give, until the home waits for the answer
no more, and what has come to the home reaches the worker or is taken back within a heartbeat time.

Cores are counted at the home for what it lends itself, and where the jobs belong for all else: what one owner has by way of two
neighbours, of all homes behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.peer import Agreement, Limits
from cpc.queue.lent import Lent
from cpc.queue.session import Running
from cpc.server.federation.home import TIMEOUT
from cpc.wire.messages import Task
from tests.simulation.versions import Release

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.truth import Loan
    from tests.simulation.federation.universe import Universe


class Terms:
    """`loans`: (owner's number, its lease) → who has it."""

    def __init__(self, universe: Universe, loans: Mapping[tuple[int, Lease], Loan]) -> None:
        self.universe = universe
        self._loans = loans

    def given(self, lease: Lease, route: tuple[int, ...], task: Task) -> Iterator[str]:
        """A worker of `route[0]` is given a job of `route[-1]`; what is wrong with that, in words."""
        what, sites = f"{lease} ({task.executable or 'any'}) goes by {route}", self.universe.sites
        for place, (here, peer) in enumerate(pairwise(route)):
            agreement = self._holds(here, peer)
            if agreement is None or (place and not self._said(route[place:])):
                continue
            self.universe.decided["terms"] += 1
            if agreement.lend_on < len(route) - 2 - place:
                yield f"{what}; s{here} lends {agreement.lend_on} servers beyond s{peer}"
            used = self._by(sites[route[-1]], (here, peer)) if place else self._lent(sites[here], sites[peer])
            if words := _beyond(agreement.lent, task, list(used)):
                yield f"{what}; s{here} lends s{peer} {agreement.lent}; {words}"
        before, owner = route[-2:]
        agreement = self._holds(owner, before)
        if agreement is None:
            return
        accepted, project = agreement.accepted, sites[owner].project_of(ids.array(task.lease.job))
        words = _beyond(accepted, task, list(self._by(sites[owner], (before, owner))))
        if accepted.projects is not None and project not in ("", *accepted.projects):
            words = f"it is of {project}"
        if words:
            yield f"{what}; s{owner} accepts {accepted} by s{before}; {words}"

    def _holds(self, here: int, peer: int) -> Agreement | None:
        """What a server has set for a peer; None while that may have been something else."""
        trust = self.universe.trust
        patience = TIMEOUT + self.universe.plan.base.heartbeat_time
        if self.universe.now - trust.changed.get((here, peer), -1e9) < patience:
            return None
        return trust.bond(here, peer).agreement

    def _said(self, way: tuple[int, ...]) -> bool:
        """Whether what the first of these says on reports comes to the last one: older releases do not know that."""
        return all(self.universe.sites[number].release is not Release.OLDER for number in way)

    def _lent(self, home: Site, peer: Site) -> Iterator[Lent]:
        """What workers of this home run for a peer, and for those behind it, to its knowledge."""
        server = home.peers
        for session in server.queue.index.sessions.values() if server is not None else ():
            for lease, lent in session.lent.items():
                if lease.route[0] == peer.id and not lent.ahead and not lent.over:
                    yield lent

    def _by(self, owner: Site, step: tuple[int, int]) -> Iterator[Running]:
        """What runs for this owner by ways on which these two follow each other, to its knowledge."""
        server = owner.peers
        if server is None or server.store.writer.away or server.host.reactor.frozen:
            return
        running = server.queue.index.running
        for (number, lease), loan in self._loans.items():
            run = running.get(lease.job) if number == owner.number else None
            if run is None or run.lease != lease or run.ahead or step not in pairwise(loan.route):
                continue
            place = loan.route.index(step[0])
            if step[1] == owner.number or (place and self._said(loan.route[place:])):
                yield run


def _beyond(limits: Limits, task: Task, used: list[Running] | list[Lent]) -> str:
    """What of the limits does not hold for a task that is among what is `used`; empty: all does."""
    if limits.off:
        return "it is off"
    if limits.executables is not None and task.executable not in limits.executables:
        return "it needs another one"
    if limits.cores is not None and sum(each.granted.cores for each in used) > limits.cores:
        return ", ".join(f"{each.lease} has {each.granted.cores}" for each in used)
    return ""
