"""What the public API says of pools, their allocations and nodes. Times in µs UTC, spans in seconds, sizes in bytes."""

from __future__ import annotations

import msgspec

from cpc.core.resources import Amounts
from cpc.core.views import Reason, View


class PoolSettings(View, frozen=True, omit_defaults=True):
    """What can be set of a pool; None: not given.

    Of each allocation: `nodes`, and of each node `cores`, `memory` (0: as the system gives) and `gpus`; `walltime`, and how
    long before its end workers leave (`margin`). `queue` is a partition, `options` are the batch system's own, word by word.
    Limits (0: none): `max_allocations`, `max_cores`, `budget` (core-hours within any 24 hours), `backlog` (allocations that
    wait in its queue), `project_cores` for each project and `project_limits` for those that are named. `idle`: after so long
    without a job a worker leaves. `programs` ("NAME VERSION") are what its workers have; None: learned from those that come.
    `prologue`: shell lines before the worker, `wrap`: what it is started with, `worker`: the program, `directory`: where the
    script starts, `work`: where workers keep their files, `output`: a file for what they print. `direct`: one job for each
    allocation. `price` per core-hour, in a unit that all pools share. `scheduler`: settings of the scheduler's own.

    Of a pool that is changed, `environment`, `project_limits`, `programs` and `scheduler` keep what is not named; a variable or
    a limit that is null is removed.
    """

    queue: str | None = None
    account: str | None = None
    options: tuple[str, ...] | None = None
    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None
    walltime: float | None = None
    margin: float | None = None
    max_allocations: int | None = None
    max_cores: int | None = None
    budget: float | None = None
    idle: float | None = None
    backlog: int | None = None
    labels: tuple[str, ...] | None = None
    programs: tuple[str, ...] | None = None
    project_cores: int | None = None
    project_limits: dict[str, int | None] | None = None
    shared_files: bool | None = None
    exclusive: bool | None = None
    platform: str | None = None
    prologue: str | None = None
    environment: dict[str, str | None] | None = None
    wrap: str | None = None
    direct: bool | None = None
    price: float | None = None
    worker: str | None = None
    directory: str | None = None
    work: str | None = None
    output: str | None = None
    scheduler: dict[str, str] | None = None


class CheckView(View, frozen=True):
    """One thing that was looked at: whether it is well, what was found, and what to do when it is not.

    `doubt`: it is well enough to go on with, and `hint` says what to look after.
    """

    name: str
    ok: bool
    text: str
    hint: str = ""
    doubt: bool = False


class PoolPlan(View, frozen=True):
    """What adding a pool would do: the call and the script of an allocation, and what its batch system says to it.

    `warnings`: what was looked at on the server's own machine; it keeps no pool from being added.
    """

    call: str
    script: str
    checks: tuple[CheckView, ...]
    warnings: tuple[CheckView, ...] = ()


class PoolView(View, frozen=True):
    """`state` is active, paused, backing-off or unreachable; `note` says why. Counts are of allocations that live.

    `spent`: core-hours within the last 24 hours. `wait`: how long allocations have waited lately, seconds; None: unknown.
    Prologue and environment are shown to super users only. `warnings`: what is doubtful about what was just set.
    """

    name: str
    id: str
    scheduler: str
    state: str
    note: str
    settings: PoolSettings
    waiting: int
    running: int
    leaving: int
    cores: int
    workers: int
    spent: float
    wait: float | None
    created: int
    warnings: tuple[str, ...] = ()


class AllocationView(View, frozen=True):
    """`state` is asked, unsure, submitted, waiting, running, leaving, orphaned or ended; `reason` (a closed list) and
    `words` say how it ended, or why it is to end. `native` is what the batch system calls it. `waiting`: why that has not
    started it, in its own words; `stuck`: what it waits for does not come by itself.
    """

    id: str
    pool: str
    token: str
    native: str
    state: str
    reason: str
    words: str
    why: str
    project: str
    nodes: int
    cores: int
    walltime: float
    ran_on: tuple[str, ...]
    workers: tuple[str, ...]
    restarts: int
    asked: int
    started: int | None
    ends: int | None
    ended: int | None
    waiting: str = ""
    stuck: bool = False


class PoolForgotten(View, frozen=True):
    """A pool that went though its batch system could not be asked. `left`: what may still run there, as it was last seen."""

    pool: str
    scheduler: str
    left: tuple[AllocationView, ...] = ()


class ProbeView(View, frozen=True):
    """A look at a pool from one of its nodes. `done`: nothing more will be found; `checks` are what was."""

    allocation: AllocationView
    done: bool = False
    checks: tuple[CheckView, ...] = ()


class NodeWorkerView(View, frozen=True):
    """A worker of ours on a node, and its jobs."""

    name: str
    state: str
    jobs: tuple[str, ...]


class NodeView(View, frozen=True):
    """A node of a pool's batch system. `state` is idle, mixed, busy, draining, drained, down, off, starting or unknown.

    `memory_free`: what its kernel says, −1: unknown; `memory_trend`: bytes an hour, 0 as long as it is not known.
    `excluded`: seconds for which no allocation gets it, because workers failed there: `excluded_why`.
    """

    name: str
    pool: str
    state: str
    reason: str
    reason_by: str
    cores: int
    cores_used: int
    gpus: int
    memory: int
    memory_free: int
    memory_trend: float
    queues: tuple[str, ...]
    workers: tuple[NodeWorkerView, ...]
    excluded: float = 0.0
    excluded_why: str = ""


class PoolWhyView(View, frozen=True):
    """Why a pool is asked for what it is asked for, or for nothing."""

    pool: str
    state: str
    reasons: tuple[Reason, ...]


def amounts(settings: PoolSettings, before: Amounts) -> Amounts:
    """What one node of an allocation has, with what is given changed."""
    given = {"cores": settings.cores, "memory": settings.memory, "gpus": settings.gpus}
    return msgspec.structs.replace(before, **{name: value for name, value in given.items() if value is not None})
