"""A worker that is joined now: what it has, what is free, what it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.queue.lent import Lent
from cpc.queue.requirement import Profile, Size

NOTHING = Amounts()


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
    ahead: bool = False  # waits at its worker for room, as far as we know
    over: bool = False  # its program has ended, and the result is on its way


@dataclass(slots=True)
class Session:
    """One worker between its hello and its end. `free` is `total` less what its leases, and jobs of others, were granted, but for
    those in `over`, whose programs have ended: a slow way to the server leaves no core idle.

    Leases in `ahead` hold nothing yet: the worker starts them, oldest first, as soon as they fit what is free. When one
    ends, the same rule is followed here, so `free` is the worker's own, a message later.

    A worker of another server has a `home`. Its room is that server's to give: `free` and `wants` are set by each report,
    for the round that follows it only.
    """

    number: int
    worker: int
    name: str
    profile: Profile
    total: Amounts
    free: Amounts
    project: int = 0  # takes jobs of this project only; 0: of any
    asked_for: Size | None = None  # its allocation was asked for one job, of this size: it takes no more than one
    sated: bool = False  # it has had that one
    cores_per_job: int = 0
    wants: bool = False
    drain: str | None = None
    deadline: float | None = None  # lease clock: when the worker's own time is over
    reserved: int = 0  # a job that is kept room for
    leases: dict[int, Lease] = field(default_factory=dict)  # job → lease
    most_ahead: int = 0  # how many leases beyond its room the worker takes
    ahead: dict[int | Lease, Running | Lent] = field(
        default_factory=dict
    )  # job, or lease of another's → it, oldest first
    over: dict[int | Lease, Running | Lent] = field(default_factory=dict)  # the same of those whose programs have ended
    home: str = ""  # the server that it is joined at; "": this one
    way: float = 0.0  # seconds there and back, as its home has measured them
    back: tuple[str, ...] = ()  # a borrowed worker: the servers from here to its home
    offered: Profile | None = None  # a borrowed worker: all that it was offered with, whatever of that may be used
    projects: frozenset[int] | None = None  # a borrowed worker: what it may be used for; None: for any
    paths: bool = False  # it may be lent: it knows that jobs may be others'
    lent: dict[Lease, Lent] = field(default_factory=dict)  # jobs of other servers that it has
    listed: bool = False  # the index finds it among the hungry ones of its profile
    since: float = 0.0  # lease clock: when it has joined here

    def serves(self, project: int) -> bool:
        """Whether it takes jobs of the project."""
        return self.project in (0, project) and (self.projects is None or project in self.projects)

    def lets_go(self, run: Running | Lent) -> bool:
        """Whether the room of a program that has ended is given away before its result is here. Only so much that all of them
        together had no more than the worker has: else results would come to lie there faster than they can be sent."""
        return (
            not run.over
            and sum(one.granted.cores for one in self.over.values()) + run.granted.cores <= self.total.cores
        )

    @property
    def hungry(self) -> bool:
        """Whether it can be given a job that it begins at once."""
        return self.wants and self.drain is None and self.free.cores > 0 and not self.ahead and not self.sated

    @property
    def room_ahead(self) -> int:
        """How many more jobs it may be given beyond its room."""
        if not self.wants or self.drain is not None or self.reserved:
            return 0
        return self.most_ahead - len(self.ahead)

    @property
    def spare(self) -> Amounts:
        """What other servers may have of it now."""
        lendable = self.paths and not self.home and not self.project and not self.reserved
        return self.free if lendable and self.hungry else NOTHING

    @property
    def spare_ahead(self) -> int:
        """How many more jobs of other servers it may be given beyond its room."""
        return max(0, self.room_ahead) if self.paths and not self.home and not self.project else 0
