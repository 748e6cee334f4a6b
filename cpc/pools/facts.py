"""What the decisions about pools are made from, and what they are.

Amounts of time are seconds. Points in time are seconds of one clock, the caller's: it must go on over a restart and not go
back (the server's: the wall clock at its start, and from there the monotonic one). 0 as a point in time means "not yet".
"""

from __future__ import annotations

import msgspec

from cpc.core.resources import Amounts
from cpc.pools.allocation import Allocation, Probe, Reason
from cpc.queue.match import Exact
from cpc.queue.requirement import Requirement, Size

HOUR = 3600.0
DAY = 24 * HOUR
#: How long jobs have run is looked at again after so many seconds.
LOOK = 30.0

__all__ = [
    "Allocation",
    "Ask",
    "Decision",
    "Demand",
    "Learned",
    "NodeRecord",
    "Note",
    "Pool",
    "Reason",
    "Setback",
    "Stop",
    "Worker",
]

#: Platforms with one worker on each node; with any other, one worker has the nodes of the allocation together.
PER_NODE = frozenset({"smp"})


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch system or cloud that may be asked for workers, as a person has set it up.

    One allocation is `nodes` nodes with `each` (per node) for `walltime`. Limits of 0 do not limit. `budget`: core-hours
    that its allocations may use within any 24 hours. `backlog`: allocations that may wait in the batch system at once.
    `programs` are (name, version); what its workers say counts more, from the first that joins; None: nobody knows until then.
    """

    number: int
    name: str
    scheduler: str
    queue: str = ""  # or partition
    account: str = ""
    options: tuple[str, ...] = ()  # handed to the batch system as they are
    nodes: int = 1
    each: Amounts = Amounts(cores=1)  # memory 0: not known; taken to be enough until a worker has said what it has
    walltime: float = 4 * HOUR
    margin: float = 120.0  # so long before its walltime is over do its workers leave
    max_allocations: int = 10
    max_cores: int = 0
    budget: float = 0.0
    idle: float = 900.0  # after which a worker without a job leaves, at most
    idle_least: float = 60.0  # and at least, however soon another one could be had
    backlog: int = 10
    labels: tuple[str, ...] = ()
    programs: tuple[tuple[str, str], ...] | None = None
    projects: dict[int, int] = {}  # most cores at once for one project
    project_cores: int = 0  # the same for every project that is not named
    shared_files: bool = False
    platform: str = "smp"
    prologue: str = ""  # shell lines before the worker
    environment: dict[str, str] = {}
    wrap: str = ""  # a command that the worker is started with
    direct: bool = False  # one job for each allocation, which is as large and as long as the job asks for
    paused: str | None = None  # why
    price: float = 0.0  # per core-hour, in whatever unit all pools share
    known_nodes: int = 0  # how many nodes there are to be had; 0: not known
    node_cores: int = (
        0  # of the largest node, where allocations have nodes whole; 0: they do not, or that was not seen yet
    )

    @property
    def bound(self) -> bool:
        """Whether each allocation works for one project only, because there are limits for projects."""
        return bool(self.projects) or self.project_cores > 0

    def limit(self, project: int) -> int:
        """The most cores at once for the project; 0: no limit."""
        return self.projects.get(project, self.project_cores)


class Setback(msgspec.Struct, frozen=True, array_like=True):
    """Something that went wrong `count` times in a row, the last time at `at`; `words` are the batch system's own."""

    count: int = 0
    at: float = 0.0
    words: str = ""


class Learned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What experience says about a pool; kept by the server, changed by cpc.pools.learning alone."""

    refused: Setback = Setback()  # it said no, or nothing
    brief: Setback = Setback()  # an allocation ended at once, or none of its workers joined or had a job
    waits: tuple[float, ...] = ()  # from asking to running, of the last ones
    joins: tuple[float, ...] = ()  # from running to the first worker's hello, of the last ones
    spent: tuple[tuple[int, float], ...] = ()  # (hour, core-seconds) of what has ended, of the last day
    programs: tuple[tuple[str, str], ...] | None = None  # None: no worker has joined yet
    programs_at: float = 0.0
    each: Amounts | None = None  # what the last worker that joined had in all


class Worker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker that is joined. `token`: of its allocation; "" for one that somebody started by hand.

    `idle_since`: since when it has no job; 0: it has some. `deadline`: when its own time is over; 0: never.
    """

    number: int
    token: str = ""
    total: Amounts
    free: Amounts
    programs: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    project: int = 0
    idle_since: float = 0.0
    used: bool = False  # it has had a job
    draining: bool = False
    deadline: float = 0.0
    node: str = ""


class Demand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Jobs of one project and class that wait and could run now. `exact`: what the first of them really needs.

    `seconds`: how long such jobs take, as those that have ended did; 0: none has. `before`: the same of jobs that were submitted
    earlier. `rank` as in the queue: the lowest goes first, and then the project with the lowest `standing` (cpc.queue.share).
    `waited`: of the one that has waited longest. `running`: how many more of them run; the one that has run longest has for
    `longest` seconds, half of them have for `half`.
    """

    project: int
    requirement: Requirement
    exact: Exact
    count: int
    rank: int = 0
    standing: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    before: float = 0.0
    running: int = 0
    longest: float = 0.0
    half: float = 0.0

    @property
    def takes(self) -> float:
        """About how long the next one takes; 0: nobody knows. Where the first to end was brief, as those that fail at once are,
        most of those that run show it."""
        return max(self.seconds, self.half // LOOK * LOOK) if self.seconds else 0.0


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened on one node of a pool; changed by cpc.pools.nodes alone. `failures`: in a row."""

    pool: int
    node: str
    failures: int = 0
    failed_at: float = 0.0
    words: str = ""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a pool for one allocation. `avoid`: nodes that it must not have; `why`: for whom; the rest as in Allocation."""

    pool: int
    nodes: int
    each: Amounts
    walltime: float
    whole: int = 0
    project: int = 0
    direct: bool = False
    asked_for: Size | None = None
    avoid: tuple[str, ...] = ()
    why: str = ""
    probe: Probe | None = None


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """End an allocation: cancel one that waits, or have the workers of one that runs leave. `why` in words."""

    token: str
    why: str
    reason: Reason = Reason.CANCELLED


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth saying. `kind` is stable (cpc.pools.why.KINDS), `step`: what to do next. `pool` 0: about no one pool."""

    kind: str
    text: str
    step: str = ""
    pool: int = 0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What should happen now: Event.CANCELLED to `cancels` (not started), DISMISSED to `leaves` (they run), OVERDUE to
    `overdue`.

    `needed`: tokens of allocations without a worker that something waits for: their `needed_at` becomes now. `again_at`: when to
    decide again if nothing happens before; 0: no need.
    """

    asks: tuple[Ask, ...] = ()
    cancels: tuple[Stop, ...] = ()
    leaves: tuple[Stop, ...] = ()
    overdue: tuple[Stop, ...] = ()
    notes: tuple[Note, ...] = ()
    needed: frozenset[str] = frozenset()
    again_at: float = 0.0
