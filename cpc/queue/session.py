"""A worker that is joined now: what it has, what is free, what it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile


@dataclass(slots=True)
class Running:
    """A job under its current lease. `since` by the lease clock; `advance` is what fair share was charged."""

    lease: Lease
    array: int
    project: int
    requirement: int
    rank: int
    worker: int
    granted: Amounts
    version: str
    renewed: float
    started: int  # wall clock, µs
    checkpoint: bool = False
    failures: int = 0  # of earlier attempts
    losses: int = 0


@dataclass(slots=True)
class Session:
    """One worker between its hello and its end. `free` is `total` less what its leases were granted."""

    number: int
    worker: int
    name: str
    profile: Profile
    total: Amounts
    free: Amounts
    project: int = 0  # takes jobs of this project only; 0: of any
    cores_per_job: int = 0
    wants: bool = False
    drain: str | None = None
    deadline: float | None = None  # lease clock: when the worker's own time is over
    reserved: int = 0  # a job that is kept room for
    leases: dict[int, Lease] = field(default_factory=dict)  # job → lease

    @property
    def hungry(self) -> bool:
        """Whether it can be given a job at all."""
        return self.wants and self.drain is None and self.free.cores > 0
