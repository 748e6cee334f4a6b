"""Fakes of the services that do the work: files, jobs, results, workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred

from cpc.core import ids
from cpc.core.digest import CHUNK, Content, of_chunk
from cpc.core.errors import (
    BadInput,
    Conflict,
    NotFound,
)
from cpc.core.manifest import Entry
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec, check
from cpc.core.views import (
    ArrayView,
    AttemptView,
    FileView,
    HeartbeatView,
    JobDetail,
    JobView,
    LogView,
    Page,
    Reason,
    Submitted,
    UploadView,
    WhyView,
    WorkerView,
)
from cpc.server.http.services import Read
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from tests.helpers.fake_world import NOW, FakeCount, World, paged


class FakeFiles:
    def __init__(self, world: World) -> None:
        self.world = world
        self.parts: list[tuple[int, int]] = []
        self.gate: Deferred[None] | None = None

    async def announce(self, call: Call, project: str, content: Content) -> UploadView:
        def change() -> UploadView:
            number = f"u{len(self.world.uploads) + 1}"
            self.world.uploads[number] = (content, bytearray())
            return self.view(number)

        return self.world.once(call, Act.FILE_UPLOAD, change, project)

    def view(self, number: str) -> UploadView:
        content, data = self.world.uploads[number]
        done = content.digest in self.world.files or len(data) == content.size
        return UploadView(
            id=number, size=content.size, received=content.size if done else len(data), done=done,
            digest=content.digest.hex(),
        )  # fmt: skip

    async def part(self, who: Principal, upload: str, offset: int, data: bytes) -> UploadView:
        self.parts.append((offset, len(data)))
        if self.gate is not None:
            await self.gate
        content, stored = self.world.uploads[upload]
        if offset != len(stored):
            raise Conflict(f"go on at {len(stored)}")
        if len(data) > CHUNK or of_chunk(data) != content.chunks[offset // CHUNK]:
            raise BadInput("this is not the chunk that was announced")
        stored += data
        if len(stored) == content.size:
            self.world.files[content.digest] = bytes(stored)
        return self.view(upload)

    async def upload(self, who: Principal, upload: str) -> UploadView:
        if upload not in self.world.uploads or (not who.super_user and who.name != "alice"):
            raise NotFound(f"there is no upload {upload!r}")
        return self.view(upload)

    async def open(self, who: Principal, project: str, digest: bytes) -> tuple[int, Read]:
        self.world.admit(who, Act.FILE_READ, project)
        data = self.world.files.get(digest)
        if data is None:
            raise NotFound("the project has no such file")
        reader = FakeReader(data)
        return reader.size, reader.read

    def reader(self, content: Content) -> FakeReader:
        return FakeReader(self.world.files[content.digest])


class FakeReader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class FakeJobs:
    def __init__(self, world: World) -> None:
        self.world = world
        self.project = "villin"

    def put(self, number: str, data: JobSpec, state: str = "waiting") -> JobDetail:
        view = JobDetail(
            id=number, project=self.project, name=data.name, command=" ".join(data.argv), state=state, priority=0,
            submitted=NOW, submitter="alice", started=None, ended=None, outcome=None, exit_code=None, reason="",
            attempts=1, failures=0, losses=0, worker="", spec={"argv": list(data.argv)}, checkpoint=None, tail="",
            history=(
                AttemptView(
                    number=1, worker="w1", host="h", granted=Amounts(cores=1), started=NOW, ended=None, outcome=None,
                    exit_code=None, message="", wall_seconds=0.0, cpu_seconds=0.0, max_memory=0, late=False,
                ),
            ),
        )  # fmt: skip
        self.world.jobs[number] = view
        return view

    def put_array(self, number: str, size: int) -> ArrayView:
        view = ArrayView(
            id=number, project=self.project, name="", command="x", size=size, jobs={"waiting": size}, submitted=NOW,
            submitter="alice", priority=0,
        )  # fmt: skip
        self.world.jobs[number] = view
        return view

    def end(self, number: str) -> None:
        self.put(number, JobSpec(argv=("x",)), "succeeded")
        for waiter in self.world.waiting.pop(number, []):
            waiter.callback(None)

    def find(self, who: Principal, act: Act, id: str) -> JobDetail | ArrayView:
        ids.read(id)
        found = self.world.jobs.get(id)
        if found is None:
            raise NotFound(f"there is no job {id}, or none that you may see")
        self.world.admit(who, act, found.project)
        return found

    def _once(self, call: Call, act: Act, id: str, answer: Any) -> Any:
        return self.world.once(call, act, lambda: answer, self.find(call.who, act, id).project)

    async def submit(self, call: Call, project: str, spec: JobSpec, dry_run: bool) -> Submitted:
        def change() -> Submitted:
            check(spec)
            if dry_run:
                return Submitted(id="", size=spec.size, dry_run=True)
            number = str(100 + len(self.world.jobs))
            self.put_array(number, spec.array) if spec.array else self.put(number, spec)
            self.world.tell("job.submitted", project, number)
            return Submitted(id=number, size=spec.size)

        return self.world.once(call, Act.JOB_SUBMIT, change, project)

    async def page(
        self, who: Principal, project: str | None, *,
        states: tuple[str, ...], name: str, array: str, since: int, after: str, limit: int,
    ) -> Page:  # fmt: skip
        self.world.admit(who, Act.JOB_LIST if project is not None else Act.JOB_LIST_ALL, project)
        if array:
            ids.read(array)
        shown = JobView.__struct_fields__
        found = [
            JobView(**{field: getattr(job, field) for field in shown})
            for job in self.world.jobs.values()
            if isinstance(job, JobDetail) and (not states or job.state in states)
        ]
        return paged(found, after, limit)

    async def arrays(self, who: Principal, project: str, after: str, limit: int) -> Page:
        self.world.admit(who, Act.JOB_LIST, project)
        return paged([job for job in self.world.jobs.values() if isinstance(job, ArrayView)], after, limit)

    async def detail(self, who: Principal, id: str) -> JobDetail | ArrayView:
        return self.find(who, Act.JOB_SHOW, id)

    async def cancel(self, call: Call, id: str, reason: str) -> FakeCount:
        return self._once(call, Act.JOB_CANCEL, id, FakeCount(1))

    async def retry(self, call: Call, id: str) -> Submitted:
        return self._once(call, Act.JOB_RETRY, id, Submitted(id=id, size=1))

    async def fail_attempt(self, call: Call, id: str) -> object:
        return self._once(call, Act.JOB_FAIL_ATTEMPT, id, None)

    async def prioritise(self, call: Call, id: str, priority: int) -> object:
        return self._once(call, Act.JOB_PRIORITISE, id, None)

    async def forget(self, call: Call, id: str) -> object:
        return self._once(call, Act.JOB_FORGET, id, None)

    async def why(self, who: Principal, id: str) -> WhyView:
        self.find(who, Act.JOB_SHOW, id)
        return WhyView(id=id, state="waiting", reasons=(Reason(kind="no-worker", text="no worker is connected"),))


class FakeResults:
    def __init__(self, world: World, jobs: FakeJobs) -> None:
        self.world = world
        self.find = jobs.find

    async def wait(self, who: Principal, id: str, timeout: float) -> JobDetail | ArrayView:
        found = self.find(who, Act.JOB_SHOW, id)
        if isinstance(found, JobDetail) and found.state == "waiting" and timeout > 1:
            waiter: Deferred[None] = Deferred()
            self.world.waiting.setdefault(id, []).append(waiter)
            await waiter
        return self.world.jobs[id]

    async def outputs(self, who: Principal, id: str, attempt: int | None) -> Page:
        self.find(who, Act.JOB_OUTPUT, id)
        return Page(
            items=tuple(
                FileView(
                    path=entry.path.decode("utf-8", "replace"), kind=entry.kind,
                    size=entry.content.size if entry.content else 0,
                    digest=entry.content.digest.hex() if entry.content else "", mode=entry.mode, target="", url="",
                )
                for entry in self.world.outputs.values()
            )
        )  # fmt: skip

    async def output(self, who: Principal, id: str, path: bytes, attempt: int | None) -> Entry:
        self.find(who, Act.JOB_OUTPUT, id)
        entry = self.world.outputs.get(path)
        if entry is None:
            raise NotFound(f"job {id} has no output {path!r}")
        return entry

    async def log(self, who: Principal, id: str, stream: str, offset: int, limit: int) -> LogView:
        self.find(who, Act.JOB_OUTPUT, id)
        data = self.world.logs.get(id, b"")[offset : offset + limit]
        return LogView(
            stream=stream, offset=offset, data=data.decode("utf-8", "replace"), end=True, next=offset + len(data)
        )

    async def follow(self, who: Principal, id: str, stream: str, offset: int) -> AsyncIterator[LogView]:
        while offset < len(self.world.logs.get(id, b"")):
            part = await self.log(who, id, stream, offset, 5)
            offset = part.next
            yield part


class FakeWorkers:
    def __init__(self, world: World) -> None:
        self.world = world

    def view(self, id: str) -> WorkerView:
        if id not in ("1", "w1"):
            raise NotFound(f"there is no worker {id!r}")
        state = "draining" if "1" in self.world.drained else "idle"
        return WorkerView(
            id="1", name="w1", host="node1", bundle="default", platform="smp", state=state, note="", release="3.0",
            total=Amounts(cores=4), free=Amounts(cores=4), programs=(), labels=(), project="", jobs=(), joined=NOW,
            last_heard=1.5, time_left=None,
        )  # fmt: skip

    async def page(self, who: Principal) -> Page:
        return Page(items=(self.view("1"),))

    async def get(self, who: Principal, id: str) -> WorkerView:
        return self.view(id)

    async def drain(self, call: Call, id: str, reason: str, finish: bool) -> WorkerView:
        return self.world.once(call, Act.WORKER_DRAIN, lambda: self.view(id))

    async def resume(self, call: Call, id: str) -> WorkerView:
        return self.world.once(call, Act.WORKER_RESUME, lambda: self.view(id))

    async def heartbeats(self, who: Principal) -> Page:
        return Page(items=(HeartbeatView(job="57", attempt=1, worker="w1", expires_in=80.0),))
