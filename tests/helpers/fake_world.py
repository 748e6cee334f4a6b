"""What the fake services share: a clumsy server in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from cpc.core.digest import Content
from cpc.core.errors import (
    BadInput,
    Conflict,
    NotFound,
)
from cpc.core.manifest import Entry
from cpc.core.views import (
    ArrayView,
    BundleView,
    EventView,
    JobDetail,
    Page,
    ProjectView,
    TokenView,
    UserView,
)
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
