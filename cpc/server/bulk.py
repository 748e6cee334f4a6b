"""Files of running jobs, for the machines that run them: chunks of inputs and checkpoints out, of results and checkpoints in.

A worker of ours that has, or had, the lease of a job may touch the files of its project; one of another server those of the job
only (`cpc.server.federation.files`). For an attempt of a life that a restore has undone files are taken, into quarantine, and
none are given, since anybody can name one. `JobFiles` decides and carries that out for jobs of this server; `WorkerFiles` is one
worker's connection, and passes on what belongs to jobs of other servers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from cpc.core.errors import Damaged, Gone, Refused
from cpc.core.lease import Lease
from cpc.core.pieces import Data, Piece
from cpc.queue.session import Running
from cpc.server import settling, unreadable
from cpc.server.queue import Queue
from cpc.server.seats import Seats
from cpc.store import attempts, jobs, references, workers
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire import frames
from cpc.wire.calls import MARGIN, answer_of
from cpc.wire.connection import Connection
from cpc.wire.messages import Bulk, ChunkData, ChunkGet, ChunkList, ChunkPut, ChunksMissing

#: Whether an attempt of this worker, by its number, counts as one of whoever asks.
Mine = Callable[[Tx, int], bool]
MAX_KNOWN = 10_000  # attempts that are over, of which it is remembered whose they are


class Chunks(Protocol):
    """The part of the file service that workers use. All answers are durable. `of`: a job whose own files alone count, see
    `references.of_job`; 0: all of the project's do."""

    def put_chunk(self, project: int, digest: bytes, data: Data, of: int) -> Awaitable[None]: ...
    def get_chunk(self, project: int, digest: bytes, most: int, of: int) -> Awaitable[bytes]:
        """Of at most so many bytes, or it is not read; 0: of any size."""

    def has_chunk(self, project: int, digest: bytes, of: int) -> Awaitable[object]:
        """NotFound where `get_chunk` would say so; nothing is read."""

    def missing(self, project: int, digests: tuple[bytes, ...], of: int) -> Awaitable[tuple[bytes, ...]]: ...
    def full(self) -> str:
        """Why not even results are taken now; empty when they are."""


class FarFiles(Protocol):
    """Files of jobs of other servers, for our worker with this number."""

    def get(self, worker: int, lease: Lease, digest: bytes, size: int) -> Awaitable[Data]: ...
    def put(self, worker: int, lease: Lease, digest: bytes, data: Data) -> Awaitable[None]: ...
    def missing(self, worker: int, lease: Lease, digests: tuple[bytes, ...]) -> Awaitable[tuple[bytes, ...]]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """What an attempt may touch: files of a project (0: its job has been deleted), all of them, or those `of` one job; those
    that came for attempts that nobody here knows (LOST) are in quarantine."""

    project: int
    of: int = 0

    @property
    def quarantine(self) -> bool:
        """Whether nobody here knows who had the attempt, if anybody had it."""
        return self.of == references.LOST

    def check_read(self, lease: Lease) -> None:
        """Refused where nothing may be read."""
        if self.quarantine:
            raise Refused(
                f"{lease} is of a life of this server that a restore has undone; nothing is read for it",
                "its job runs again, and what it has done can be handed in",
            )


class JobFiles:
    """The files of this server's jobs, as their leases give access to them."""

    def __init__(self, queue: Queue, store: Store, chunks: Chunks) -> None:
        self._queue = queue
        self._store = store
        self._chunks = chunks

    def running(self, lease: Lease) -> Running | None:
        """The attempt of this lease, while it runs."""
        run = self._queue.index.running.get(lease.job)
        return run if run is not None and run.lease == lease else None

    def place(self, tx: Tx, lease: Lease, mine: Mine) -> Place:
        """The project whose files an attempt that is over may still touch. Refused."""
        job = jobs.get(tx, lease.job) or jobs.done(tx, lease.job)
        if job is None:
            return Place(0)
        attempt = attempts.get(tx, lease.job, lease.attempt)
        if attempt is None or attempt.incarnation != lease.incarnation:
            # Leased in a life of this server that a restore has undone: its files go into quarantine.
            if not 0 < lease.incarnation < self._queue.incarnation:
                raise Refused(f"{lease} was never given out")
            return Place(job.project, references.LOST)
        if not mine(tx, attempt.worker):
            raise Refused(f"{lease} is not this worker's")
        return Place(job.project)

    async def get(self, place: Place, lease: Lease, digest: bytes, most: int = 0) -> bytes:
        """A chunk, of at most so many bytes if that is not 0; NotFound. When it is damaged, the job that needs it ends, in
        words."""
        try:
            return await self._chunks.get_chunk(place.project, digest, most, place.of)
        except Damaged as error:
            words = str(error)
            await self._store.write(lambda tx: unreadable.give_up(self._queue, tx, lease, digest, words))
            raise

    async def check(self, place: Place, digest: bytes) -> None:
        """NotFound where `get` would say so."""
        await self._chunks.has_chunk(place.project, digest, place.of)

    async def put(self, place: Place, lease: Lease, digest: bytes, data: Data) -> None:
        """Take a chunk; it is on disk when this returns."""
        if not place.project:
            raise Gone(f"the job of {lease} has been deleted")
        await self._chunks.put_chunk(place.project, digest, data, place.of)

    async def missing(self, place: Place, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Those that must be sent; none for a deleted job: its result is reported, and nothing of it is kept."""
        return await self._chunks.missing(place.project, digests, place.of) if place.project else ()


class Former:
    """Places of attempts that are over, so that not every chunk of a late result asks the database. Bounded."""

    def __init__(self, files: JobFiles, store: Store) -> None:
        self._files = files
        self._store = store
        self._known: OrderedDict[tuple[str, Lease], Place] = OrderedDict()

    async def place(self, who: str, lease: Lease, mine: Mine) -> Place:
        """As `JobFiles.place`; `who` is whom `mine` speaks of."""
        key = (who, lease)
        if key not in self._known:
            self._known[key] = await self._store.read(lambda tx: self._files.place(tx, lease, mine))
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return self._known[key]


class WorkerFiles:
    """One worker's connection for files. `far` is asked where a lease has a path; None: there are no other servers."""

    def __init__(
        self, files: JobFiles, store: Store, seats: Seats, far: Callable[[], FarFiles | None], connection: Connection
    ) -> None:
        self._files = files
        self._former = Former(files, store)
        self._store = store
        self._seats = seats
        self._far = far
        self._worker = 0
        connection.serve("bulk", Bulk, self._bulk)
        connection.serve(
            "chunk-get", ChunkGet, self._get, bulk=True,
            most=lambda asked: answer_of(asked.size), whose=lambda asked: asked.lease.path,
        )  # fmt: skip
        connection.serve("chunk-put", ChunkPut, self._put, bulk=True, most=lambda _: MARGIN)
        connection.serve("chunks-missing", ChunksMissing, self._missing)

    async def _bulk(self, connection: Connection, question: Bulk) -> None:
        seat = self._seats.get(question.session)
        row = await self._store.read(lambda tx: workers.by_key(tx, connection.peer_fingerprint))
        if seat is None or row is None or row.id != seat.worker:
            raise Gone("there is no such session of this worker", "say hello again")
        self._worker = row.id
        connection.need_tickets(_owner)

    def _of_others(self, lease: Lease) -> FarFiles | None:
        """Who has the files when they are another server's."""
        if not self._worker:
            raise Refused("say which session this is first")
        if not lease.path:
            return None
        far = self._far()
        if far is None:
            raise Refused(f"{lease} is of another server, and this one knows none")
        return far

    async def _place(self, lease: Lease) -> Place:
        run = self._files.running(lease)
        if run is not None and run.worker == self._worker:
            return Place(run.project)
        return await self._former.place("", lease, self._mine)

    def _mine(self, tx: Tx, worker: int) -> bool:
        return worker == self._worker or settling.same_bundle(tx, worker, self._worker)

    async def _get(self, _connection: Connection, question: ChunkGet) -> ChunkData:
        far = self._of_others(question.lease)
        if far is not None:
            return ChunkData(data=await far.get(self._worker, question.lease, question.digest, question.size))
        place = await self._place(question.lease)
        place.check_read(question.lease)
        data = await self._files.get(place, question.lease, question.digest, question.size)
        return ChunkData(data=data)

    def _put(self, _connection: Connection, question: ChunkPut) -> Awaitable[None]:
        far = self._of_others(question.lease)
        if far is not None:  # who does not hold what it has passed on
            return far.put(self._worker, question.lease, question.digest, question.data)
        return self._put_here(question)

    async def _put_here(self, question: ChunkPut) -> None:
        place = await self._place(question.lease)
        await self._files.put(place, question.lease, question.digest, question.data)

    async def _missing(self, _connection: Connection, question: ChunksMissing) -> ChunkList:
        far = self._of_others(question.lease)
        if far is not None:
            return ChunkList(digests=await far.missing(self._worker, question.lease, question.digests))
        place = await self._place(question.lease)
        return ChunkList(digests=await self._files.missing(place, question.digests))


def _owner(first: Piece, size: int) -> str:
    """Whose files come with a large frame: the way to the owner of the job, or that they are ours."""
    question = frames.peek(first, size, ChunkPut, "chunk-put")
    return question.lease.path if question is not None else ""
