"""Files for people and workers: uploads that resume, downloads by range, chunks of results and inputs.

Whoever may read or write a project's files is decided by the gate; what a project may use is decided by its references
(see `cpc.store.references`). Content that came from a worker has been checked chunk by chunk; an uploaded file as a whole
too, so that its digest may be believed by everybody in the project.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred

from cpc.core import ids
from cpc.core.digest import CHUNK, DIGEST_SIZE, Content
from cpc.core.errors import BadInput, NotFound, Refused, TooLarge
from cpc.core.pieces import Data
from cpc.core.views import UploadView
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.server.storage import Storage
from cpc.store import chunks, files, references, uploads
from cpc.store.chunks import Known
from cpc.store.chunkstore import ArrivedMap, ChunkStore
from cpc.store.references import Kind
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.uploads import PART, Upload
from cpc.store.writer import Threads

HASHES = 256  # uploads whose running digest is kept in memory; others are read again at their end
Read = Callable[[int, int], Awaitable[bytes]]
Moved = Callable[[str, int], None]  # ("in" or "out", bytes): for the figures
AHEAD = 2  # chunks read before they are asked for
MAX_DIGESTS = 10_000  # in one question of a worker


def _nobody(direction: str, size: int) -> None:
    """Nobody counts."""


class Reader:
    """The bytes of one content. It holds nothing open; damage is found when it is read."""

    def __init__(self, store: ChunkStore, content: Content, moved: Moved = _nobody) -> None:
        self._store = store
        self._moved = moved
        self.content = content
        self._checked = -1  # the chunk that was hashed last

    @property
    def size(self) -> int:
        """In bytes."""
        return self.content.size

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`: at most `length`, and never beyond the end of a chunk; b"" at the end. Damaged."""
        if offset < 0 or length < 0:
            raise BadInput(f"no such range: {length} bytes from {offset}")
        if offset >= self.size or not length:
            return b""
        index, inside = divmod(offset, CHUNK)
        digest, size = self.content.chunks[index], self.content.chunk_size(index)
        found = await self._store.read(digest, size, inside, length, index == self._checked)
        self._checked = index
        self._moved("out", len(found))
        return found

    async def pieces(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The range in pieces of at most a chunk, in order; the next ones are read while one is being sent."""
        end = self.size if length is None else min(self.size, offset + max(0, length))
        ahead: list[Deferred[bytes]] = []
        try:
            while offset < end or ahead:
                while offset < end and len(ahead) <= AHEAD:
                    size = min(end - offset, CHUNK - offset % CHUNK)
                    ahead.append(ensureDeferred(self.read(offset, size)))
                    offset += size
                yield await ahead.pop(0)
        finally:
            for reading in ahead:
                reading.addErrback(lambda _: None)


@dataclass(slots=True)
class _Whole:
    """The digest of an upload so far: of its first `count` chunks."""

    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    lock: DeferredLock = field(default_factory=DeferredLock)


class Files:
    """The file service. `threads` runs disk work; `storage` says whether there is room."""

    def __init__(
        self, store: Store, chunk_store: ChunkStore, gate: Gate, storage: Storage, threads: Threads
    ) -> None:  # fmt: skip
        self._store = store
        self._chunks = chunk_store
        self._gate = gate
        self._storage = storage
        self._threads = threads
        self._wholes: OrderedDict[int, _Whole] = OrderedDict()
        self.moved: Moved = _nobody

    # --- for people: up ---

    async def announce(self, call: Call, project: str, content: Content) -> UploadView:
        """Begin or resume an upload; done when the project has this file. What it has of the chunks is not sent again.

        BadInput, TooLarge, OverQuota (the project's quota, or the free-space stop), Conflict (too many open).
        """
        uploads.check(content)
        self._storage.check_intake()
        who = call.who

        def unit(tx: Tx) -> UploadView:
            row = self._gate.project(tx, project, who)
            return _view(uploads.announce(tx, row.id, _user(who), content, who.actor))

        view = await self._gate.write(call, Act.FILE_UPLOAD, unit, project=project, answer=UploadView)
        if view.done or view.received < view.size:
            return view
        return await self._finish(await self._upload(who, view.id), who)

    async def part(self, who: Principal, upload: str, offset: int, data: bytes) -> UploadView:
        """Take a part: whole chunks from `offset`, a multiple of 4 MiB; at most 8 MiB. Sent twice is sent once.

        The answer comes when it is on disk. Parts may come in any order and several at a time. BadInput names the chunk
        whose bytes are not what was announced.
        """
        row = await self._upload(who, upload)
        first = _first_chunk(row.content, offset, len(data))
        if row.file:
            return _view(row)
        self._storage.check_intake()
        view = memoryview(data)
        pieces = [view[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
        named = {row.content.chunks[first + index]: piece for index, piece in enumerate(pieces)}

        def record(tx: Tx, arrived: ArrivedMap) -> Upload:
            self._gate.check(tx, who, Act.FILE_UPLOAD, row.project, f"upload {upload}")
            now = uploads.receive(tx, row.id, arrived)
            return uploads.finish(tx, now, who.actor) if now.whole and len(now.content.chunks) == 1 else now

        after = await self._chunks.put(named, record)
        self._took(len(data))
        if not after.file:
            await self._follow(after, first, pieces)
        return await self._finish(after, who) if after.whole else _view(after)

    async def upload(self, who: Principal, upload: str) -> UploadView:
        """How far an upload has come. Ask before reading a part's body: it says whether `who` may send one."""
        return _view(await self._upload(who, upload))

    async def _upload(self, who: Principal, upload: str) -> Upload:
        number, element = ids.read(upload)
        if element:
            raise BadInput(f"{upload!r} is not the id of an upload")

        def unit(tx: Tx) -> Upload:
            row = uploads.get(tx, number)
            self._gate.check(tx, who, Act.FILE_UPLOAD, row.project, f"upload {upload}")
            if not row.file and row.user != _user(who):
                raise NotFound(f"upload {upload} is somebody else's", "announce the file yourself")
            return row

        return await self._gate.read(who, Act.FILE_UPLOAD, unit)

    # --- the digest of the whole ---

    async def _follow(self, upload: Upload, first: int, pieces: list[memoryview]) -> None:
        """Let the running digest take in this part, if it is the next one."""
        whole = self._wholes.setdefault(upload.id, _Whole())
        self._wholes.move_to_end(upload.id)
        while len(self._wholes) > HASHES:
            self._wholes.popitem(last=False)
        await whole.lock.acquire()
        try:
            for index, piece in enumerate(pieces, first):
                if index == whole.count:
                    await self._threads.run(partial(whole.digest.update, piece))
                    whole.count += 1
        finally:
            whole.lock.release()

    async def _finish(self, upload: Upload, who: Principal) -> UploadView:
        """All chunks are here: check the whole, then it is a file. BadInput: it is not what was announced."""
        if upload.file:
            return _view(upload)
        whole = self._wholes.setdefault(upload.id, _Whole())
        await whole.lock.acquire()
        try:
            while whole.count < len(upload.content.chunks):
                size = upload.content.chunk_size(whole.count)
                piece = await self._chunks.read(upload.content.chunks[whole.count], size)
                await self._threads.run(partial(whole.digest.update, piece))
                whole.count += 1
        finally:
            whole.lock.release()
        self._wholes.pop(upload.id, None)
        if whole.digest.digest() != upload.content.digest:
            await self._store.write(lambda tx: uploads.abandon(tx, upload.id))
            raise BadInput(
                f"every chunk is right, but the whole file is not {upload.content.digest.hex()}",
                "it was announced wrongly, or changed while it was read: announce it again",
            )
        return _view(await self._store.write(lambda tx: uploads.finish(tx, upload, who.actor)))

    # --- for people: down ---

    async def open(self, who: Principal, project: str, digest: bytes) -> tuple[int, Read]:
        """A file of the project by its digest: its size, and what reads (offset, length) of it; NotFound.

        Also any single chunk that the project refers to.
        """
        if len(digest) != DIGEST_SIZE:
            raise BadInput("a SHA-256 has 32 bytes")

        def unit(tx: Tx) -> Content:
            row = self._gate.project(tx, project, who)
            found = files.content(tx, row.id, digest)
            if found is None:
                raise NotFound(f"there is no file {digest.hex()} in project {row.name}")
            return found

        reader = self.reader(await self._gate.read(who, Act.FILE_READ, unit, project=project))
        return reader.size, reader.read

    def reader(self, content: Content) -> Reader:
        """Reads a content that the caller has found in a manifest and may give away."""
        return Reader(self._chunks, content, self.moved)

    def _took(self, size: int) -> None:
        self._storage.took(size)
        self.moved("in", size)

    # --- for workers; the caller has checked the lease ---

    async def put_chunk(self, project: int, digest: bytes, data: Data, of: int = 0) -> None:
        """Take a chunk of a result or checkpoint; on disk and pinned for a day when this returns. `of`: the job that it is sent
        for, where a job may use its own only (see `references.of_job`).

        Taken beyond the project's quota, but not when the disk is full: Unavailable, send it again later.
        """
        self._storage.check_floor()

        def record(tx: Tx, arrived: ArrivedMap) -> None:
            owner, _ = uploads.pin_owner(tx, project, of)
            references.arrive(tx, Kind.UPLOAD, owner, project, arrived)

        await self._chunks.put({digest: data}, record)
        self._took(len(data))

    async def missing(self, project: int, digests: Iterable[bytes], of: int = 0) -> tuple[bytes, ...]:
        """Which of these the project lacks, or with `of` are not this job's own. The others are pinned for a day, so that the
        answer stays true."""
        wanted = tuple(dict.fromkeys(digests))
        if len(wanted) > MAX_DIGESTS:
            raise TooLarge(f"{len(wanted)} chunks in one question; at most {MAX_DIGESTS}")
        lacking = await self._store.read(lambda tx: references.missing(tx, project, wanted, of))
        if len(lacking) == len(wanted):
            return lacking

        def unit(tx: Tx) -> tuple[bytes, ...]:
            owner, _ = uploads.pin_owner(tx, project, of)
            here = references.pin(tx, Kind.UPLOAD, owner, project, wanted, of)
            return tuple(digest for digest in wanted if digest not in here)

        return await self._store.write(unit)

    async def has_chunk(self, project: int, digest: bytes, of: int = 0) -> int:
        """The size of a chunk that the project refers to, or with `of` this job; NotFound."""

        def find(tx: Tx) -> Known | None:
            here = not of or digest in references.of_job(tx, project, of, [digest])
            return chunks.known(tx, project, [digest]).get(digest) if here else None

        known = await self._store.read(find)
        if known is None or not known.used:
            raise NotFound(f"chunk {digest.hex()} is not in this {'job' if of else 'project'}")
        return known.size

    async def chunk(self, project: int, digest: bytes, most: int = 0, of: int = 0) -> bytes:
        """A chunk as for `has_chunk`; NotFound. Refused, unread, when it has more than `most` bytes, if that is not 0."""
        size = await self.has_chunk(project, digest, of)
        if most and size > most:
            raise Refused(f"chunk {digest.hex()} has {size} bytes, and {most} were asked for")
        data = await self._chunks.read(digest, size)
        self.moved("out", len(data))
        return data

    # --- for other services ---

    def release(self, tx: Tx, project: int) -> None:
        """The project is being deleted: its files, uploads and pins go in the next rounds of retention."""
        files.release(tx, project)
        uploads.release(tx, project)

    def check_intake(self) -> None:
        """OverQuota while the free-space stop is on: before a submission."""
        self._storage.check_intake()

    async def damaged(self, report: Callable[[str], Awaitable[None] | None]) -> int:
        """Verify every chunk, for `doctor` and backups: a sentence for each that is missing or damaged; how many."""
        count = 0
        async for fault in self._chunks.verify():
            count += 1
            owners = ", ".join(_owner(*who) for who in fault.who[:5]) or "nobody"
            more = f" and {len(fault.who) - 5} more" if len(fault.who) > 5 else ""
            said = report(f"chunk {fault.digest.hex()} ({fault.size} bytes): {fault.what}; used by {owners}{more}")
            if said is not None:
                await said
        return count


def _owner(kind: Kind, owner: int, number: int, project: int) -> str:
    name = ids.show(owner, kind in (Kind.RESULT, Kind.CHECKPOINT) and ids.index(owner) > 0)
    what = {
        Kind.ARRAY_INPUT: f"the inputs of job {name}",
        Kind.RESULT: f"the result of job {name} (attempt {number})",
        Kind.CHECKPOINT: f"the checkpoint of job {name}",
        Kind.FILE: f"file {name}",
        Kind.UPLOAD: "a transfer under way",
        Kind.VALUE: f"value {name} of the network",
        Kind.STEP: f"step {name} of the network",
        Kind.DRAFT: "an open transaction",
    }[kind]
    return f"{what} in project {ids.show(project)}"


def _user(who: Principal) -> int:
    # 0 marks pins; the server's own command line is a principal without a number.
    return who.user or -1


def _view(upload: Upload) -> UploadView:
    return UploadView(
        id=ids.show(upload.id),
        size=upload.content.size,
        received=upload.bytes_received,
        done=upload.file,
        digest=upload.content.digest.hex(),
    )


def _first_chunk(content: Content, offset: int, length: int) -> int:
    """The index of the chunk that a part begins with; BadInput or TooLarge when it cannot be a part of this file."""
    if length > PART:
        raise TooLarge(f"a part of {length} bytes; at most {PART} are taken", "send the file in parts of 4 or 8 MiB")
    if offset < 0 or offset % CHUNK:
        raise BadInput(f"a part cannot begin at offset {offset}", f"offsets are multiples of {CHUNK}")
    end = offset + length
    if end > content.size:
        raise BadInput(f"the part ends at {end}; the file was announced with {content.size} bytes")
    if not length and content.size:
        raise BadInput("the part is empty")
    if end % CHUNK and end != content.size:
        raise BadInput(f"the part ends at {end}, inside a chunk", f"all parts but the last are multiples of {CHUNK}")
    return offset // CHUNK
