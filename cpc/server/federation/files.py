"""Files of jobs that run at another server's workers: at the workers' home, on the way, and at the jobs' owner.

    worker ─ chunk-get ─▶ home ─ far-chunk-get ─▶ relay ─ far-chunk-get ─▶ owner: may this lease have it?
                          cache ◀─────────────── cache ◀────────────────── the chunk, or only yes

The owner decides on every read: the worker that runs the attempt now gets the files of its job, by which is meant what the job
was given, and what was sent for it or left by it. Whatever else is in the owner's store is to a peer as if it were not there: it
may not be read, it is missing when it is asked for, and no result may name it before it was sent (`references.of_job`).

A server on the way that has the chunk in its cache asks with `have` and answers by itself, so a chunk crosses each link once;
what is put goes to the owner's disk before it is answered, or, while the owner is away, into the home's custody. That may also
be for an attempt that is over, since a late success is not thrown away: a home answers for its workers, and the owner checks
that the lease is, or was, one of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from cpc.core.digest import DIGEST_SIZE
from cpc.core.errors import Refused, Unavailable
from cpc.core.lease import Lease
from cpc.core.pieces import Data
from cpc.server.bulk import Former, JobFiles, Place
from cpc.server.federation.borrowed import key_of, way_of
from cpc.server.federation.cache import RelayCache
from cpc.server.federation.custody import Custody
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.ways import Caller, Passing, Ways
from cpc.store import workers
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire import frames
from cpc.wire.calls import MARGIN, answer_of
from cpc.wire.messages import ChunkData, ChunkList, Message
from cpc.wire.peer_messages import FarChunkGet, FarChunkPut, FarMissing

#: Seconds for one chunk through all hops; a worker waits a little longer for its home.
FAR_TIME = 240.0
MISSING_TIME = 60.0
EACH = DIGEST_SIZE + 8  # bytes of a digest in an answer
#: The way to an owner is cut, or a server on it does not serve it any more. Whether the owner wants the result after all, it
#: says when it gets it.
AWAY = (Unavailable, Refused)


class Nothing(Message, frozen=True):
    """An empty answer."""


async def _nobody_else(_worker: int, _lease: Lease) -> bool:
    return True


class HomeFiles:
    """What our workers read and write of other servers' jobs (see `cpc.server.bulk.FarFiles`)."""

    def __init__(self, ways: Ways, cache: RelayCache, custody: Custody) -> None:
        self.speaks: Callable[[int, Lease], Awaitable[bool]] = _nobody_else  # whether the lease is no other worker's
        self._ways = ways
        self._cache = cache
        self._custody = custody
        self._doubted: set[str] = set()  # ways to owners by which the last chunk did not get there

    async def get(self, worker: int, lease: Lease, digest: bytes, size: int = 0) -> Data:
        """A chunk of an input or checkpoint, of `size` bytes if that is known; the owner's refusal; Unavailable while the way is
        cut."""
        await self._check(worker, lease)
        question = FarChunkGet(lease=lease.of_owner(), worker=worker, digest=digest)

        async def ask(have: bool) -> Data:
            asked = msgspec.structs.replace(question, have=have)
            route, most = self._route(lease), MARGIN if have else answer_of(size)
            return (await self._ways.ask_far(route, "far-chunk-get", asked, ChunkData, FAR_TIME, True, most)).data

        return await self._cache.fetch(lease.path, digest, ask, size)

    async def put(self, worker: int, lease: Lease, digest: bytes, data: Data) -> None:
        """A chunk of a result or checkpoint: on the owner's disk, or while that is away on ours. Unavailable when it has left and
        did not get there: its worker sends it again.

        What has left is not held, or a gateway would hold all that is under way. Only where a way is in doubt.
        """
        await self._check(worker, lease)
        question = FarChunkPut(lease=lease.of_owner(), worker=worker, digest=digest, data=data)
        kept: Data | None = data
        try:
            asked = self._ways.ask_far(self._route(lease), "far-chunk-put", question, Nothing, FAR_TIME, True, MARGIN)
            del question, data
            if lease.path not in self._doubted:
                kept = None
            await asked
            self._doubted.discard(lease.path)
        except AWAY as error:
            self._doubted.add(lease.path)
            if kept is None:
                raise Unavailable(f"a chunk has not got to the owner of the job: {error}", "send it again") from None
            await self._custody.put_chunk(lease, digest, kept)

    async def missing(self, worker: int, lease: Lease, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Those that the owner lacks; while it is away, those that our custody lacks."""
        await self._check(worker, lease)
        question = FarMissing(lease=lease.of_owner(), worker=worker, digests=digests)
        try:
            most = MARGIN + EACH * len(digests)
            answer = await self._ways.ask_far(
                self._route(lease), "far-missing", question, ChunkList, MISSING_TIME, True, most
            )
        except AWAY:
            return self._custody.missing(lease, digests)
        return answer.digests

    async def _check(self, worker: int, lease: Lease) -> None:
        """The owner trusts us to know which of our workers it is. One that is not known is of a worker that was here before,
        whose results another one hands in."""
        if not await self.speaks(worker, lease):
            raise Refused(f"{lease} is not this worker's")

    def _route(self, lease: Lease) -> tuple[str, ...]:
        return (self._ways.here, *lease.route)


class RelayedFiles:
    """Chunks of others that pass through here on their way to a worker."""

    def __init__(self, cache: RelayCache) -> None:
        self._cache = cache

    def serve(self, ways: Ways) -> None:
        """Look into what passes through."""
        ways.hook("far-chunk-get", self._get)

    async def _get(self, passing: Passing) -> frames.Body:
        question = frames.decode(passing.body, FarChunkGet, "far-chunk-get")
        if question.have:
            return frames.raw(await passing.pass_on())

        async def ask(have: bool) -> Data:
            asked = msgspec.structs.replace(question, have=have)
            came = await passing.pass_on(msgspec.msgpack.encode(asked))
            return frames.decode(came, ChunkData, "far-chunk-get").data

        way = "/".join(passing.route[len(passing.caller.route) :])
        data = await self._cache.fetch(way, question.digest, ask, _data_of(passing.caller))
        return frames.body(ChunkData(data=data))


class OwnerFiles:
    """Our files, for workers of other servers that run our jobs."""

    def __init__(self, files: JobFiles, store: Store, quarantine: Quarantine) -> None:
        self._files = files
        self._quarantine = quarantine
        self._former = Former(files, store)

    def serve(self, ways: Ways) -> None:
        """Answer the homes."""
        ways.serve("far-chunk-get", FarChunkGet, self._get, far=True, bulk=True)
        ways.serve("far-chunk-put", FarChunkPut, self._put, far=True, bulk=True)
        ways.serve("far-missing", FarMissing, self._missing, far=True, bulk=True)

    async def _place(self, caller: Caller, lease: Lease, number: int | None = None) -> Place:
        """Of an attempt that was given by this way; with `number`, to this worker of the home."""
        way = way_of(caller.back)

        def mine(tx: Tx, worker: int) -> bool:
            row = workers.get(tx, worker)
            if row is None or row.bundle or row.boot != way:  # see `Owner._join`
                return False
            return number is None or row.fingerprint == key_of(caller.back, number)

        place = await self._former.place(f"{way} {number}", lease, mine)
        return place if place.quarantine else Place(place.project, lease.job)

    async def _get(self, caller: Caller, question: FarChunkGet) -> ChunkData:
        lease = question.lease.of_owner()
        place = await self._place(caller, lease, question.worker)
        place.check_read(lease)
        if place.project and self._files.running(lease) is None:
            raise Unavailable(f"{lease} is not the current attempt of its job any more", "its worker is told to end it")
        if question.have:
            await self._files.check(place, question.digest)
            return ChunkData(data=b"")
        data = await self._files.get(place, lease, question.digest, _data_of(caller))
        return ChunkData(data=data)

    async def _put(self, caller: Caller, question: FarChunkPut) -> None:
        lease = question.lease.of_owner()
        place = await self._place(caller, lease)
        size = len(question.data) if place.quarantine else 0
        if size:
            self._quarantine.check(caller.peer, size)
        try:
            await self._files.put(place, lease, question.digest, question.data)
        except Exception:
            if size:
                self._quarantine.not_taken(caller.peer, size)
            raise

    async def _missing(self, caller: Caller, question: FarMissing) -> ChunkList:
        place = await self._place(caller, question.lease.of_owner())
        return ChunkList(digests=await self._files.missing(place, question.digests))


def _data_of(caller: Caller) -> int:
    """Bytes that a chunk for this one may have; 0: it has not said."""
    return max(1, caller.most - MARGIN) if caller.most else 0
