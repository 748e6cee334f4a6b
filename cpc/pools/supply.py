"""Workers that are there or to come, as room for jobs that wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.pools import fit
from cpc.pools.facts import Demand
from cpc.queue.requirement import Profile, Size


@dataclass(slots=True)
class Seat:
    """One worker's room. `left`: seconds of its own time; `worth`: seconds of work that it should be given; `jobs`: at most.

    `asked_for` as in Allocation; `kept`: a job of that size waits, and has the first claim (cpc.queue.match).
    """

    profile: Profile
    free: Amounts
    left: float
    worth: float
    pool: int = 0
    token: str = ""
    project: int = 0
    jobs: int = fit.ENOUGH
    any_program: bool = False  # nobody knows what it has
    asked_for: Size | None = None
    kept: bool = False

    def take(self, demand: Demand, count: int) -> int:
        """How many of `count` jobs it is the place for; they are, from now on."""
        if demand.exact.need.cores > self.free.cores or not self.jobs or count <= 0 or not self._suits(demand):
            return 0
        at_a_time = min(fit.how_many(self.free, demand.exact.need), self.jobs)
        if not at_a_time:
            return 0
        rounds = one_after_another(self.worth, demand)
        taken = min(count, at_a_time * rounds, self.jobs)
        side_by_side = -(-taken // rounds)
        self.free -= _times(demand.exact.need, side_by_side)
        self.jobs -= taken
        return taken

    def keep(self, demand: Demand) -> bool:
        """Keep it for a job of the size that it was asked for, if it is the place for one; whether it is from now on."""
        if self.kept or not self.jobs or not self.free.covers(demand.exact.need) or not self._suits(demand):
            return False
        self.kept = True
        return True

    def _suits(self, demand: Demand) -> bool:
        if self.project not in (0, demand.project) or not fit.in_time(demand.exact, self.left):
            return False
        return fit.could(demand.requirement, self.profile) or (
            self.any_program and all(kind == "executable" for kind, _ in fit.misses(demand.requirement, self.profile))
        )


@dataclass(slots=True)
class Flow:
    """A worker that is busy now and goes on with what waits: `used` seconds of its time are spoken for."""

    profile: Profile
    total: Amounts
    left: float
    project: int = 0
    used: float = 0.0

    def take(self, demand: Demand, count: int, within: float) -> int:
        """How many of `count` jobs it can do within so many seconds; whole rounds only: who knows when the first begins."""
        if count <= 0 or self.project not in (0, demand.project):
            return 0
        rounds = int((min(within, self.left) - self.used) / demand.takes)
        if rounds <= 0 or not fit.in_time(demand.exact, self.left) or not fit.could(demand.requirement, self.profile):
            return 0
        at_a_time = fit.how_many(self.total, demand.exact.need)
        taken = min(count, at_a_time * rounds)
        if taken:
            self.used += -(-taken // at_a_time) * demand.takes
        return taken


def one_after_another(worth: float, demand: Demand) -> int:
    """How many jobs of a class one slot should be given, so that a worker is worth its start."""
    return max(1, int(worth / demand.takes)) if demand.takes > 0 else 1


def fill(seats: Iterable[Seat], demand: Demand, count: int, used: set[str] | None = None) -> int:
    """How many of `count` jobs the seats are the place for; `used` gets the tokens of those that are."""
    left = count
    for seat in seats:
        if left <= 0:
            break
        taken = seat.take(demand, left)
        left -= taken
        if taken and used is not None:
            used.add(seat.token)
    return count - left


def _times(need: Amounts, count: int) -> Amounts:
    other = {name: amount * count for name, amount in need.other.items()}
    return Amounts(cores=need.cores * count, gpus=need.gpus * count, memory=need.memory * count, other=other)
