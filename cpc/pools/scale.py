"""What to ask pools for, what to cancel, and who may go.

Nothing is asked for that no waiting job fits, and nothing beyond the limits; what nothing waits for any more is cancelled
before it starts, and leaves after it has been idle. docs/design/autoscaler.md says why it is done this way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cpc.core.resources import show_span
from cpc.pools import fit, learning, why
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import HOUR, Decision, Demand, Learned, NodeRecord, Pool, Stop, Worker
from cpc.pools.room import Room
from cpc.pools.survey import BELIEVED, LATE, STUCK, Survey
from cpc.queue import requirement

#: Seconds for which something may be of no use before it is given up: what waits can change its mind within them.
SETTLE = 60.0
#: Where something else waits for the room that an idle worker takes, it leaves so soon.
MAKE_ROOM = 30.0
#: After so long, one that is to end is cancelled (once more), and one whose workers are all gone is.
END_WITHIN = 600.0
#: When to look again at a limit that ends by the hour.
LOOK = 600.0


def decide(
    now: float,
    pools: Sequence[Pool],
    demand: Sequence[Demand],
    allocations: Iterable[Allocation],
    workers: Sequence[Worker] = (),
    nodes: Iterable[NodeRecord] = (),
    learned: Mapping[int, Learned] | None = None,
) -> Decision:
    """What should happen now.

    `allocations`: at least all that have not ended. `workers`: all that are joined, also those that nobody asked a pool
    for. `learned` by number of pool. Called again whenever one of them has changed (a few times a second at most), and at
    `Decision.again_at`; what it asked for must be among `allocations` by then.
    """
    return concluded(Survey(now, pools, demand, allocations, workers, nodes, learned or {}))


def concluded(survey: Survey) -> Decision:
    """The decision that follows from a survey."""
    stops = _Stops(survey)
    return Decision(
        asks=tuple(survey.asks),
        cancels=tuple(stops.cancels),
        leaves=tuple(stops.leaves),
        overdue=tuple(stops.overdue),
        notes=why.notes(survey),
        needed=frozenset(survey.needed),
        again_at=min((when for when in (*stops.times, *survey.times) if when > survey.now), default=0.0),
    )


class _Stops:
    """What ends, and when something could change without anything happening."""

    def __init__(self, survey: Survey) -> None:
        self.cancels: list[Stop] = []
        self.leaves: list[Stop] = []
        self.overdue: list[Stop] = []
        self.times: list[float] = []
        self._survey = survey
        self._now = survey.now
        of: dict[str, list[Worker]] = defaultdict(list)
        for worker in survey.workers:
            of[worker.token].append(worker)
            if worker.idle_since:
                self.times.append(worker.idle_since + BELIEVED)
        self._last = self._last_idle(of)
        for one in survey.allocations:
            room = survey.rooms.get(one.pool)
            if one.probe is not None and one.state not in (State.LEAVING, State.ORPHANED):
                self._probe(one)
            elif room is not None and one.state.pending:
                self._pending(one, room)
            elif room is not None and one.state is State.RUNNING:
                self._running(one, room, of[one.token])
            else:
                self._rest(one)
        for room in survey.rooms.values():
            self._too_many(room)
            if room.backs_off is not None:
                self.times.append(room.backs_off.until)
        self.times += [self._now + STUCK - served.demand.waited for served in survey.served]
        if any(
            denial.kind == "budget" for served in survey.served for each in served.denials.values() for denial in each
        ):
            self.times.append(self._now + LOOK)

    def _last_idle(self, of: Mapping[str, list[Worker]]) -> dict[int, str]:
        """Of each pool with idle workers, the allocation that is to stay longest: the one that was busy last."""
        found: dict[int, tuple[float, str]] = {}
        for one in self._survey.allocations:
            workers = of.get(one.token, [])
            if one.state is State.RUNNING and one.used and workers and all(worker.idle_since for worker in workers):
                mine = (max(worker.idle_since for worker in workers), one.token)
                found[one.pool] = max(found.get(one.pool, mine), mine)
        return {pool: token for pool, (_, token) in found.items()}

    def _probe(self, one: Allocation) -> None:
        """One that only looks is there for as long as somebody asks what it has found."""
        unneeded = max(one.needed_at, one.asked_at) + SETTLE
        if unneeded <= self._now:
            self._cancel(one, "nobody waits any more for what it finds")
        self.times.append(unneeded)

    def _pending(self, one: Allocation, room: Room) -> None:
        if room.pool.paused is not None:
            self._cancel(one, "its pool is paused")
            return
        late = one.asked_at + 2 * learning.usual_wait(room.learned) + LATE
        self.times.append(late)
        if one.token in self._survey.needed:
            return
        unneeded = max(one.needed_at, one.asked_at) + SETTLE
        if unneeded <= self._now or self._in_the_way(one, ("backlog", "allocations", "cores", "budget")):
            self._cancel(one, "nothing waits for it any more")
        self.times.append(unneeded)

    def _running(self, one: Allocation, room: Room, workers: list[Worker]) -> None:
        # A worker that was there before its new run was seen has said hello to the old one.
        if not one.joined and not workers:
            self._over(one, one.started_at + learning.JOIN_WITHIN, "no worker of it has joined", Reason.UNJOINED)
            return
        if room.trying:
            self.times.append(one.started_at + learning.BRIEF)  # it proves that the pool works again
        if one.joined < fit.workers(room.pool, one.nodes):
            self.times.append(one.started_at + learning.JOIN_WITHIN)
        if not workers:
            since = one.alone_at or one.joined_at
            self._over(one, since + END_WITHIN, "its workers are gone, and it has not ended", Reason.LEFT)
            return
        if not all(worker.idle_since for worker in workers):
            return
        since = max(worker.idle_since for worker in workers)
        keep = learning.patience(room.pool, room.learned)
        if not one.used:
            keep = min(keep, room.pool.idle_least)
        elif one.token != self._last.get(one.pool):
            keep = max(min(keep, room.pool.idle_least), keep * learning.share(one.token))
        words = f"it has had nothing to do for {show_span(self._now - since)}"
        if one.token not in self._survey.busy and self._in_the_way(one, ("allocations", "cores", "budget")):
            keep = min(keep, MAKE_ROOM)
            words += ", and what waits needs its room"
        if since + keep <= self._now:
            useless = not one.used and any(self._should_fit(worker) for worker in workers)
            reason = Reason.USELESS if useless else Reason.LEFT
            self.leaves.append(Stop(token=one.token, why=words, reason=reason))
        self.times.append(since + keep)

    def _should_fit(self, worker: Worker) -> bool:
        """Whether something has waited for a while that an idle worker could have had."""
        who = requirement.profile(worker.programs, worker.labels, worker.total)
        left = worker.deadline - self._now if worker.deadline else fit.ENOUGH
        return any(
            demand.waited >= MAKE_ROOM
            and worker.project in (0, demand.project)
            and fit.could(demand.requirement, who)
            and fit.in_time(demand.exact, left)
            and worker.free.covers(demand.exact.need)
            for demand in (served.demand for served in self._survey.served)
        )

    def _in_the_way(self, one: Allocation, limits: tuple[str, ...]) -> bool:
        """Whether something waits in vain for a limit that it counts against."""
        return any(
            pool == one.pool and (limit in limits or (limit == "project" and project == one.project))
            for pool, limit, project in self._survey.full
        )

    def _rest(self, one: Allocation) -> None:
        """Those that are to end, and those of pools that are no more or cannot be used."""
        if one.state in (State.LEAVING, State.ORPHANED):
            self._over(one, one.leaving_at + END_WITHIN, "it should have ended by now", one.reason)
        elif one.pool in self._survey.held:
            return  # nobody can tell how it is: its workers go by themselves when they have nothing to do
        elif one.state.pending:
            self._cancel(one, "its pool is no more")
        else:
            self.leaves.append(Stop(token=one.token, why="its pool is no more", reason=Reason.LEFT))

    def _over(self, one: Allocation, when: float, words: str, reason: Reason) -> None:
        if when <= self._now:
            self.overdue.append(Stop(token=one.token, why=words, reason=reason))
        self.times.append(when)

    def _cancel(self, one: Allocation, words: str) -> None:
        self.cancels.append(Stop(token=one.token, why=words))

    def _too_many(self, room: Room) -> None:
        """Limits that were lowered, or overrun by restarts of the batch system: what waits goes, the latest first."""
        pool, going = room.pool, {stop.token for stop in self.cancels}
        stay = [one for one in room.allocations if one.token not in going]
        for one in sorted(stay, key=lambda one: (-one.asked_at, one.token)):
            words = _excess(pool, room.learned, stay, one, self._now)
            if words and one.state.pending:
                stay.remove(one)
                self._cancel(one, words)


def _excess(pool: Pool, learned: Learned, stay: list[Allocation], one: Allocation, now: float) -> str:
    """Which limit is exceeded by those that stay, if it is one that `one` counts against."""
    if pool.max_allocations and len(stay) > pool.max_allocations:
        return f"at most {pool.max_allocations} allocations are allowed"
    if pool.max_cores and sum(each.cores for each in stay) > pool.max_cores:
        return f"at most {pool.max_cores} cores are allowed"
    most = pool.limit(one.project) if one.project else 0
    if most and sum(each.cores for each in stay if each.project == one.project) > most:
        return f"at most {most} cores are allowed for its project"
    if pool.budget and learning.charge(learned, stay, now, least=True) > pool.budget * HOUR:
        return f"the budget is {pool.budget:.0f} core-hours in 24 h"
    return ""
