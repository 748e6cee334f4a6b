"""The services about people — users, tokens, projects, bundles, settings, events — on a fresh database, inline."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.chance import SeededChance
from cpc.server import bundles as bundles_service
from cpc.server.accounts import Accounts
from cpc.server.bundles import Bundles
from cpc.server.events import Events
from cpc.server.gate import Gate
from cpc.server.passwords import Passwords
from cpc.server.principal import SERVER, Call, Principal
from cpc.server.projects import Projects
from cpc.server.seal import Seal
from cpc.server.settings import Settings
from cpc.server.tokens import Tokens
from cpc.wire.identity import Authority
from tests.helpers.stores import InlineThreads, ManualClock, open_store, result

T = TypeVar("T")
SERVER_ID = "00000000-0000-4000-8000-000000000001"
PASSWORD = "correct horse"


class FakeJobs:
    """Notes whose jobs were cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def cancel_all(self, tx: Any, project: int, actor: str) -> None:
        self.cancelled.append(project)


class FakeFiles:
    """Notes whose files were released."""

    def __init__(self) -> None:
        self.released: list[int] = []

    def release(self, tx: Any, project: int) -> None:
        self.released.append(project)


class People:
    """One server's life. `now` moves with `clock`; `do` finishes an awaitable that has nothing to wait for."""

    def __init__(self, url: str, secret: bytes = b"identity key") -> None:
        self.url = url
        self.clock = ManualClock()
        self.chance = SeededChance(7)
        self.store = open_store(url, self.clock)
        self.gate = Gate(self.store, Seal(secret, self.chance))
        self.tokens = Tokens(self.store, self.gate, self.clock, self.chance)
        self.hashes = Passwords(self.chance, cost=4)
        self.accounts = Accounts(self.store, self.gate, self.tokens, self.hashes, InlineThreads(), self.clock)
        self.projects = Projects(self.gate)
        self.jobs, self.files = FakeJobs(), FakeFiles()
        self.projects.jobs, self.projects.files = self.jobs, self.files
        self.authority = Authority.create(SERVER_ID, self.clock, self.chance)
        terms = bundles_service.Terms("test", (("127.0.0.1", 13807),), (("127.0.0.1", 14807),))
        self.bundles = Bundles(self.store, self.gate, self.tokens, self.authority, self.clock, terms)
        self.accounts.on_delete.append(self.bundles.user_deleted)
        self.settings = Settings(self.store, self.gate)
        self.events = Events(self.store, self.gate)
        self._keys = 0

    def close(self) -> None:
        self.do(self.store.close())

    def do(self, work: Awaitable[T]) -> T:
        return result(started(work))

    def call(self, who: Principal, key: str = "", body: str = "") -> Call:
        """A call with a fresh key, or with this one."""
        self._keys += 1
        return Call.of(who, key or f"key-{self._keys}", "POST", "/", body.encode())

    def user(self, name: str, super_user: bool = False) -> Principal:
        """A new user, logged in."""
        self.do(self.accounts.add_user(self.call(SERVER), name, PASSWORD, super_user))
        return self.login(name)

    def login(self, name: str, password: str = PASSWORD) -> Principal:
        return self.do(self.accounts.authenticate(self.token(name, password)))

    def token(self, name: str, password: str = PASSWORD) -> str:
        return self.do(self.accounts.login(name, password, "192.0.2.1")).token

    def project(self, owner: Principal, name: str) -> None:
        self.do(self.projects.create(self.call(owner), name))

    def kinds(self, who: Principal, after: int = 0) -> list[str]:
        page = self.do(self.events.page(who, after, limit=1000))
        return [event.kind for event in page.items]


def started(work: Awaitable[T]) -> Deferred[T]:
    """Begin to work; a Deferred of the outcome."""
    if isinstance(work, Deferred):
        return work
    return ensureDeferred(_await(work))  # type: ignore[arg-type]


async def _await(work: Awaitable[T]) -> T:
    return await work


def people(url: str) -> Generator[People]:
    """For a fixture."""
    made = People(url)
    yield made
    made.close()
