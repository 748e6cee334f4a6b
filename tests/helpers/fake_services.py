"""Services in memory, for tests of the people's door. Their signatures are checked against the Protocols."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from cpc.core import ids, names
from cpc.core.digest import CHUNK, Content, of_chunk
from cpc.core.errors import (
    BadInput,
    Conflict,
    Gone,
    NotFound,
    NotLoggedIn,
    RateLimited,
)
from cpc.core.manifest import Entry
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec, check
from cpc.core.views import (
    ArrayView,
    AttemptView,
    BundleView,
    EventView,
    FileView,
    HeartbeatView,
    JobDetail,
    JobView,
    LogView,
    MemberView,
    Page,
    ProjectView,
    Reason,
    ServerStatus,
    ServerView,
    Session,
    SettingView,
    Submitted,
    TokenView,
    UploadView,
    UserView,
    WhyView,
    WorkerView,
)
from cpc.server.http.services import Read
from cpc.server.metrics import Figures
from cpc.server.principal import Call, Principal
from cpc.server.roles import RULES, Act, Role, Who, allowed

NOW = 1_790_000_000_000_000


@dataclass(frozen=True, slots=True)
class FakeCount:
    count: int


class World:
    """What all fakes share: a clumsy server in memory. Every mutating call goes through `once`."""

    def __init__(self) -> None:
        self.users: dict[str, UserView] = {}
        self.passwords: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.token_views: dict[tuple[str, str], TokenView] = {}
        self.projects: dict[str, ProjectView] = {}
        self.answers: dict[tuple[str, str], tuple[bytes, Any]] = {}
        self.events: list[EventView] = []
        self.watchers: list[Deferred[None]] = []
        self.asked: list[tuple[str, Any]] = []
        self.files: dict[bytes, bytes] = {}
        self.uploads: dict[str, tuple[Content, bytearray]] = {}
        self.jobs: dict[str, JobDetail | ArrayView] = {}
        self.outputs: dict[bytes, Entry] = {}
        self.logs: dict[str, bytes] = {}
        self.waiting: dict[str, list[Deferred[None]]] = {}
        self.settings = {"heartbeat_time": "120"}
        self.bundles: dict[str, BundleView] = {}
        self.reasons: tuple[str, ...] = ()
        self.metrics_open = True
        self.drained: set[str] = set()
        self.failing: Exception | None = None
        for name, power in (("cpc-admin", True), ("alice", False), ("bob", False)):
            self.users[name] = UserView(name=name, super_user=power, disabled=False, created=NOW)
            self.passwords[name] = f"{name}-password"
            self.tokens[f"{name}-token"] = name

    def who(self, name: str) -> Principal:
        return Principal(user=sorted(self.users).index(name) + 1, name=name, super_user=self.users[name].super_user)

    def admit(self, who: Principal, act: Act, project: str | None = None) -> None:
        self.asked.append((act.value, project))
        if self.failing is not None:
            raise self.failing
        role = None
        if project is not None:
            view = self.projects.get(project)
            if view is None:
                raise NotFound(f"there is no project {project!r}, or none that you may see")
            role = next((Role(member.role) for member in view.members if member.user == who.name), None)
        elif RULES[act].who in (Who.VIEWER, Who.MEMBER, Who.OWNER):
            raise NotFound("no such thing")
        allowed(act, who, role)

    def once(self, call: Call, act: Act, change: Any, project: str | None = None) -> Any:
        known = self.answers.get((call.who.name, call.key)) if call.key else None
        if known is not None:
            if known[0] != call.digest:
                raise Conflict("this Idempotency-Key was used for another call")
            return known[1]
        self.admit(call.who, act, project)
        value = change()
        if call.key:
            self.answers[call.who.name, call.key] = (call.digest, value)
        return value

    def tell(self, kind: str, project: str = "", subject: str = "", **details: Any) -> None:
        number = len(self.events) + 1
        self.events.append(
            EventView(
                number=number, time=NOW + number, actor="user:alice", kind=kind, version=1, project=project,
                subject=subject, details=details,
            )
        )  # fmt: skip
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher.callback(None)


def paged(items: list[Any], after: str, limit: int) -> Page:
    if after and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise BadInput(f"{after!r} is not a cursor of this list")
    start = int(after or 0)
    more = len(items) > start + limit
    return Page(items=tuple(items[start : start + limit]), next=str(start + limit) if more else "")


class FakeAccounts:
    def __init__(self, world: World) -> None:
        self.world = world
        self.tries: Counter[str] = Counter()

    async def authenticate(self, token: str) -> Principal:
        name = self.world.tokens.get(token)
        if name is None:
            raise NotLoggedIn("this token is unknown, expired or revoked", "log in again")
        return self.world.who(name)

    async def login(self, name: str, password: str, address: str) -> Session:
        self.tries[address] += 1
        if self.tries[address] > 1000:
            raise RateLimited("too many tries", "wait a minute")
        if self.world.passwords.get(name) != password:
            raise NotLoggedIn("wrong name or password")
        return Session(token=f"{name}-token", user=name, super_user=self.world.users[name].super_user, expires=NOW * 2)

    async def logout(self, who: Principal) -> None:
        return None

    async def whoami(self, who: Principal) -> UserView:
        return self.world.users[who.name]

    async def users(self, who: Principal, after: str, limit: int) -> Page:
        self.world.admit(who, Act.USER_LIST)
        return paged(sorted(self.world.users.values(), key=lambda user: user.name), after, limit)

    async def add_user(self, call: Call, name: str, password: str, super_user: bool) -> UserView:
        def change() -> UserView:
            if names.clean(name) in self.world.users:
                raise Conflict(f"there is a user {name!r} already")
            view = UserView(name=name, super_user=super_user, disabled=False, created=NOW)
            self.world.users[name] = view
            self.world.passwords[name] = password
            return view

        return self.world.once(call, Act.USER_ADD, change)

    async def change_user(
        self, call: Call, name: str, *,
        super_user: bool | None, disabled: bool | None, password: str | None, old_password: str | None,
    ) -> UserView:  # fmt: skip
        def change() -> UserView:
            if name not in self.world.users:
                raise NotFound(f"there is no user {name!r}")
            return self.world.users[name]

        return self.world.once(call, Act.PASSWORD_CHANGE if name == call.who.name else Act.USER_CHANGE, change)

    async def delete_user(self, call: Call, name: str) -> object:
        def change() -> None:
            if name not in self.world.users:
                raise NotFound(f"there is no user {name!r}")
            if name in ("cpc-admin", "alice", "bob"):
                raise Conflict("the last super user stays")
            del self.world.users[name]

        return self.world.once(call, Act.USER_DELETE, change)

    async def tokens(self, who: Principal) -> Page:
        return Page(items=tuple(view for (user, _), view in self.world.token_views.items() if user == who.name))

    async def make_token(self, call: Call, name: str, scope: str, expires_in: float) -> tuple[str, TokenView]:
        def change() -> tuple[str, TokenView]:
            view = TokenView(name=names.clean(name), user=call.who.name, scope=scope, created=NOW, expires=NOW)
            self.world.token_views[call.who.name, name] = view
            return "secret", view

        return self.world.once(call, Act.TOKEN_MAKE, change)

    async def delete_token(self, call: Call, name: str) -> object:
        def change() -> None:
            if self.world.token_views.pop((call.who.name, name), None) is None:
                raise NotFound(f"you have no token {name!r}")

        return self.world.once(call, Act.TOKEN_DELETE, change)


class FakeProjects:
    def __init__(self, world: World) -> None:
        self.world = world

    async def page(self, who: Principal, after: str, limit: int) -> Page:
        return paged(sorted(self.world.projects.values(), key=lambda project: project.name), after, limit)

    async def create(self, call: Call, name: str, quota: int, weight: float) -> ProjectView:
        def change() -> ProjectView:
            if names.clean(name, "project") in self.world.projects:
                raise Conflict(f"there is a project {name!r} already")
            return self.put(name, {call.who.name: "owner"}, quota, weight)

        return self.world.once(call, Act.PROJECT_CREATE, change)

    def put(self, name: str, members: dict[str, str], quota: int = 0, weight: float = 1.0) -> ProjectView:
        people = tuple(MemberView(user=user, role=role) for user, role in members.items())
        view = ProjectView(
            name=name, id="1", owner=people[0].user, created=NOW, members=people, jobs={}, storage_used=0, quota=quota,
            weight=weight,
        )  # fmt: skip
        self.world.projects[name] = view
        return view

    async def get(self, who: Principal, project: str) -> ProjectView:
        self.world.admit(who, Act.PROJECT_SHOW, project)
        return self.world.projects[project]

    async def change(self, call: Call, project: str, quota: int | None, weight: float | None) -> ProjectView:
        def change() -> ProjectView:
            if project not in self.world.projects:
                raise NotFound(f"there is no project {project!r}")
            return self.world.projects[project]

        return self.world.once(call, Act.PROJECT_CHANGE, change)

    async def delete(self, call: Call, project: str, keep: bool) -> object:
        return self.world.once(call, Act.PROJECT_DELETE, lambda: None, project)

    async def grant(self, call: Call, project: str, user: str, role: str) -> MemberView:
        def change() -> MemberView:
            if user not in self.world.users:
                raise NotFound(f"there is no user {user!r}")
            return MemberView(user=user, role=role)

        return self.world.once(call, Act.MEMBER_GRANT, change, project)

    async def revoke(self, call: Call, project: str, user: str) -> object:
        return self.world.once(call, Act.MEMBER_REVOKE, lambda: None, project)


class FakeBundles:
    def __init__(self, world: World) -> None:
        self.world = world

    async def page(self, who: Principal, after: str, limit: int) -> Page:
        return paged(list(self.world.bundles.values()), after, limit)

    async def make(self, call: Call, name: str, role: str, user: str, expires_in: float) -> tuple[str, BundleView]:
        def change() -> tuple[str, BundleView]:
            view = BundleView(
                name=names.clean(name), role=role, user=user, created=NOW, expires=NOW, revoked=False, used=0,
                last_used=None,
            )  # fmt: skip
            self.world.bundles[name] = view
            return "a bundle", view

        return self.world.once(call, Act.BUNDLE_MAKE, change)

    async def revoke(self, call: Call, name: str) -> object:
        def change() -> None:
            if self.world.bundles.pop(name, None) is None:
                raise NotFound(f"there is no bundle {name!r}")

        return self.world.once(call, Act.BUNDLE_REVOKE, change)


class FakeSettings:
    def __init__(self, world: World) -> None:
        self.world = world

    async def page(self, who: Principal) -> Page:
        self.world.admit(who, Act.SETTING_LIST)
        return Page(items=tuple(self.view(name) for name in self.world.settings))

    def view(self, name: str) -> SettingView:
        value = self.world.settings[name]
        return SettingView(name=name, value=value, default="120", text="seconds", restart=False)

    async def set(self, call: Call, name: str, value: str) -> SettingView:
        def change() -> SettingView:
            if name not in self.world.settings:
                raise NotFound(f"there is no setting {name!r}")
            self.world.settings[name] = value
            return self.view(name)

        return self.world.once(call, Act.SETTING_SET, change)


class FakeEvents:
    def __init__(self, world: World) -> None:
        self.world = world
        self.oldest = 0
        self.open = 0

    async def page(self, who: Principal, after: int, kind: str, project: str, limit: int) -> Page:
        self.world.admit(who, Act.EVENT_LIST)
        if project and project not in self.world.projects:
            raise NotFound(f"there is no project {project!r}")
        if after < self.oldest:
            raise Gone(f"events up to {self.oldest} are past their retention")
        found = [event for event in self.world.events if event.number > after and kind in ("", event.kind)]
        return Page(items=tuple(found[:limit]))

    async def audit(self, who: Principal, after: int, user: str, limit: int) -> Page:
        self.world.admit(who, Act.AUDIT)
        return Page(items=())

    async def stream(
        self, who: Principal, after: int, *, kind: str, project: str, job: str
    ) -> AsyncIterator[EventView]:
        self.open += 1
        try:
            while True:
                for event in [event for event in self.world.events if event.number > after]:
                    after = event.number
                    if kind in ("", event.kind):
                        yield event
                if len(self.world.events) <= after:
                    watcher: Deferred[None] = Deferred()
                    self.world.watchers.append(watcher)
                    await watcher
        finally:
            self.open -= 1


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


class FakeServices:
    """All of them, over one world. The project `villin` has alice as owner and bob as viewer."""

    def __init__(self) -> None:
        self.world = World()
        self.accounts = FakeAccounts(self.world)
        self.projects = FakeProjects(self.world)
        self.bundles = FakeBundles(self.world)
        self.settings = FakeSettings(self.world)
        self.events = FakeEvents(self.world)
        self.files = FakeFiles(self.world)
        self.jobs = FakeJobs(self.world)
        self.results = FakeResults(self.world, self.jobs)
        self.workers = FakeWorkers(self.world)
        self.stopping = False
        self.projects.put("villin", {"alice": "owner", "bob": "viewer"})
        self.jobs.put("57", JobSpec(argv=("echo", "hi")))

    def view(self) -> ServerView:
        return ServerView(
            id="00000000-0000-4000-8000-000000000001", name="test", release="3.0", protocol=1, incarnation=1,
            host="localhost", port=13807, client_port=14807, fingerprint="ab", started=NOW, heartbeat_time=120.0,
        )  # fmt: skip

    def authority(self) -> bytes:
        return b"\x30\x00"

    async def status(self, who: Principal) -> ServerStatus:
        return ServerStatus(
            server=self.view(), workers=1, workers_busy=0, jobs={"waiting": 1}, storage_used=0, storage_free=1,
            intake_paused="", warnings=(),
        )  # fmt: skip

    async def permit(self, who: Principal, act: Act, project: str) -> object:
        self.world.admit(who, act, project)
        return None

    async def reload(self, call: Call) -> object:
        return self.world.once(call, Act.SERVER_RELOAD, lambda: None)

    async def request_stop(self, call: Call) -> object:
        def change() -> None:
            self.stopping = True

        return self.world.once(call, Act.SERVER_STOP, change)

    def health(self) -> tuple[str, ...]:
        return self.world.reasons

    def metrics_open(self) -> bool:
        return self.world.metrics_open

    async def figures(self) -> Figures:
        return Figures(
            release="3.0", started=NOW / 1e6, jobs={("villin", "waiting"): 1}, submitted=3,
            finished={("villin", "ok"): 2}, workers={("idle", "smp"): 1}, cores={"total": 4, "allocated": 0},
            storage={"files": 10}, transferred={"in": 5}, retried={"lost": 1}, pending_reasons={"no_worker": 1},
            memory={"total": 1 << 30}, gpus={"total": 0}, last_backup=1.0, certificate_expiry=2.0, desired_workers=1,
        )  # fmt: skip

    def store_file(self, data: bytes, path: bytes | None = None) -> str:
        """A file in the world, also as an output; its digest in hex."""
        chunks = tuple(of_chunk(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK))
        content = Content(hashlib.sha256(data).digest(), len(data), chunks)
        self.world.files[content.digest] = data
        if path is not None:
            self.world.outputs[path] = Entry(path, content=content)
        return content.digest.hex()
