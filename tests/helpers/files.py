"""Projects and contents for tests of the file store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock as FakeReactor

from cpc.core.chance import SeededChance
from cpc.core.digest import CHUNK, Content, of_chunks
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.store import members, schema, statement
from cpc.store.chunks import Arrived, ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.statement import Statement
from cpc.store.transaction import Tx
from tests.helpers.disks import FakeDisk, PowerCut
from tests.helpers.stores import InlineThreads, ManualClock, open_store, result, sqlite_url

T = TypeVar("T")
USERS = {11: "ann", 12: "bob", 13: "eve"}

_USER = statement.insert(schema.users)
_PROJECT = statement.insert(schema.projects)
_STORAGE = statement.select(schema.projects, "storage")
_COUNTED = Statement(
    sa.select(sa.func.coalesce(sa.func.sum(schema.chunks.c.size), 0)).where(
        schema.chunks.c.digest.in_(
            sa.select(schema.references.c.digest).where(schema.references.c.project == sa.bindparam("project"))
        )
    )
)
_DANGLING = Statement(
    sa.select(sa.func.count())
    .select_from(schema.references)
    .where(~sa.exists().where(schema.chunks.c.digest == schema.references.c.digest))
)
_ON_RECORD = Statement(
    sa.select(schema.chunks.c.digest, schema.chunks.c.size, schema.chunks.c.data, schema.chunks.c.doomed)
)


def pieces_of(data: bytes) -> list[bytes]:
    """The chunks of a file."""
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


def content_of(data: bytes) -> Content:
    """The address of a file."""
    return of_chunks(pieces_of(data))


def small_of(*files: bytes) -> dict[bytes, bytes]:
    """Small chunks by digest, as a result carries them."""
    return {content_of(data).digest: data for data in files}


def arrived_of(*files: bytes) -> dict[bytes, Arrived]:
    """Small chunks as they stand after they were verified."""
    return {digest: Arrived(len(data), data) for digest, data in small_of(*files).items()}


def add_project(tx: Tx, number: int, quota: int = 0, name: str = "") -> None:
    """A project with this id."""
    name = name or f"p{number}"
    tx.run(
        _PROJECT,
        {
            "id": number, "name": name, "key": name, "owner": 1, "created": 0, "deleted": None, "quota": quota,
            "weight": 1.0, "storage": 0, "usage": 0.0, "usage_at": 0,
        },
    )  # fmt: skip


def storage(tx: Tx, project: int) -> int:
    """What is booked on a project."""
    return int(tx.scalar(_STORAGE, {"id": project}))


def counted(tx: Tx, project: int) -> int:
    """What a project refers to, counted afresh."""
    return int(tx.scalar(_COUNTED, {"project": project}))


def dangling(tx: Tx) -> int:
    """References to chunks that are not on record: always 0."""
    return int(tx.scalar(_DANGLING))


def on_record(tx: Tx) -> dict[bytes, tuple[int, bytes | None, int | None]]:
    """Every chunk row: digest → (size, data, doomed)."""
    return {bytes(row[0]): (row[1], row[2], row[3]) for row in tx.rows(_ON_RECORD)}


class LateThreads:
    """Threads whose calls happen when the test says so, in the order it likes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, call: Callable[[], Any]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.waiting.append((call, answer))
        return answer

    def step(self, index: int = 0) -> None:
        call, answer = self.waiting.pop(index)
        try:
            value = call()
        except PowerCut:
            raise
        except Exception:
            answer.errback()
        else:
            answer.callback(value)

    def run_all(self) -> None:
        while self.waiting:
            self.step()


class Shop:
    """A file service with everything under it, on a disk that can be made to fail. Projects alpha (1) and beta (2).

    Users: ann is a member of alpha, bob of beta, eve a viewer of alpha. `life()` again after `disk.power_loss()` is a
    restart.
    """

    def __init__(self, directory: Path, *, threads: Any = None, quota: int = 0, url: str = "") -> None:
        self.clock = ManualClock()
        self.timers = FakeReactor()
        self.disk = FakeDisk(self.clock.now)
        self.threads = threads or InlineThreads()
        self.url = url or sqlite_url(directory)
        self.least = 0
        self.ann, self.bob, self.eve = (Principal(number, name, False) for number, name in USERS.items())
        self.life()
        result(self.store.write(lambda tx: self._people(tx, quota)))

    def life(self) -> None:
        """One life of the server."""
        self.store = open_store(self.url, self.clock)
        self.chunks = ChunkStore(self.store, ChunkFiles(self.disk), self.threads, self.clock)
        self.storage = Storage(self.disk, InlineThreads(), self.timers, lambda: self.least)
        self.gate = Gate(self.store, Seal(b"key", SeededChance(1)))
        self.files = Files(self.store, self.chunks, self.gate, self.storage, self.threads)

    def end(self) -> None:
        """Close the database; what was not committed is gone."""
        result(ensureDeferred(self.store.close()))

    @staticmethod
    def _people(tx: Tx, quota: int) -> None:
        add_project(tx, 1, quota, "alpha")
        add_project(tx, 2, 0, "beta")
        for number, name in USERS.items():
            tx.run(
                _USER,
                {
                    "id": number, "name": name, "key": name, "password": "", "super": False, "disabled": False,
                    "created": 0, "deleted": None,
                },
            )  # fmt: skip
        members.grant(tx, 1, 11, "member")
        members.grant(tx, 2, 12, "member")
        members.grant(tx, 1, 13, "viewer")

    def write(self, call: Callable[..., T], *arguments: Any) -> T:
        return result(self.store.write(lambda tx: call(tx, *arguments)))

    def read(self, call: Callable[..., T], *arguments: Any) -> T:
        return result(self.store.read(lambda tx: call(tx, *arguments)))

    def announce(self, content: Content, project: str = "alpha", who: Principal | None = None, key: str = "") -> Any:
        return wait(self.files.announce(Call(who or self.ann, key), project, content))

    def upload(self, data: bytes, project: str = "alpha", who: Principal | None = None, size: int = CHUNK) -> Any:
        """Send a whole file in parts."""
        who = who or self.ann
        view = self.announce(content_of(data), project, who)
        while not view.done:
            part = data[view.received : view.received + size]
            view = wait(self.files.part(who, view.id, view.received, part))
        return view

    def fetch(self, content: Content) -> bytes:
        """Read a content back."""

        async def fetch() -> bytes:
            return b"".join([piece async for piece in self.files.reader(content).pieces()])

        return wait(fetch())

    def check(self) -> None:
        """What must hold at any time: nothing refers to what is not there, and the books are right."""
        assert self.read(dangling) == 0
        for project in (1, 2):
            assert self.read(storage, project) == self.read(counted, project)
        assert wait(_faults(self.chunks)) == []


async def _faults(store: ChunkStore) -> list[Any]:
    return [fault async for fault in store.verify()]


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that needs nobody else to get on."""
    return result(ensureDeferred(coroutine))


def block(number: int, size: int = CHUNK) -> bytes:
    """Bytes that differ from those of any other number."""
    return (b"%08d" % number) * (size // 8) + b"." * (size % 8)
