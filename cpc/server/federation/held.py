"""What is in custody, on disk: results in a spool, their chunks beside it. Durable when a call returns.

    custody/spool.log   custody/chunks/HEX …   custody/chunks/part-N (a write cut short; removed at the start)

A chunk belongs to the results that name it. One that no result names yet is *early*: its result is expected within
EARLY_TIME, after which it goes. Everything is bounded by `limit` bytes.

On disk a chunk is there once; but it counts as here only for the job that it was sent for. Else a worker that knows no more of a
chunk than its digest could have it handed in to the owner of some other job, and the owner would get what was not for it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from twisted.internet.defer import DeferredLock

from cpc.core.clock import Clock
from cpc.core.digest import of_chunk
from cpc.core.errors import BadInput, CopernicusError, Damaged, Unavailable
from cpc.core.lease import Lease
from cpc.core.offload import Offload
from cpc.core.pieces import Data
from cpc.core.reading import UNREADABLE
from cpc.server.storage import show_size
from cpc.spool.disk import Disk
from cpc.spool.spool import Spool
from cpc.wire.messages import Checkpoint, Result

T = TypeVar("T")

DIRECTORY = "custody"
EARLY_TIME = 3600.0  # seconds
MOST_EARLY = 100_000  # chunks, however small


#: A chunk of a job: (path to its owner, job, digest).
Piece = tuple[str, int, bytes]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result as it is kept: of which of our workers (its number and name), since when (µs UTC)."""

    worker: int
    name: str
    since: int
    result: Result
    checkpoint: Checkpoint | None = None


class Lost(Damaged):
    """Our disk does not have what was kept on it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One result in custody. `lease` has the path to its owner; `size` in bytes, chunks that others share included."""

    lease: Lease
    worker: int
    name: str
    since: int
    size: int
    digests: tuple[bytes, ...]
    body: int  # bytes of the record itself
    first: bool = False  # of an array

    @property
    def job(self) -> str:
        """Its id at that server, as people see it."""
        return self.lease.of(self.first)

    @property
    def owner(self) -> str:
        """The id of the server that it is for."""
        return self.lease.route[-1]


class Held:
    """The disk's side of custody. Changes are made one at a time."""

    def __init__(self, disk: Disk, root: str, limit: Callable[[], int], offload: Offload, clock: Clock) -> None:
        self._disk = disk
        self._root = os.path.join(root, DIRECTORY)
        self._chunks = os.path.join(self._root, "chunks")
        self._limit = limit
        self._offload = offload
        self._clock = clock
        self._lock = DeferredLock()
        self._spool: Spool | None = None
        self._sizes: dict[bytes, int] = {}
        self._named: Counter[Piece] = Counter()  # by how many results each chunk is named
        self._early: dict[Piece, float] = {}  # chunks that none names yet: since when, monotonic
        self._jobs: Counter[bytes] = Counter()  # for how many jobs each chunk is here
        self._parts = 0
        self._bytes = 0
        self.items: dict[Lease, Item] = {}  # oldest first
        self.damage: tuple[str, ...] = ()

    # --- at the start ---

    async def open(self) -> None:
        """Read what is kept. What cannot be read is left where it is and told in `damage`."""
        if await self._offload(lambda: self._disk.stat(self._root)) is None:
            return  # nothing was ever taken
        await self._locked(self._open)

    async def _open(self) -> None:
        spool = await self._made()
        found, faults = await self._offload(lambda: _items(spool))
        self.damage = (*spool.damage, *faults)
        self._sizes = await self._offload(self._scan)
        self._bytes = sum(self._sizes.values())
        for item in found:
            self._note(item)
        await self._unlink([digest for digest in self._sizes if digest not in self._jobs])

    async def _made(self) -> Spool:
        if self._spool is None:

            def make() -> Spool:
                self._disk.make_directory(self._chunks)
                self._disk.sync_directory(os.path.dirname(self._root))
                self._disk.sync_directory(self._root)
                return Spool.open(self._disk, self._root, self._offload)

            self._spool = await self._offload(make)
        return self._spool

    def _scan(self) -> dict[bytes, int]:
        sizes = {}
        for stat in self._disk.scan(self._chunks):
            try:
                digest = bytes.fromhex(stat.name)
            except ValueError:
                digest = b""
            if len(digest) == 32 and stat.kind == "file":
                sizes[digest] = stat.size
            elif stat.kind == "file":
                self._disk.unlink(os.path.join(self._chunks, stat.name))
        return sizes

    def _note(self, item: Item) -> None:
        self.items[item.lease] = item
        self._bytes += item.body
        for piece in _pieces(item.lease, item.digests):
            self._enter(piece)
            self._named[piece] += 1
            self._early.pop(piece, None)

    def _enter(self, piece: Piece) -> None:
        if piece not in self._named and piece not in self._early:
            self._jobs[piece[2]] += 1

    def _leave(self, pieces: Iterable[Piece]) -> list[bytes]:
        """These may have ceased to be here; the chunks of which that is true of all jobs."""
        gone = [piece[2] for piece in pieces if piece not in self._named and piece not in self._early]
        self._jobs.subtract(gone)
        unused = [digest for digest in dict.fromkeys(gone) if self._jobs[digest] <= 0]
        for digest in unused:
            del self._jobs[digest]
        return unused

    # --- in ---

    @property
    def size(self) -> int:
        """Bytes of all chunks and results."""
        return self._bytes

    def missing(self, lease: Lease, digests: Iterable[bytes]) -> tuple[bytes, ...]:
        """Which chunks are not here for the job of this lease (with its path). The others stay for EARLY_TIME from now."""
        now = self._clock.monotonic()
        pieces = _pieces(lease, digests)
        for piece in pieces:
            if piece in self._early:
                self._early[piece] = now
        return tuple(piece[2] for piece in pieces if not self._has(piece))

    def _has(self, piece: Piece) -> bool:
        return piece[2] in self._sizes and (piece in self._early or piece in self._named)

    async def put_chunk(self, lease: Lease, digest: bytes, data: Data) -> None:
        """Keep a chunk for the job of this lease (with its path); on disk when this returns. BadInput; Unavailable: no room."""
        (piece,) = _pieces(lease, (digest,))

        async def put() -> None:
            if await self._offload(lambda: of_chunk(data)) != digest:
                raise BadInput(f"these bytes are not chunk {digest.hex()}", "they changed on the way: send them again")
            if self._has(piece):
                return
            await self._make_room(0 if digest in self._sizes else len(data), 1)
            await self._made()
            if digest not in self._sizes:
                await self._written(lambda: self._write(digest, data))
                self._sizes[digest] = len(data)
                self._bytes += len(data)
            if piece not in self._named:
                self._enter(piece)
                self._early[piece] = self._clock.monotonic()

        await self._locked(put)

    def _write(self, digest: bytes, data: Data) -> None:
        self._parts += 1
        part = os.path.join(self._chunks, f"part-{self._parts}")
        try:
            self._disk.write(part, data)
            self._disk.sync(part)
            self._disk.rename(part, self._path(digest))
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.unlink(part)
            raise
        self._disk.sync_directory(self._chunks)

    async def add(self, lease: Lease, kept: Kept) -> Item | None:
        """Keep a result; on disk when this returns. None when chunks of it are not here. Unavailable: no room."""

        async def add() -> Item | None:
            if lease in self.items:
                return self.items[lease]
            digests = _digests(kept)
            if not all(map(self._has, _pieces(lease, digests))):
                return None
            body = msgspec.msgpack.encode(kept)
            await self._make_room(len(body))
            spool = await self._made()
            await self._written_by(spool.add(lease, body))
            item = _item(lease, kept, len(body))
            self._note(item)
            return item

        return await self._locked(add)

    async def _make_room(self, size: int, chunks: int = 0) -> None:
        limit = self._limit()
        if self.size + size > limit or len(self._early) + chunks > MOST_EARLY:
            await self.forget_early(EARLY_TIME)
        if len(self._early) + chunks > MOST_EARLY:
            raise Unavailable(
                f"custody has {MOST_EARLY} chunks whose results have not come",
                "the worker keeps the result; try again later",
            )
        if self.size + size > limit:
            raise Unavailable(
                f"custody has {show_size(self.size)} of at most {show_size(limit)}",
                "the worker keeps the result; raise custody_limit, or see `cpcc custody` for what waits there",
            )

    async def _written(self, work: Callable[[], None]) -> None:
        await self._written_by(self._offload(work))

    async def _written_by(self, work: Awaitable[None]) -> None:
        try:
            await work
        except OSError as error:
            raise Unavailable(
                f"custody cannot be written: {error.strerror or error}", "the worker keeps the result"
            ) from error

    # --- out ---

    async def read(self, lease: Lease) -> Kept:
        """A result that is kept. Lost when the disk has lost it."""
        assert self._spool is not None
        spool = self._spool
        try:
            return await self._offload(lambda: msgspec.msgpack.decode(spool.read(lease), type=Kept))
        except (OSError, *UNREADABLE) as error:
            raise Lost(f"the result of {lease} in custody cannot be read: {error}") from error

    async def read_chunk(self, digest: bytes) -> bytes:
        """A chunk, checked. Lost when the disk has lost or changed it."""

        def read() -> bytes:
            try:
                data = self._disk.read(self._path(digest))
            except OSError as error:
                raise Lost(f"chunk {digest.hex()} in custody cannot be read: {error.strerror}") from error
            if of_chunk(data) != digest:
                raise Lost(f"chunk {digest.hex()} in custody is not what it was")
            return data

        return await self._offload(read)

    async def forget(self, lease: Lease) -> None:
        """The owner has it, or it is not wanted any more: the result goes, and the chunks that were only its own.

        If the power fails now it may be here again; it is then handed in once more, and known.
        """

        async def forget() -> None:
            item = self.items.pop(lease, None)
            if item is None:
                return
            self._bytes -= item.body
            assert self._spool is not None
            self._spool.forget(lease)
            await self._spool.close()
            pieces = _pieces(lease, item.digests)
            for piece in pieces:
                self._named[piece] -= 1
                if not self._named[piece]:
                    del self._named[piece]
            await self._unlink(self._leave(pieces))

        await self._locked(forget)

    async def forget_early(self, age: float) -> None:
        """Remove chunks that have waited so long for a result that names them. Only with the lock, or by `sweep`."""
        before = self._clock.monotonic() - age
        pieces = [piece for piece, since in self._early.items() if since <= before]
        for piece in pieces:
            del self._early[piece]
        await self._unlink(self._leave(pieces))

    async def sweep(self) -> None:
        """What came early and was never named goes."""
        await self._locked(lambda: self.forget_early(EARLY_TIME))

    async def _unlink(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._bytes -= self._sizes.pop(digest, 0)

        def unlink() -> None:
            for digest in digests:
                with contextlib.suppress(OSError):  # else it is found at the next start
                    self._disk.unlink(self._path(digest))

        if digests:
            await self._offload(unlink)

    def _path(self, digest: bytes) -> str:
        return os.path.join(self._chunks, digest.hex())

    async def _locked(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._lock.acquire()
        try:
            return await work()
        finally:
            self._lock.release()


def _pieces(lease: Lease, digests: Iterable[bytes]) -> list[Piece]:
    return [(lease.path, lease.job, digest) for digest in dict.fromkeys(digests)]


def _digests(kept: Kept) -> tuple[bytes, ...]:
    """The chunks that must be here beside the result itself."""
    in_result = (digest for _, content in kept.result.files.files() for digest in content.chunks)
    found = dict.fromkeys(digest for digest in in_result if digest not in kept.result.small)
    if kept.checkpoint is not None:
        found |= dict.fromkeys(digest for _, content in kept.checkpoint.files.files() for digest in content.chunks)
    return tuple(found)


def _item(lease: Lease, kept: Kept, size: int) -> Item:
    files = kept.result.files.size + (kept.checkpoint.files.size if kept.checkpoint else 0)
    small = sum(map(len, kept.result.small.values()))
    return Item(
        lease, kept.worker, kept.name, kept.since, size + max(0, files - small), _digests(kept), size, kept.result.first
    )


def _items(spool: Spool) -> tuple[list[Item], list[str]]:
    found, faults = [], []
    for lease in spool.leases():
        try:
            body = spool.read(lease)
            found.append(_item(lease, msgspec.msgpack.decode(body, type=Kept), len(body)))
        except (OSError, CopernicusError, *UNREADABLE) as error:
            faults.append(f"the result of {lease} in custody cannot be read: {error}")
    return found, faults
