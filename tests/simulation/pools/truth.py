"""What must hold after every event, said without the code that it is about."""

from __future__ import annotations

from cpc.pools.allocation import State
from cpc.pools.facts import DAY, HOUR, PER_NODE, Ask, Pool
from cpc.pools.learning import FIRST, LONGEST
from cpc.queue.requirement import Requirement
from tests.simulation.pools.trace import Job
from tests.simulation.pools.world import PROGRAMS, World

#: Seconds after which a class that a pool could serve has an allocation there, faults apart: the longest back-off, and a bit.
TRIED_WITHIN = LONGEST + 600.0
#: Seconds after which jobs of which none has ended are known to be long, so that what waits of them is asked for; and the time
#: for that to be decided and written down.
LONG = 300.0
SEEN_WITHIN = 120.0
#: And after which nothing is left when all is done.
GONE_WITHIN = 2 * HOUR


class Truth:
    """Called with the world after every event; raises AssertionError with the end of the story."""

    def __init__(self) -> None:
        self._decisions = 0
        self._asks = 0
        self._tried: dict[
            tuple[int, int, float, str], tuple[float, bool]
        ] = {}  # kind → (when it was last so, whether now)
        self._done_at = 0.0
        self._unasked: dict[
            tuple[int, Requirement], tuple[float, float]
        ] = {}  # kind → (since when nothing comes for it, though it could; when the first of it that runs began)

    def __call__(self, world: World) -> None:
        if world.decisions == self._decisions:
            return
        self._decisions = world.decisions
        new = world.asked[self._asks :]
        self._asks = len(world.asked)
        for _, ask in new:
            self._fits(world, ask)
        for number in {ask.pool for _, ask in new}:
            self._limits(world, world.pools[number])
        self._idle(world)
        self._stall(world)
        self._long(world)
        if world.done:
            if not self._done_at or any(batch.away for batch in world.batches.values()):
                self._done_at = world.now
            self._hold(world, world.now < self._done_at + GONE_WITHIN, "nothing is left when all is done")

    def _hold(self, world: World, good: bool, what: str) -> None:
        if not good:
            raise AssertionError("\n".join([f"{world.now:.0f}: not so: {what}", *world.story[-40:]]))

    def _limits(self, world: World, pool: Pool) -> None:
        live = [one for one in world.allocations.values() if one.pool == pool.number and one.state is not State.ENDED]
        waiting = [one for one in live if not one.started_at]
        cores = sum(one.nodes * one.each.cores for one in live)
        self._hold(world, not pool.max_allocations or len(live) <= pool.max_allocations, "allocations within the limit")
        self._hold(world, not pool.max_cores or cores <= pool.max_cores, "cores within the limit")
        self._hold(world, len(waiting) <= pool.backlog, "the backlog within its cap")
        for project in {one.project for one in live}:
            most = pool.projects.get(project, pool.project_cores)
            mine = sum(one.nodes * one.each.cores for one in live if one.project == project)
            self._hold(world, not project or not most or mine <= most, f"cores of project {project} within its limit")

    def _fits(self, world: World, ask: Ask) -> None:
        pool = world.pools[ask.pool]
        learned = world.learned[ask.pool].programs
        known = pool.programs if learned is None else learned
        good = any(fits(pool, ask, task.job, known) for task in world.before)
        self._hold(world, good, "a waiting job fits what is asked for")
        self._hold(world, pool.paused is None, "a paused pool is not asked")

    def _idle(self, world: World) -> None:
        for hand in world.hands.values():
            pool = world.pools[world.allocations[hand.token].pool]
            others = [other for other in world.hands.values() if other.token == hand.token]
            if all(other.idle_since for other in others):
                since = max(other.idle_since for other in others)
                self._hold(world, world.now - since <= pool.idle + 60, "an idle worker leaves")

    def _stall(self, world: World) -> None:
        """What a pool could serve is tried there, or somewhere."""
        waiting: set[tuple[int, int, float, str]] = set()
        for task in world.waiting.values():
            job = task.job
            kind = (job.project, job.cores, job.walltime, job.program)
            if job.hopeless or kind in waiting:
                continue
            waiting.add(kind)
            able = [pool for pool in world.pools.values() if could(pool, job)]
            tried = any(one.state.live and one.pool in {p.number for p in able} for one in world.allocations.values())
            excused = not able or any(world.batches[pool.number].away or pool.budget for pool in able)
            last, was = self._tried.get(kind, (world.now, True))
            self._tried[kind] = (world.now if was or tried or excused else last, tried or excused)
            self._hold(world, world.now - self._tried[kind][0] < TRIED_WITHIN, f"{job} is tried somewhere")
        self._tried = {kind: last for kind, last in self._tried.items() if kind in waiting}

    def _long(self, world: World) -> None:
        """Of jobs that have run for some minutes without an end nothing is held back. Looked at is what was so until now."""
        for kind, (since, began) in self._unasked.items():
            late = world.now - max(since, began + LONG)
            self._hold(world, late < SEEN_WITHIN, f"{kind} is long, and all of it is asked for")
        began_at = {kind: next(iter(began.values())) for kind, began in world.began.items() if began}
        unknown = {kind: began for kind, began in began_at.items() if kind not in world.seconds}
        unasked: dict[tuple[int, Requirement], tuple[float, float]] = {}
        for task in world.waiting.values() if unknown else ():
            began = unknown.pop(task.kind, None)
            if began is None:
                continue
            able = [pool for pool in world.pools.values() if could(pool, task.job)]
            live = [
                one for one in world.allocations.values() if one.state.live and one.pool in {p.number for p in able}
            ]
            comes = any(not one.joined and one.project in (0, task.job.project) for one in live)
            room = any(hand.free >= task.job.cores for hand in world.hands.values())
            if not comes and not room and any(self._may(world, pool, task.job) for pool in able):
                since, _ = self._unasked.get(task.kind, (world.now, began))
                unasked[task.kind] = since, began
        self._unasked = unasked

    def _may(self, world: World, pool: Pool, job: Job) -> bool:
        """Whether nothing keeps a pool from being asked for one more allocation for the job."""
        live = [one for one in world.allocations.values() if one.pool == pool.number and one.state is not State.ENDED]
        size, known = pool.nodes * pool.each.cores, world.learned[pool.number]
        limit = pool.projects.get(job.project, pool.project_cores)
        return not (
            world.batches[pool.number].away or known.refused.count or known.brief.count or pool.budget
            or (pool.max_allocations and len(live) >= pool.max_allocations)
            or (pool.max_cores and sum(one.cores for one in live) + size > pool.max_cores)
            or (limit and sum(one.cores for one in live if one.project == job.project) + size > limit)
            or sum(not one.started_at for one in live) >= pool.backlog
            or (job.program and pool.programs is None and known.programs is None)
        )  # fmt: skip


def fits(pool: Pool, ask: Ask, job: Job, programs: tuple[tuple[str, str], ...] | None) -> bool:
    """Whether the job can run in such an allocation."""
    nodes = 1 if pool.platform in PER_NODE else ask.nodes
    return (
        job.cores <= ask.each.cores * nodes
        and job.gpus <= ask.each.gpus * nodes
        and ask.project in (0, job.project)
        and (job.checkpoints or job.walltime <= ask.walltime - pool.margin)
        and (not job.program or programs is None or job.program in dict(programs))
    )


def could(pool: Pool, job: Job) -> bool:
    """Whether an allocation of the pool, as large as it may be, could run the job."""
    limit = pool.projects.get(job.project, pool.project_cores)
    if pool.paused is not None or (limit and limit < pool.nodes * pool.each.cores):
        return False
    nodes = 1 if pool.platform in PER_NODE else pool.nodes
    return (
        job.cores <= pool.each.cores * nodes
        and job.gpus <= pool.each.gpus * nodes
        and (job.checkpoints or job.walltime <= pool.walltime - pool.margin - 90)
        and (not job.program or job.program in dict(PROGRAMS))
    )


def budget_kept(world: World) -> None:
    """No pool has used more than its budget within any 24 hours."""
    for number, batch in world.batches.items():
        pool = world.pools[number]
        if not pool.budget:
            continue
        runs = [
            (begin, end, entry.ask.nodes * entry.ask.each.cores)
            for entry in batch.past
            if not entry.copy
            for begin, end in entry.runs
        ]
        for _, end, _ in runs:
            used = sum(cores * max(0.0, min(end, until) - max(end - DAY, begin)) for begin, until, cores in runs)
            assert used <= pool.budget * HOUR + 1, (
                f"{pool.name} used {used / HOUR:.0f} core-hours in 24 h; {pool.budget}"
            )


def never_flooded(world: World) -> None:
    """A batch system that takes nothing, or ends all at once, is asked less and less."""
    for number, batch in world.batches.items():
        pool = world.pools[number]
        for begin, end in (*batch.faults.refusing, *batch.faults.ending):
            count = sum(begin + FIRST <= at < end for at in batch.submitted)
            doublings = 0
            while FIRST * 2**doublings < min(end - begin, LONGEST):
                doublings += 1
            most = pool.backlog + 2 * (doublings + 2) + (end - begin) / LONGEST
            assert count <= most, f"{pool.name} was asked {count} times in {end - begin:.0f} s; at most {most:.0f}"
