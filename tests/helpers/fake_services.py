"""Services in memory, for tests of the people's door. Their signatures are checked against the Protocols."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred

from cpc.core import names
from cpc.core.digest import CHUNK, Content, of_chunk
from cpc.core.errors import (
    Conflict,
    Gone,
    NotFound,
    NotLoggedIn,
    RateLimited,
)
from cpc.core.manifest import Entry
from cpc.core.spec import JobSpec
from cpc.core.views import (
    BundleView,
    EventView,
    MemberView,
    Page,
    ProjectView,
    ServerStatus,
    ServerView,
    Session,
    SettingView,
    TokenView,
    UserView,
)
from cpc.server.metrics import Figures
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from tests.helpers.fake_custody import FakeCustody
from tests.helpers.fake_peers import FakePeerRequests, FakePeers, FakeSurveying
from tests.helpers.fake_pools import FakePools
from tests.helpers.fake_work import FakeFiles, FakeJobs, FakeResults, FakeWorkers
from tests.helpers.fake_world import NOW, World, paged


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

    async def delete(self, call: Call, project: str) -> object:
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


class FakeServices:
    """All of them, over one world. The project `villin` has alice as owner and bob as viewer."""

    def __init__(self) -> None:
        self.world = World()
        self.accounts = FakeAccounts(self.world)
        self.projects = FakeProjects(self.world)
        self.bundles = FakeBundles(self.world)
        self.custody = FakeCustody(self.world)
        self.settings = FakeSettings(self.world)
        self.events = FakeEvents(self.world)
        self.files = FakeFiles(self.world)
        self.jobs = FakeJobs(self.world)
        self.results = FakeResults(self.world, self.jobs)
        self.workers = FakeWorkers(self.world)
        self.pools = FakePools(self.world)
        self.peers = FakePeers(self.world)
        self.peer_requests = FakePeerRequests(self.world)
        self.surveying = FakeSurveying(self.world)
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
            storage={"files": 10}, transferred={"in": 5}, retried={"lost": 1}, pending_reasons={"no-worker": 1},
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
