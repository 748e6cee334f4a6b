"""The chunk store while the server runs: many chunks on their way to disk at once, reading, removing, sweeping, verifying.

    put      verify ▸ write ▸ flush ▸ name ▸ flush the directory │ row + reference in one commit │ answer
    collect                                    row goes in one commit │ unlink
    sweep    (at the start) files without a row ▸ unlink

A chunk that is landing is not removed, and one that is leaving is not written until it is gone; both are remembered in
memory, which is enough because one server runs per store.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cpc.core.clock import SECOND, Clock
from cpc.core.digest import of_chunk
from cpc.core.errors import CopernicusError, Damaged
from cpc.core.pieces import Data
from cpc.core.recent import Recent
from cpc.store import chunks, references
from cpc.store.chunks import SMALL, Arrived, ChunkFiles
from cpc.store.references import Kind
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.writer import Threads

T = TypeVar("T")
Piece = tuple[bytes, Data]
ArrivedMap = dict[bytes, Arrived]
Tried = Callable[[BaseException | None], None]

RECENT = 64 << 20  # bytes: what comes in a third of a second at the pace that two cores allow
LANES = 3  # batches being written at the same time
BATCH = 8  # chunks that share a flush of their directory
STEP = 200  # chunks removed in one commit
PAGE = 1000
GRACE = 600.0  # seconds between the mark and the removal, so that a download that has begun can end
STRAY_GRACE = 3600.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What a collection freed."""

    chunks: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """A chunk that is on record but not sound: what is wrong, and who refers to it (kind, owner, number, project)."""

    digest: bytes
    size: int
    what: str
    who: tuple[tuple[Kind, int, int, int], ...]


class ChunkStore:
    """Chunks of one server. `threads` may run several calls at a time; more of them make larger transfers faster.

    `recent`: bytes of chunks that came last that are kept in memory.
    """

    def __init__(self, store: Store, files: ChunkFiles, threads: Threads, clock: Clock, recent: int = 0) -> None:
        self._store = store
        self._files = files
        self._threads = threads
        self._clock = clock
        self._queue: deque[tuple[Piece, Tried]] = deque()
        self._lanes = 0
        self._recent = Recent(recent)
        self._landing: Counter[bytes] = Counter()
        self._leaving: dict[bytes, list[Deferred[None]]] = {}

    # --- in ---

    async def put(self, pieces: Mapping[bytes, Data], record: Callable[[Tx, ArrivedMap], T]) -> T:
        """Make chunks durable, then run `record(tx, arrived)`, which must refer to them; its value after the commit.

        BadInput or TooLarge for bytes that are not the chunk of that name; Unavailable when the disk refuses. Then
        nothing is on record.
        """
        while leaving := next((digest for digest in pieces if digest in self._leaving), None):
            gone: Deferred[None] = Deferred()
            self._leaving[leaving].append(gone)
            await gone
        self._landing.update(pieces.keys())
        try:
            arrived = {}
            for digest, piece in pieces.items():
                small = len(piece) <= SMALL
                if small:
                    chunks.check(digest, piece)
                arrived[digest] = Arrived(len(piece), bytes(piece) if small else None)
            await self._land([(digest, piece) for digest, piece in pieces.items() if arrived[digest].data is None])
            value = await self._store.write(lambda tx: record(tx, arrived))
            for digest, piece in pieces.items():
                if arrived[digest].data is None:
                    self._recent.keep(digest, piece, self._clock.monotonic())
            return value
        finally:
            self._landing.subtract(pieces.keys())
            self._landing = +self._landing

    async def _land(self, pieces: Sequence[Piece]) -> None:
        """Write chunks to disk together with what others bring; raises the first refusal once all have been tried."""
        if not pieces:
            return
        all_tried: Deferred[None] = Deferred()
        refusals: list[BaseException] = []
        left = len(pieces)

        def tried(refusal: BaseException | None) -> None:
            nonlocal left
            left -= 1
            if refusal is not None:
                refusals.append(refusal)
            if not left and not all_tried.called:  # called already: whoever waited has gone away
                all_tried.callback(None)

        self._queue.extend((piece, tried) for piece in pieces)
        self._pump()
        await all_tried
        if refusals:
            raise refusals[0]

    def _pump(self) -> None:
        while self._queue and self._lanes < LANES:
            self._lanes += 1
            self._write([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])

    def _write(self, batch: list[tuple[Piece, Tried]]) -> None:
        pieces = [piece for piece, _ in batch]

        def written(outcomes: list[CopernicusError | None]) -> None:
            self._lanes -= 1
            for (_, tried), outcome in zip(batch, outcomes, strict=True):
                tried(outcome)

        def failed(failure: Failure) -> None:
            self._lanes -= 1
            for _, tried in batch:
                tried(failure.value)

        self._threads.run(lambda: self._files.write(pieces)).addCallbacks(written, failed).addCallback(
            lambda _: self._pump()
        )

    # --- out ---

    async def read(
        self, digest: bytes, size: int, offset: int = 0, length: int = 1 << 62, checked: bool = False
    ) -> bytes:
        """Bytes of a chunk that is on record; Damaged when they are not there, or not what they were.

        `checked`: the caller has read from this chunk a moment ago, so that it need not be hashed for each of its pieces. What is
        damaged is marked, so that whoever sends it again is not told that it is here.
        """
        try:
            return await self._read(digest, size, offset, length, checked)
        except Damaged as damage:
            await self._mark(digest, str(damage))
            raise

    async def _mark(self, digest: bytes, words: str) -> None:
        def mark(tx: Tx) -> None:
            if chunks.mark(tx, digest):
                tx.event("server", "file.damaged", chunk=digest.hex(), reason=words)

        with contextlib.suppress(CopernicusError):  # the database takes nothing now: the next one who reads it marks it
            await self._store.write(mark)

    async def _read(self, digest: bytes, size: int, offset: int, length: int, checked: bool) -> bytes:
        if size > SMALL:
            if (kept := self._recent.find(digest, offset, length)) is not None:
                return kept
            read = self._files.read if checked else self._files.read_checked
            return await self._threads.run(lambda: read(digest, size, offset, length))
        found = await self._store.read(lambda tx: chunks.data(tx, digest))
        if found is None or found[1] is None:
            raise Damaged(f"chunk {digest.hex()} is not in the database", "see `cpc-server doctor`")
        if len(found[1]) != size or of_chunk(found[1]) != digest:
            raise Damaged(
                f"chunk {digest.hex()} in the database is not what it was",
                "see `cpc-server doctor --deep` for what is affected; restore it from a backup",
            )
        return found[1][offset : offset + length]

    # --- away ---

    async def collect(self, grace: float = GRACE) -> Removed:
        """Remove all chunks that nobody has referred to for `grace` seconds, in small steps; let go of recent ones."""
        self._recent.expire(self._clock.monotonic())
        count = freed = 0
        before = self._clock.now() - int(grace * SECOND)
        while True:
            marked = await self._store.read(lambda tx: chunks.doomed(tx, before, STEP + len(self._landing)))
            sizes = {digest: size for digest, size in marked if self._free(digest)}
            if not sizes:
                return Removed(count, freed)
            removed = await self._remove(sizes, chunks.remove_rows)
            count += len(removed)
            freed += sum(sizes[digest] for digest in removed)

    async def sweep(self, grace: float = STRAY_GRACE) -> int:
        """Remove files that no row tells of, and half written ones, older than `grace` seconds; how many."""
        before = self._clock.now() - int(grace * SECOND)
        swept = await self._threads.run(partial(self._files.sweep_temporary, before))
        for prefix in range(256):
            listed = await self._threads.run(partial(self._files.listed, prefix))
            old = [digest for digest, found in listed if found.modified <= before]
            for start in range(0, len(old), STEP):
                swept += await self._sweep(old[start : start + STEP])
        return swept

    async def _sweep(self, digests: list[bytes]) -> int:
        strays = await self._store.read(lambda tx: _without_row(tx, digests))
        strays = [digest for digest in strays if self._free(digest)]
        return len(await self._remove(strays, _without_row)) if strays else 0

    def _free(self, digest: bytes) -> bool:
        return digest not in self._landing and digest not in self._leaving

    async def _remove(
        self, digests: Collection[bytes], decide: Callable[[Tx, Iterable[bytes]], list[bytes]]
    ) -> list[bytes]:
        """`decide` in the writer which of these go, then unlink them; meanwhile nobody may write them."""
        for digest in digests:
            self._leaving[digest] = []
        try:
            gone = await self._store.write(lambda tx: decide(tx, digests))
            self._recent.forget(gone)
            if gone:
                await self._threads.run(lambda: self._files.remove(gone))
            return gone
        finally:
            for digest in digests:
                for waiter in self._leaving.pop(digest):
                    if not waiter.called:
                        waiter.callback(None)

    # --- sound? ---

    async def verify(self) -> AsyncIterator[Fault]:
        """Read and hash every chunk on record; those that are missing or damaged."""
        after = b""
        while page := await self._page(after):
            for digest, size in page:
                what = await self._fault(digest, size)
                fault = await self._affected(digest, size, what) if what else None
                if fault is not None:
                    yield fault
            after = page[-1][0]

    def _page(self, after: bytes) -> Deferred[list[tuple[bytes, int]]]:
        return self._store.read(lambda tx: chunks.page(tx, after, PAGE))

    async def _fault(self, digest: bytes, size: int) -> str:
        if size > SMALL:
            return await self._threads.run(lambda: self._files.fault(digest, size))
        found = await self._store.read(lambda tx: chunks.data(tx, digest))
        if found is None:
            return ""  # removed since
        piece = found[1]
        if piece is None:
            return "its bytes are not in the database"
        return "" if len(piece) == size and of_chunk(piece) == digest else "its bytes have changed"

    async def _affected(self, digest: bytes, size: int, what: str) -> Fault | None:
        """The fault with everybody who refers to the chunk; None when it has been removed meanwhile."""

        def look(tx: Tx) -> Fault | None:
            if chunks.data(tx, digest) is None:
                return None
            return Fault(digest, size, what, tuple(references.who(tx, digest)))

        return await self._store.read(look)


def _without_row(tx: Tx, digests: Iterable[bytes]) -> list[bytes]:
    digests = list(digests)
    known = chunks.known(tx, 0, digests)
    return [digest for digest in digests if digest not in known]
