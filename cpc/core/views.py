"""What the public API shows: the answers of /api/v1, which cpcc prints and the SDK returns.

Fields may be added; none changes its meaning or leaves within /api/v1. Times are microseconds UTC since 1970, spans are
seconds, sizes bytes. Ids are strings as people see them (`57`, `57[3]`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from cpc.core.resources import Amounts


class View(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""


class ServerView(View, frozen=True):
    id: str
    name: str
    release: str
    protocol: int
    incarnation: int
    host: str
    port: int
    client_port: int
    fingerprint: str
    started: int
    heartbeat_time: float


class ServerStatus(View, frozen=True):
    """`cpcc status`: what an administrator looks at first. `warnings` are sentences with a next step."""

    server: ServerView
    workers: int
    workers_busy: int
    jobs: dict[str, int]  # by state, live and finished
    storage_used: int
    storage_free: int
    intake_paused: str
    warnings: tuple[str, ...]
    servers_connected: int = 0  # of those that this one trusts
    servers_away: int = 0
    workers_borrowed: int = 0  # those of other servers that have jobs of this one; not in `workers`


class Session(View, frozen=True):
    """Answer to a login: the token goes into `Authorization: Bearer …`."""

    token: str
    user: str
    super_user: bool
    expires: int


class UserView(View, frozen=True):
    name: str
    super_user: bool
    disabled: bool
    created: int


class MemberView(View, frozen=True):
    user: str
    role: str  # "owner", "member" or "viewer"


class ProjectView(View, frozen=True):
    """`instances` counts those of its dataflow network by state; `errors` and `warnings` are paths of the first few of them."""

    name: str
    id: str
    owner: str
    created: int
    members: tuple[MemberView, ...]
    jobs: dict[str, int]
    storage_used: int
    quota: int  # 0: none
    weight: float  # fair share
    instances: dict[str, int] = {}
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class AttemptView(View, frozen=True):
    number: int
    worker: str
    host: str
    granted: Amounts
    started: int
    ended: int | None
    outcome: str | None
    exit_code: int | None
    message: str
    wall_seconds: float
    cpu_seconds: float
    max_memory: int
    late: bool  # a success that came after its lease had ended


class JobView(View, frozen=True, kw_only=True):
    """`state` is blocked, waiting, running, succeeded, failed or cancelled.

    `wall_seconds`: what the program of its accepted (else newest) attempt ran, once that has ended and its worker has
    told it. `waits_for_room`: it was given to its worker ahead of room, and has not begun there as far as the server knows.
    """

    id: str
    project: str
    name: str
    command: str
    state: str
    priority: int
    submitted: int
    submitter: str
    started: int | None
    ended: int | None
    outcome: str | None
    exit_code: int | None
    reason: str
    attempts: int
    failures: int
    losses: int
    worker: str
    wall_seconds: float | None = None
    waits_for_room: bool = False


class JobDetail(JobView, frozen=True, kw_only=True, tag_field="kind", tag="job"):
    spec: dict[str, Any]
    history: tuple[AttemptView, ...]
    checkpoint: int | None  # when the newest checkpoint was taken
    tail: str


class ArrayView(View, frozen=True, tag_field="kind", tag="array"):
    """A submission of several jobs."""

    id: str
    project: str
    name: str
    command: str
    size: int
    jobs: dict[str, int]
    submitted: int
    submitter: str
    priority: int


class Submitted(View, frozen=True):
    """`dry_run`: nothing was stored; `warnings` say what would keep the job from running now."""

    id: str
    size: int
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


class Reason(View, frozen=True):
    """`cpcc why`: `kind` is stable, `text` is for people, `step` what to do next; the nearest miss first."""

    kind: str
    text: str
    step: str = ""


class WhyView(View, frozen=True):
    id: str
    state: str
    reasons: tuple[Reason, ...]


class FileView(View, frozen=True):
    """One output (or named file). `path` is UTF-8 with undecodable bytes as %XX in `url` and U+FFFD here."""

    path: str
    kind: str
    size: int
    digest: str  # hex
    mode: int
    target: str
    url: str


class LogView(View, frozen=True):
    """Part of a stream, from byte `offset` on; `next` is where to go on. `end`: more will not come."""

    stream: str
    offset: int
    data: str
    end: bool
    next: int = 0


class LentView(View, frozen=True):
    """What a worker runs for another server: its id, and jobs by their numbers there."""

    server: str
    jobs: tuple[str, ...]


class WorkerView(View, frozen=True):
    """`state` is idle, busy, draining, drained, silent or stepped-back; `note` says why.

    `home`: the id of the server that it is borrowed from; "" for one of this server's. `lent`: what it runs for others.
    """

    id: str
    name: str
    host: str
    bundle: str
    platform: str
    state: str
    note: str
    release: str
    total: Amounts
    free: Amounts
    programs: tuple[str, ...]
    labels: tuple[str, ...]
    project: str
    jobs: tuple[str, ...]
    joined: int
    last_heard: float  # seconds ago
    time_left: float | None
    home: str = ""
    lent: tuple[LentView, ...] = ()


class BundleView(View, frozen=True):
    name: str
    role: str  # "worker" or "client"
    user: str
    created: int
    expires: int
    revoked: bool
    used: int
    last_used: int | None


class TokenView(View, frozen=True):
    name: str
    user: str
    scope: str
    created: int
    expires: int


class EventView(View, frozen=True):
    """One line of the event log. `subject` is an id or a name; `details` depends on `kind` and `version`."""

    number: int
    time: int
    actor: str
    kind: str
    version: int
    project: str
    subject: str
    details: dict[str, Any]


class UploadView(View, frozen=True):
    """An upload under way: `received` bytes are safe; continue at that offset."""

    id: str
    size: int
    received: int
    done: bool
    digest: str


class HeartbeatView(View, frozen=True):
    """`suspended`: the worker's own server is silent, and may be so for `peer_grace`."""

    job: str
    attempt: int
    worker: str
    expires_in: float
    suspended: bool = False


class SettingView(View, frozen=True):
    name: str
    value: str
    default: str
    text: str
    restart: bool  # whether a change needs a restart


class CustodyView(View, frozen=True):
    """A result of another server's job that this server keeps, because its owner could not be reached."""

    id: str
    owner: str  # the id of that server
    job: str
    attempt: int
    worker: str
    since: int
    size: int
    trouble: str = ""  # why it is still here


class Page(View, frozen=True):
    """A part of a list. `next` goes into `?after=`; empty at the end."""

    items: tuple[Any, ...]
    next: str = ""


class ErrorView(View, frozen=True):
    code: str
    message: str
    hint: str = ""
