"""What may be used of the workers that are lent by one way: what our operator accepts, and what the servers on the way let pass.

It is looked at anew for each question and each report, so that what somebody sets holds from the next one on, for workers that
are here already, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cpc.core.peer import Bound, Limits
from cpc.core.resources import Amounts
from cpc.queue import terms
from cpc.queue.session import Session
from cpc.server.federation.borrowed import offered_by
from cpc.server.federation.register import Register
from cpc.server.federation.ways import Ways
from cpc.server.joining import MOST_AHEAD
from cpc.server.queue import Queue
from cpc.store import projects
from cpc.store.transaction import Tx
from cpc.wire.peer_messages import Offer


@dataclass(slots=True)
class Agreed:
    """For one round of the queue. `limits`, but for cores: these are in `left`, for all workers of the round together; None:
    there is no limit."""

    limits: Limits
    projects: frozenset[int] | None
    left: int | None

    def take(self, free: Amounts) -> Amounts:
        """Of what is free at a worker, what may be used; others may use so much less."""
        if self.limits.off:
            return Amounts()
        if self.left is None:
            return free
        found = terms.at_most(free, self.left)
        self.left -= found.cores
        return found

    def ahead(self, most: int) -> int:
        """How many jobs a worker may have beyond its room. It begins them whenever there is room, so they cannot be kept below a
        limit."""
        return 0 if self.limits.off or self.left is not None else max(0, min(most, MOST_AHEAD))


class Agreements:
    """What is agreed now, by way."""

    def __init__(self, queue: Queue, ways: Ways, register: Register) -> None:
        self._queue = queue
        self._ways = ways
        self._register = register

    def limits(
        self, tx: Tx, back: tuple[str, ...], bounds: Sequence[Bound]
    ) -> tuple[Limits, frozenset[int] | None]:  # fmt: skip
        """For workers that are lent by this way, from here to their home, with what servers on it have said; and for which of
        our projects, None: for all."""
        limits = terms.within(self._ways.agreement(back[1]).accepted, bounds)
        if limits.projects is None:
            return limits, None
        rows = [projects.by_name(tx, name) for name in limits.projects]
        return limits, frozenset(row.id for row in rows if row is not None)

    def now(self, tx: Tx, back: tuple[str, ...], bounds: Sequence[Bound]) -> Agreed:
        """The same for a round, with the cores that are left."""
        limits, allowed = self.limits(tx, back, bounds)
        left = [] if limits.cores is None else [limits.cores - self._used(back[0], back[1])]
        for each in bounds:
            before = len(back) - 1 - each.place
            if each.cores is not None and before > 0:
                left.append(each.cores - self._used(back[before - 1], back[before]))
        return Agreed(limits, allowed, max(0, min(left)) if left else None)

    def _used(self, one: str, other: str) -> int:
        """Cores of workers that are lent by a way on which these two follow each other, seen from here."""
        index, step = self._queue.index, (one, other)
        return sum(index.cores(worker) for worker in index.holders() if step in pairwise(self._way_to(worker)))

    def _way_to(self, worker: int) -> tuple[str, ...]:
        """Empty for one of ours. Of one that has come in this batch only its session tells; one without has been here before."""
        session = self._queue.index.of_worker(worker)
        return session.back if session is not None else self._register.way_to(worker)

    def follow(self, session: Session, agreed: Agreed, offer: Offer | None = None) -> None:
        """A borrowed worker is used for what is agreed now; with an offer, of what that has."""
        offered = offered_by(offer) if offer is not None else session.offered
        profile = terms.restricted(offered, agreed.limits) if offered is not None else session.profile
        if profile != session.profile or agreed.projects != session.projects or offered != session.offered:
            self._queue.index.change(session, offered=offered, profile=profile, projects=agreed.projects)
