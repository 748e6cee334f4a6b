"""Jobs under way, and the workers that have them."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpc.core.resources import Amounts
from cpc.queue.requirement import Requirement, Size, grid
from tests.simulation.pools.batch import Entry
from tests.simulation.pools.trace import Job


@dataclass(slots=True)
class Task:
    """A job and what has become of it. `left`: seconds of its run that are still to be done; `kind`: (project, class)."""

    job: Job
    number: int
    left: float
    kind: tuple[int, Requirement] = field(init=False)
    began: float = 0.0  # the first time
    ended: float = 0.0
    tries: int = 0

    def __post_init__(self) -> None:
        job = self.job
        self.kind = job.project, Requirement(job.program, "", (), job.cores, job.gpus, 0, (), grid(job.walltime))


@dataclass(slots=True)
class Hand:
    """A worker. `runs`: task → when it began."""

    number: int
    token: str
    entry: Entry
    node: str
    total: Amounts
    free: int
    gpus: int
    deadline: float
    project: int
    one_job: bool
    asked_for: Size | None
    idle_since: float
    runs: dict[int, float] = field(default_factory=dict)
    used: bool = False
    draining: bool = False
    bad: bool = False
    gone: bool = False
