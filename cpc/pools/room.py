"""How much more a pool may be asked for: its limits, its budget, and the pauses after setbacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cpc.core.resources import show_span
from cpc.pools import learning
from cpc.pools.allocation import Allocation
from cpc.pools.facts import DAY, HOUR, Learned, Pool


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a pool is not asked for (more). `kind` as in cpc.pools.why.KINDS; `until`: when that ends by itself; 0: it does not."""

    kind: str
    words: str
    step: str = ""
    until: float = 0.0


@dataclass(slots=True)
class Room:
    """A pool with all that counts against its limits. `allocations`: those of the pool that have not ended."""

    pool: Pool
    learned: Learned
    allocations: Sequence[Allocation]
    now: float
    live: int = 0
    pending: int = 0
    probes: int = 0  # of them, those that only look
    cores: int = 0
    charged: float = 0.0  # core-seconds, against the budget
    projects: Counter[int] = field(default_factory=Counter)  # project → cores
    longest: float = 0.0  # how long one waits already
    wait: float = 0.0  # how long a new allocation is expected to wait: as usual, or as long as one waits already
    worth: float = 0.0  # seconds of work that an allocation should be given
    backs_off: Denial | None = None
    trying: bool = False  # after a setback: one at a time, until it works
    untried: int = 0  # how many have been asked for since the setback and are not proven yet

    def __post_init__(self) -> None:
        for one in self.allocations:
            self.live += 1
            self.cores += one.cores
            self.pending += not one.started_at
            self.probes += one.probe is not None
            self.projects[one.project] += one.cores
        waiting = [one for one in self.allocations if one.state.pending and one.probe is None]
        self.longest = max((self.now - one.asked_at for one in waiting), default=0.0)
        self.wait = max(learning.usual_wait(self.learned), self.longest)
        self.worth = learning.worth(self.pool, self.learned)
        if self.pool.budget:
            self.charged = learning.charge(self.learned, self.allocations, self.now)
        for until, setback, tried in learning.setbacks(self.learned, self.allocations, self.now):
            self.trying = True
            self.untried = max(self.untried, tried)
            if until > max(self.now, self.backs_off.until if self.backs_off else 0.0):
                times = "once" if setback.count == 1 else f"{setback.count} times in a row"
                words = f"it is left alone for {show_span(until - self.now)} more; it failed {times}: {setback.words}"
                step = (
                    f"see cpcc doctor {self.pool.name} --node; mend the cause, then cpcc pool resume {self.pool.name}"
                )
                self.backs_off = Denial("backing-off", words, step, until)

    def most(self, wanted: int, project: int, cores: int, walltime: float, probe: bool) -> tuple[int, Denial | None]:
        """How many of `wanted` allocations it may be asked for, and what stands in the way of the rest.

        `probe`: only one, to learn what its workers have.
        """
        pool = self.pool
        if pool.paused is not None:
            words = f"it is paused: {pool.paused}" if pool.paused else "it is paused"
            return 0, Denial("paused", words, f"cpcc pool resume {pool.name}")
        if self.backs_off is not None:
            return 0, self.backs_off
        found: tuple[int, Denial | None] = (wanted, None)
        for room, denial in self._limits(project, cores, walltime, probe):
            if room < found[0]:
                found = (max(0, room), denial)
        return found

    def full(self, cores: int, walltime: float) -> Denial | None:
        """Which limit keeps a person from asking for one more, for no project. A pause is for what is asked by itself."""
        kinds = ("backlog", "allocations", "cores", "budget")
        limits = self._limits(0, cores, walltime, False)
        return next((denial for room, denial in limits if room < 1 and denial.kind in kinds), None)

    def _limits(self, project: int, cores: int, walltime: float, probe: bool) -> list[tuple[int, Denial]]:
        pool, change = self.pool, f"cpcc pool set {self.pool.name}"
        limits: list[tuple[int, Denial]] = [
            (
                pool.backlog - self.pending,
                Denial(
                    "backlog",
                    f"at most {pool.backlog} allocations may wait in {pool.scheduler} at once",
                    f"{change} --backlog N",
                ),
            )
        ]
        if pool.max_allocations:
            words = f"at most {pool.max_allocations} allocations are allowed at once"
            limits.append(
                (pool.max_allocations - self.live, Denial("allocations", words, f"{change} --max-allocations N"))
            )
        if pool.max_cores:
            words = f"at most {pool.max_cores} cores are allowed at once; one allocation is {cores}"
            limits.append(((pool.max_cores - self.cores) // cores, Denial("cores", words, f"{change} --max-cores N")))
        if most := pool.limit(project):
            has = self.projects[project]
            words = f"at most {most} cores are allowed at once for the project; one allocation is {cores}"
            limits.append(((most - has) // cores, Denial("project", words, f"{change} --project-cores N")))
        if pool.budget:
            each = cores * min(walltime, DAY)
            left = pool.budget * HOUR - self.charged
            words = (
                f"its budget is {pool.budget:.0f} core-hours in 24 h; {self.charged / HOUR:.0f} are used or promised, and one "
                f"allocation may use {each / HOUR:.0f}"
            )
            limits.append(
                (int(left // each), Denial("budget", words, f"{change} --budget HOURS, or a shorter --walltime"))
            )
        if self.trying:
            words = "after setbacks it is asked for one allocation at a time, until one works"
            limits.append((1 - self.untried, Denial("trying", words)))
        if probe:
            words = "one allocation at a time, until a worker has said which programs it has"
            limits.append((1 - self.live + self.probes, Denial("unknown", words, f"{change} --program 'NAME VERSION'")))
        return limits

    def take(self, count: int, project: int, cores: int, walltime: float) -> None:
        """So many more are asked for, of so many cores each."""
        self.live += count
        self.pending += count
        self.untried += count
        self.cores += count * cores
        self.projects[project] += count * cores
        self.charged += count * cores * min(walltime, DAY)
