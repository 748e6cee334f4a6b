"""Who serves what waits: workers that are there, allocations that are on their way, and pools that are to be asked.

Each class of waiting jobs is laid, in the order of the claim, on what there is: room that is free, workers that go on with
it soon enough, allocations that are still to start. Only what is left over is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby

from msgspec.structs import astuple

from cpc.pools import fit, learning, nodes, ramp
from cpc.pools.allocation import Allocation, State
from cpc.pools.facts import Ask, Demand, Learned, NodeRecord, Pool, Worker
from cpc.pools.room import Denial, Room
from cpc.pools.supply import Flow, Seat, fill, one_after_another
from cpc.queue import requirement
from cpc.queue.requirement import Requirement, Size

#: Free room counts for so long while jobs wait that it seems to be the place for: then something else is in the way.
BELIEVED = 120.0
#: And for so long after the first job of a class began to wait.
STUCK = 720.0
#: An allocation is late when it has waited so much longer than twice what is usual: other pools are asked as well.
LATE = 600.0
#: Pools that start within so much more than twice the soonest one's wait are as good; the cheapest of them is asked.
AS_SOON = 300.0


@dataclass(slots=True)
class Served:
    """What becomes of one class: how many of its jobs each thing is counted on for, and why pools are not asked."""

    demand: Demand
    soon: int = 0  # by workers that are there
    coming: dict[int, int] = field(default_factory=dict)  # pool → by its allocations that are still to start
    asked: dict[int, int] = field(default_factory=dict)  # pool → allocations that are asked for now
    held: int = 0  # by nothing, until it is known how long they take
    left: int = 0  # by nothing, with those
    denials: dict[int, list[Denial]] = field(default_factory=dict)  # pool → why it cannot serve it, or not now


class Survey:
    """One look at everything. `served` in the order of the claim; `asks`; `needed`: tokens that something waits for.

    `times`: when what jobs that run show of themselves is to be looked at again.
    """

    def __init__(
        self,
        now: float,
        pools: Sequence[Pool],
        demand: Sequence[Demand],
        allocations: Iterable[Allocation],
        workers: Sequence[Worker],
        records: Iterable[NodeRecord],
        learned: Mapping[int, Learned],
        held: Collection[int] = (),
    ) -> None:
        """`held`: pools that are there and cannot be used now, for whatever reason: what they have is left alone."""
        self.now = now
        self.held = frozenset(held)
        self.allocations = [one for one in allocations if one.state.live]
        self.workers = workers
        of_pool: dict[int, list[Allocation]] = defaultdict(list)
        for one in self.allocations:
            of_pool[one.pool].append(one)
        records = list(records)
        self.rooms = {
            pool.number: Room(pool, learned.get(pool.number, Learned()), of_pool[pool.number], now)
            for pool in sorted(pools, key=lambda pool: pool.number)
        }
        self.excluded = {pool.number: nodes.excluded(pool, records, now) for pool in pools}
        self.asks: list[Ask] = []
        self.needed: set[str] = set()
        self.busy: set[str] = set()  # tokens of running allocations whose free room something waits for
        self.times: list[float] = []
        self.full: set[tuple[int, str, int]] = set()  # (pool, limit, project) that something waits for in vain
        self._free: list[Seat] = []
        self._flows: list[Flow] = []
        self._starting: list[Seat] = []
        self._coming: list[Seat] = []
        self._late: dict[int, list[Seat]] = defaultdict(list)
        self._seat_workers()
        for one in sorted(self.allocations, key=lambda one: (one.asked_at, one.token)):
            self._seat_allocation(one)
        held = {d.project: sum(room.projects[d.project] for room in self.rooms.values()) for d in demand}

        def turn(one: Demand) -> tuple[object, ...]:
            return one.rank, held[one.project], one.standing, -one.waited, one.project, astuple(one.requirement)

        order = sorted(demand, key=turn)
        self._sized = self._by_size()
        self.served: list[Served] = []
        for _, group in groupby((each for each in order if each.count > 0), key=lambda d: d.rank):
            equals = list(group)
            self._keep(equals)
            self.served += [self._serve(each) for each in equals]

    def of(self, project: int, need: Requirement) -> Served | None:
        """What becomes of one class; None when nothing of it waits."""
        found = (each for each in self.served if (each.demand.project, each.demand.requirement) == (project, need))
        return next(found, None)

    def _seat_workers(self) -> None:
        pool_of = {one.token: one.pool for one in self.allocations}
        leaving = {one.token for one in self.allocations if not (one.state.pending or one.state is State.RUNNING)}
        direct = {one.token: one.asked_for for one in self.allocations if one.direct}
        for worker in self.workers:
            once = worker.token in direct
            if worker.draining or worker.token in leaving or (once and (worker.used or not worker.idle_since)):
                continue  # a worker for one job goes when it has had that
            left = worker.deadline - self.now if worker.deadline else fit.ENOUGH
            who = requirement.profile(worker.programs, worker.labels, worker.total)
            if worker.free.cores and (not worker.idle_since or self.now - worker.idle_since < BELIEVED):
                number = pool_of.get(worker.token, 0)
                worth = self.rooms[number].worth if number in self.rooms else learning.WORTH
                jobs = 1 if once else fit.ENOUGH
                self._free.append(
                    Seat(
                        who, worker.free, left, worth, number, worker.token, worker.project, jobs,
                        asked_for=direct.get(worker.token),
                    )
                )  # fmt: skip
            if not worker.idle_since:
                self._flows.append(Flow(who, worker.total, left, worker.project))

    def _seat_allocation(self, one: Allocation) -> None:
        room = self.rooms.get(one.pool)
        if room is None or one.probe is not None or not (one.state.pending or one.state is State.RUNNING):
            return
        pool, known = room.pool, room.learned
        missing = fit.workers(pool, one.nodes) - one.joined
        if one.state is State.RUNNING:
            if self.now - one.started_at >= learning.JOIN_WITHIN:
                return
            target, left = self._starting, one.ends_at - self.now - pool.margin
        else:
            late = self.now - one.asked_at >= 2 * learning.usual_wait(known) + LATE
            target = self._late[one.pool] if late else self._coming
            left = fit.span(pool, known, one.walltime)
        target += [self._seat(room, one, left) for _ in range(missing)]

    def _seat(self, room: Room, one: Allocation, left: float) -> Seat:
        pool, known = room.pool, room.learned
        total = fit.amounts(pool, known) if one.each == pool.each else fit.per_worker(pool, one.each, one.nodes)
        who = requirement.profile(fit.programs(pool, known) or (), pool.labels, total)
        unknown = fit.programs(pool, known) is None
        jobs = 1 if one.direct else fit.ENOUGH
        return Seat(who, total, left, room.worth, pool.number, one.token, one.project, jobs, unknown, one.asked_for)

    def _by_size(self) -> dict[Size, list[Seat]]:
        """Room that was asked for one job, by the size of that."""
        found: dict[Size, list[Seat]] = defaultdict(list)
        for seat in chain(self._free, self._starting, self._coming, *self._late.values()):
            if seat.asked_for is not None:
                found[seat.asked_for].append(seat)
        return found

    def _keep(self, equals: Sequence[Demand]) -> None:
        """Before classes of equal rank are served: what was asked for jobs of a size is for those of them that have it. Else a
        small one would be counted on a large allocation, and another would be asked for the large one."""
        for seat in chain(*self._sized.values()):
            seat.kept = False
        for demand in equals:
            left = demand.count
            for seat in self._sized.get(demand.requirement.size, ()):
                if left <= 0:
                    break
                left -= seat.keep(demand)

    def _in_turn(self, seats: list[Seat], demand: Demand) -> list[Seat]:
        """Those first that were asked for jobs of this size; none that is kept for jobs of another."""
        if not self._sized:
            return seats
        size = demand.requirement.size
        its_own = [seat for seat in seats if seat.asked_for == size]
        return its_own + [seat for seat in seats if not seat.kept and seat.asked_for != size]

    def _serve(self, demand: Demand) -> Served:
        found = Served(demand)
        pools = self._in_order(demand, found)
        wait = min((room.wait for room in pools), default=0.0)
        worth = pools[0].worth if pools else learning.WORTH
        left = demand.count
        # A job that has waited for long beside free room does not fit it, for a reason that is not seen here.
        if demand.waited < STUCK:
            left -= fill(self._in_turn(self._free, demand), demand, left, self.busy)
        left -= self._flow(demand, left, wait + worth / 2)
        left -= self._count(self._starting, demand, left, found)
        outstanding = left
        left -= self._count(self._coming, demand, left, found)
        left -= self._flow(demand, left, wait + worth)  # the gap: nothing is asked for and cancelled in turns
        found.soon = demand.count - left - sum(found.coming.values())
        late = {number: self._count(seats, demand, outstanding, found) for number, seats in self._late.items()}
        starved = left == demand.count
        for room in pools:
            rest = left - found.held - late.get(room.pool.number, 0)
            if rest <= 0:
                continue
            served = self._ask(room, demand, rest, starved, found)
            left -= served
            starved = starved and not served
        found.left = max(0, left - sum(late.values()))
        if found.held or demand.seconds:
            self.times.append(self.now + ramp.again(demand))
        return found

    def _flow(self, demand: Demand, count: int, within: float) -> int:
        """Lay jobs on workers that are busy, and have done with them so many seconds from now."""
        left = count
        if demand.takes <= 0 or demand.takes > within:
            return 0
        for flow in self._flows:
            if left <= 0:
                break
            left -= flow.take(demand, left, within)
        return count - left

    def _count(self, seats: list[Seat], demand: Demand, count: int, found: Served) -> int:
        """Lay jobs on allocations that are still to start."""
        left = count
        for seat in self._in_turn(seats, demand):
            if left <= 0:
                break
            taken = seat.take(demand, left)
            if taken:
                left -= taken
                if seat.token:
                    self.needed.add(seat.token)
                found.coming[seat.pool] = found.coming.get(seat.pool, 0) + taken
        return count - left

    def _in_order(self, demand: Demand, found: Served) -> list[Room]:
        """The pools that could serve the class, the one to be asked first in front."""
        able: list[Room] = []
        for room in self.rooms.values():
            lacking = fit.lacks(room.pool, room.learned, demand)
            if lacking:
                found.denials[room.pool.number] = [Denial("unfit", words) for _, words in lacking]
            else:
                able.append(room)
        if len(able) < 2:
            return able
        soonest = min(room.wait for room in able)

        def key(room: Room) -> tuple[bool, float, float, float, int]:
            wait = room.wait
            as_soon = wait <= 2 * soonest + AS_SOON
            pool = room.pool
            count, each, _ = fit.shape(pool, demand)
            jobs = fit.how_many(fit.per_worker(pool, each, count), demand.exact.need) * fit.workers(pool, count)
            cores = -(-demand.count // max(1, jobs)) * count * max(each.cores, pool.node_cores)
            return (not as_soon, 0.0 if as_soon else wait, pool.price * cores, cores, pool.number)

        return sorted(able, key=key)

    def _ask(self, room: Room, demand: Demand, count: int, starved: bool, found: Served) -> int:
        """Ask a pool for what `count` jobs need, as far as it may be asked; how many of them that serves."""
        pool = room.pool
        shape, each, walltime = fit.shape(pool, demand)
        project = demand.project if pool.bound else 0
        draft = Allocation(
            token="", pool=pool.number, state=State.ASKED, asked_at=self.now, nodes=shape, each=each, walltime=walltime,
            project=project, direct=pool.direct, asked_for=demand.requirement.size if pool.direct else None,
            whole=shape * pool.node_cores,
        )  # fmt: skip
        left = fit.span(pool, room.learned, walltime)
        people = fit.workers(pool, shape)
        sample = self._seat(room, draft, left)
        jobs = sample.take(demand, demand.count) * people
        if not jobs:
            found.denials[pool.number] = [Denial("unfit", "an allocation of it has no room for such a job")]
            return 0
        brief = one_after_another(sample.worth, demand) > 1
        wanted = max(int(starved), int(count / jobs + 0.5)) if brief else -(-count // jobs)
        if not wanted:
            return count  # too little to start a worker for: those that are there or on their way take it too
        probe = fit.unknown(pool, room.learned, demand.requirement)
        number, denial = room.most(wanted, project, draft.cores, walltime, probe)
        part = number
        if ramp.applies(room, demand):
            part = min(number, ramp.most(demand, demand.count - count, jobs, shape, room.worth))
        if part < number:
            number, denial = part, ramp.denial()
            found.held = count
            self.times += [one.asked_at + ramp.SOON + ramp.BEYOND for one in room.allocations if one.state.pending]
        elif denial is not None:
            self.full.add((pool.number, denial.kind, project))
        if denial is not None:
            found.denials[pool.number] = [denial]
        if not number:
            return 0
        room.take(number, project, draft.cores, walltime)
        found.asked[pool.number] = number
        avoid = tuple(record.node for record in self.excluded[pool.number])
        why = f"{count} job(s) that need {demand.requirement.executable or 'a command'} wait"
        self.asks += [
            Ask(
                pool=pool.number, nodes=draft.nodes, each=each, walltime=walltime, whole=draft.whole, project=project,
                direct=pool.direct, asked_for=draft.asked_for, avoid=avoid, why=why,
            )
        ] * number  # fmt: skip
        seats = [self._seat(room, draft, left) for _ in range(number * people)]
        self._coming += seats
        served = fill(seats, demand, count)
        found.held = max(0, found.held - served)
        return count if number == wanted else served
