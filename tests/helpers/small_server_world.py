"""What the fake server knows: people, projects, jobs, files and events; jobs end when a test says so."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cpc.core.digest import CHUNK
from cpc.core.errors import NotFound
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec, fill
from cpc.core.views import (
    ArrayView,
    EventView,
    FileView,
    JobDetail,
    JobView,
    MemberView,
    ProjectView,
    SettingView,
    TokenView,
    UploadView,
    UserView,
    WorkerView,
)

API = "/api/v1"
OVER = ("succeeded", "failed", "cancelled")
NOW = 1_700_000_000_000_000


@dataclass(slots=True)
class Output:
    """What a job left at one path."""

    path: bytes
    data: bytes = b""
    kind: str = "file"
    mode: int = 0o644
    target: str = ""


@dataclass(slots=True)
class Upload:
    """A file on its way."""

    digest: str
    chunks: tuple[str, ...]
    size: int
    data: bytes = b""


@dataclass(slots=True)
class SmallWorld:
    """All state; `change` announces a new event to those who watch or wait."""

    server_id: str
    port: int = 0
    fingerprint: str = ""
    users: dict[str, UserView] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    named_tokens: dict[str, TokenView] = field(default_factory=dict)
    projects: dict[str, ProjectView] = field(default_factory=dict)
    jobs: dict[str, JobDetail] = field(default_factory=dict)
    arrays: dict[str, ArrayView] = field(default_factory=dict)
    specs: dict[str, JobSpec] = field(default_factory=dict)
    outputs: dict[str, list[Output]] = field(default_factory=dict)
    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    workers: dict[str, WorkerView] = field(default_factory=dict)
    bundles: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, SettingView] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    answers: dict[str, tuple[bytes, Any]] = field(default_factory=dict)
    events: list[EventView] = field(default_factory=list)
    forgotten: int = 0  # events up to this number are past their retention
    stopped: bool = False
    closed: bool = False
    on_submit: Any = None  # called with the new id, before the answer
    news: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.add_user("cpc-admin", "root", True)
        self.add_user("alice", "pw1", False)
        self.tokens |= {"admin-token": "cpc-admin", "alice-token": "alice"}
        self.add_project("villin", "alice")
        self.settings["heartbeat_time"] = SettingView(
            name="heartbeat_time", value="120", default="120", text="seconds between heartbeats", restart=False
        )
        self.workers["w1"] = WorkerView(
            id="9", name="w1", host="node1", bundle="lab", platform="smp", state="idle", note="", release="3.0",
            total=Amounts(cores=4), free=Amounts(cores=4), programs=("gromacs/mdrun 2022.5",), labels=(), project="",
            jobs=(), joined=NOW, last_heard=1.0, time_left=None,
        )  # fmt: skip

    def close(self) -> None:
        """Nobody waits any more."""
        with self.news:
            self.closed = True
            self.news.notify_all()

    def add_user(self, name: str, password: str, super_user: bool) -> UserView:
        """A user with a password."""
        self.users[name] = UserView(name=name, super_user=super_user, disabled=False, created=NOW)
        self.passwords[name] = password
        return self.users[name]

    def add_project(self, name: str, owner: str, quota: int = 0, weight: float = 1.0) -> ProjectView:
        """A project."""
        self.projects[name] = ProjectView(
            name=name, id=str(len(self.projects) + 1), owner=owner, created=NOW,
            members=(MemberView(user=owner, role="owner"),), jobs={}, storage_used=0, quota=quota, weight=weight,
        )  # fmt: skip
        return self.projects[name]

    def project(self, name: str) -> ProjectView:
        """A project, or NotFound."""
        if name not in self.projects:
            raise NotFound(f"there is no project {name!r}", "list them with `cpcc projects`")
        return self.projects[name]

    # --- jobs ---

    def submit(self, project: str, spec: JobSpec, user: str) -> tuple[str, int]:
        """Make the jobs of a spec."""
        number = str(57 + len(self.specs))
        self.specs[number] = spec
        names = [f"{number}[{index}]" for index in range(spec.array)] if spec.array else [number]
        command = " ".join([spec.executable, *spec.argv]).strip()
        for index, name in enumerate(names):
            values = {"index": str(index)} if spec.array else {}
            if spec.table:
                values |= dict(zip(spec.table.columns, spec.table.rows[index], strict=True))
            self.jobs[name] = JobDetail(
                id=name, project=project, name=spec.name, command=fill(command, values), state="waiting",
                priority=spec.priority, submitted=NOW, submitter=user, started=None, ended=None, outcome=None,
                exit_code=None, reason="", attempts=0, failures=0, losses=0, worker="", history=(), checkpoint=None,
                spec=msgspec.to_builtins(msgspec.structs.replace(spec, inputs=())), tail="",
            )  # fmt: skip
        if spec.array:
            self.arrays[number] = ArrayView(
                id=number, project=project, name=spec.name, command=command, size=spec.array, jobs={}, submitted=NOW,
                submitter=user, priority=spec.priority,
            )  # fmt: skip
        self.tell("job.submitted", project, number, jobs=names[:10])
        if self.on_submit is not None:
            self.on_submit(number)
        return number, len(names)

    def find(self, name: str) -> JobDetail | ArrayView:
        """A job or array as it is now."""
        if name in self.arrays:
            states: dict[str, int] = {}
            for job in self.elements(name):
                states[job.state] = states.get(job.state, 0) + 1
            return msgspec.structs.replace(self.arrays[name], jobs=states)
        if name not in self.jobs:
            raise NotFound(f"there is no job {name}", "list them with `cpcc jobs`")
        return self.jobs[name]

    def elements(self, name: str) -> list[JobDetail]:
        """The jobs of an array, or the job."""
        return [job for job in self.jobs.values() if job.id == name or job.id.startswith(f"{name}[")]

    def start(self, name: str) -> None:
        """A worker has it."""
        self.jobs[name] = msgspec.structs.replace(self.jobs[name], state="running", started=NOW, worker="w1")
        self.tell("job.started", self.jobs[name].project, name)

    def end(self, *names: str, state: str = "succeeded", exit_code: int | None = 0, reason: str = "",
            outputs: list[Output] | None = None) -> None:  # fmt: skip
        """Jobs end, told in one event."""
        for name in names:
            self.jobs[name] = msgspec.structs.replace(
                self.jobs[name], state=state, ended=NOW, exit_code=exit_code, reason=reason,
                outcome={"succeeded": "ok"}.get(state, state),
            )  # fmt: skip
            if outputs is not None:
                self.outputs[name] = outputs
        subject = names[0] if len(names) == 1 else names[0].partition("[")[0]
        self.tell(f"job.{state}", self.jobs[names[0]].project, subject, jobs=list(names))

    def tell(self, kind: str, project: str = "", subject: str = "", **details: Any) -> None:
        """A line of the event log."""
        with self.news:
            number = len(self.events) + 1
            self.events.append(
                EventView(number=number, time=NOW + number, actor="", kind=kind, version=1, project=project,
                          subject=subject, details=details)
            )  # fmt: skip
            self.news.notify_all()

    def wait(self, name: str, timeout: float) -> JobDetail | ArrayView:
        """The job when it has ended, or after `timeout`."""
        with self.news:
            self.news.wait_for(lambda: self.closed or all(job.state in OVER for job in self.elements(name)), timeout)
        return self.find(name)

    def watch(self, after: int, project: str, job: str, kind: str) -> Iterator[tuple[str, str, Any]]:
        """Events for ever."""
        while True:
            with self.news:
                self.news.wait_for(lambda seen=after: self.closed or len(self.events) > seen)  # type: ignore[misc]
                if self.closed:
                    return
                fresh = self.events[after:]
            for event in fresh:
                after = event.number
                if self._meant(event, project, job, kind):
                    yield str(event.number), event.kind, event

    @staticmethod
    def _meant(event: EventView, project: str, job: str, kind: str) -> bool:
        about = {event.subject, *event.details.get("jobs", ())}
        return (
            (not project or event.project == project)
            and (not kind or event.kind == kind)
            and (not job or any(one == job or one.startswith(f"{job}[") for one in about))
        )

    # --- outputs and files ---

    def shown_outputs(self, name: str) -> list[FileView]:
        """A job's outputs as the API lists them."""
        from urllib.parse import quote

        return [
            FileView(
                path=one.path.decode("utf-8", "replace"), kind=one.kind, size=len(one.data), mode=one.mode,
                digest=hashlib.sha256(one.data).hexdigest() if one.kind == "file" else "", target=one.target,
                url=f"{API}/jobs/{quote(name, safe='')}/outputs/{quote(one.path)}",
            )
            for one in self.outputs.get(name, ())
        ]  # fmt: skip

    def take(self, number: str, offset: int, data: bytes) -> UploadView:
        """A part of an upload: whole chunks are kept."""
        upload = self.uploads[number]
        if offset == len(upload.data):
            for place in range(0, len(data), CHUNK):
                piece = data[place : place + CHUNK]
                wanted = upload.chunks[len(upload.data) // CHUNK]
                if hashlib.sha256(piece).hexdigest() != wanted:
                    break
                upload.data += piece
        if len(upload.data) == upload.size:
            self.files[upload.digest] = upload.data
        return self.shown_upload(number)

    def shown_upload(self, number: str) -> UploadView:
        """How far it is."""
        upload = self.uploads[number]
        done = upload.digest in self.files
        received = upload.size if done else len(upload.data)
        return UploadView(id=number, size=upload.size, received=received, done=done, digest=upload.digest)


def view(job: JobDetail) -> JobView:
    """A job as lists show it."""
    return JobView(**{name: getattr(job, name) for name in JobView.__struct_fields__})
