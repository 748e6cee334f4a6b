"""Files to and from the server, chunk by chunk, over a connection of their own: a heartbeat never waits behind one.

Everything here goes on after a cut where it stood: a chunk that arrived is not sent again, because the server is asked
what it misses before anything is put.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredLock, ensureDeferred

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.digest import CHUNK, of_chunk
from cpc.core.errors import BadInput, CopernicusError, Damaged, OverQuota, Unavailable
from cpc.core.lease import Lease
from cpc.core.offload import Offload
from cpc.core.recent import Recent
from cpc.spool.cache import Cache
from cpc.spool.disk import Disk
from cpc.wire.calls import BULK_CALLS, MARGIN, SMALL_CALLS, answer_of
from cpc.wire.connection import Connection
from cpc.wire.messages import ChunkData, ChunkGet, ChunkList, ChunkPut, ChunksMissing, Message
from cpc.worker.collecting import Source, check_chunk, read_chunk
from cpc.worker.fetching import Early
from cpc.worker.waiting import Backoff, Budget, Gate, sleep

IN_FLIGHT = BULK_CALLS * CHUNK  # bytes of what is put
ASK_AT_ONCE = 1000
SOON = 32 << 20  # bytes of chunks that were read and are sent soon
LEAST_PAUSE = 1.0  # seconds between two looks at them
CHUNK_TIMEOUT = 300.0

Answer = TypeVar("Answer", bound=Message)
Opener = Callable[[], Awaitable[Connection]]


class Nothing(Message, frozen=True):
    """An empty answer."""


class Stopped(Exception):
    """The attempt or result that this transfer was for is not wanted any more."""


class Transfer:
    """Fetches and puts chunks. `attach` gives it a way to open the bulk connection of the present session."""

    def __init__(
        self, *, disk: Disk, cache: Cache, offload: Offload, reactor: Timers, clock: Clock, chance: Chance
    ) -> None:
        self._disk = disk
        self._cache = cache
        self._offload = offload
        self._reactor = reactor
        self._clock = clock
        self._chance = chance
        self.early = Early()
        self._opener: Gate[Opener] = Gate()
        self._connection: Connection | None = None
        self._door = DeferredLock()
        self._lines = Budget(IN_FLIGHT)
        self.trouble = ""  # why the last call must be repeated, in words
        self._fetching: dict[bytes, list[Deferred[None]]] = {}
        self._fresh = Recent(SOON)
        self._expiry: Timer | None = None

    def will_send(self, fresh: Mapping[bytes, bytes]) -> None:
        """Chunks as they were read when they were hashed: if they are sent soon, they need not be read again."""
        now = self._clock.monotonic()
        for digest, data in fresh.items():
            self._fresh.keep(digest, data, now)
        if self._expiry is None:
            self._expire()

    def _expire(self) -> None:
        """Let go of what was not sent soon: it may be long until the next result comes."""
        now = self._clock.monotonic()
        self._fresh.expire(now)
        due = self._fresh.due
        self._expiry = None if due is None else self._reactor.callLater(max(LEAST_PAUSE, due - now), self._expire)

    def attach(self, opener: Opener) -> None:
        """A session is there: go on."""
        self.detach()
        self._opener.open(opener)

    def detach(self) -> None:
        """The session is gone: what is under way waits for the next one."""
        self._opener.shut()
        self.close()

    def close(self) -> None:
        """End the bulk connection; the next transfer opens one again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close("not needed now")

    async def fetch(self, lease: Lease, digest: bytes, wanted: Callable[[], bool], size: int = 0) -> bytes:
        """One chunk of `size` bytes, if that is known, from the cache or the server, verified. Several jobs that want the same
        one share the way.

        Waits while the server is away; Stopped when `wanted` says no; the server's own refusal is raised.
        """
        while True:
            data = await self._cache.get(digest)
            if data is not None:
                return data
            if digest not in self._fetching:
                break
            waiter: Deferred[None] = Deferred()
            self._fetching[digest].append(waiter)
            await waiter
            if not wanted():
                raise Stopped
        self._fetching[digest] = []
        try:
            question = ChunkGet(lease=lease, digest=digest, size=size)
            answer = await self._ask("chunk-get", question, ChunkData, wanted, answer_of(size))
            if await self._offload(lambda: of_chunk(answer.data)) != digest:
                raise Damaged("the server sent a chunk that is not what was asked for", "see the server's doctor")
            data = bytes(answer.data)
            await self._cache.put(digest, data)
            return data
        finally:
            for each in self._fetching.pop(digest):
                each.callback(None)

    async def upload(self, lease: Lease, parts: Mapping[bytes, Source], wanted: Callable[[], bool]) -> None:
        """Put those of these chunks that the server misses; returns when it has them all on disk.

        Damaged: the worker's disk does not hold a chunk any more. Stopped and refusals as in `fetch`.
        """
        digests = list(parts)
        for start in range(0, len(digests), ASK_AT_ONCE):
            asked = tuple(digests[start : start + ASK_AT_ONCE])
            missing = await self._ask("chunks-missing", ChunksMissing(lease=lease, digests=asked), ChunkList, wanted)
            wants = set(missing.digests)
            self._fresh.forget(each for each in asked if each not in wants)
            await self._put_all(lease, [each for each in missing.digests if each in parts], parts, wanted)

    async def _put_all(
        self, lease: Lease, digests: list[bytes], parts: Mapping[bytes, Source], wanted: Callable[[], bool]
    ) -> None:
        left = iter(digests)

        async def lane() -> None:
            for digest in left:
                size = parts[digest].size
                await self._lines.take(size)
                try:
                    await self._put(lease, digest, parts[digest], wanted)
                finally:
                    self._lines.give(size)

        lanes = [ensureDeferred(lane()) for _ in range(min(SMALL_CALLS, len(digests)))]
        results: list[tuple[bool, Any]] = await DeferredList(lanes, consumeErrors=True)
        for good, failure in results:
            if not good:
                raise failure.value

    async def _put(self, lease: Lease, digest: bytes, source: Source, wanted: Callable[[], bool]) -> None:
        """One chunk. The server hashes what it gets; only if it finds something else is it hashed here too."""
        data = self._fresh.find(digest, 0, source.size)
        self._fresh.forget((digest,))
        if data is None:
            data = await self._offload(lambda: read_chunk(self._disk, source))
        try:
            question = ChunkPut(lease=lease, digest=digest, data=data)
            await self._ask("chunk-put", question, Nothing, wanted, MARGIN)
        except BadInput:
            await self._offload(lambda: check_chunk(self._disk, source, digest))
            raise

    async def _ask(
        self, method: str, body: Message, answer: type[Answer], wanted: Callable[[], bool], most: int = 0
    ) -> Answer:  # fmt: skip
        """One call, repeated while the server is away or cannot take it now. `most`: bytes of the answer, if that is known."""
        backoff = Backoff(self._chance)
        while True:
            if not wanted():
                raise Stopped
            started = self._clock.monotonic()
            connection: Connection | None = None
            try:
                connection = await self._line()
                got = await connection.call(method, body, answer, CHUNK_TIMEOUT, bulk=True, most=most)
                self.trouble = ""
                return got
            except CopernicusError as error:
                # Only a live connection's own answer is a refusal; everything about the way there may change.
                answered = connection is not None and not connection.closed
                if answered and not isinstance(error, Unavailable | OverQuota):
                    raise
                self.trouble = str(error)
                if connection is not None and self._clock.monotonic() - started >= CHUNK_TIMEOUT:
                    connection.close("silent")
            await sleep(self._reactor, backoff.pause())

    async def _line(self) -> Connection:
        """The bulk connection, opened when it is needed."""
        await self._door.acquire()
        try:
            while self._connection is None:
                opener = await self._opener.wait()
                connection = await opener()
                if self._opener.value is not opener:  # the session went away meanwhile
                    connection.close("its session ended")
                    continue
                self._connection = connection
                connection.on_closed(lambda reason, connection=connection: self._lost(connection))  # type: ignore[misc]
            return self._connection
        finally:
            self._door.release()

    def _lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
