"""Chunks of other servers' files that went through here: kept for a while, so that each crosses each link once.

    ask the owner (have)  ──▶ granted ──▶ from memory or disk
    ask the owner         ──▶ the chunk ──▶ checked ──▶ to who asked, to all who asked meanwhile, and to disk

Nothing is given without the owner's word for each who asks: what is cached saves bytes, not questions. The word of an owner is
good for what has come by the way to it, and for nothing else: whoever speaks for one owner must not get at what another one has
sent. The directory may be removed at any time; every chunk is checked by its digest when it is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.digest import CHUNK, DIGEST_SIZE, of_chunk
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused
from cpc.core.offload import Offload
from cpc.core.pieces import Data
from cpc.spool.cache import Cache
from cpc.spool.disk import Disk

DIRECTORY = "relay-cache"
LANDING = 8 << 20  # bytes on their way to disk; beyond, whoever brings more waits for them
SMALL = 64 << 10  # bytes that are hashed at once; for more a thread is asked

#: Asks on, towards the owner. True: only whether the chunk may be given, the answer is without data.
Ask = Callable[[bool], Awaitable[Data]]

_log = Logger()


@dataclass(slots=True)
class _Flight:
    """A chunk that is being fetched; `data` from when it has come until it is on disk."""

    data: Data | None = None
    waiting: list[Deferred[Data | None]] = field(default_factory=list)

    def join(self) -> Deferred[Data | None]:
        """The chunk, when it has come; None when it does not come."""
        came: Deferred[Data | None] = Deferred()
        if self.data is not None:
            came.callback(self.data)
        else:
            self.waiting.append(came)
        return came

    def arrived(self, data: Data | None) -> None:
        """Tell who waits; None: it did not come."""
        self.data = data
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(data)


class RelayCache:
    """`limit` bytes at most are kept in `directory`; 0: nothing is, but who asks for the same chunk at once shares it."""

    def __init__(self, disk: Disk, directory: str, limit: Callable[[], int], offload: Offload) -> None:
        self._disk = disk
        self._directory = directory
        self._limit = limit
        self._offload = offload
        self._cache: Cache | None = None
        self._flights: dict[bytes, _Flight] = {}  # by `kept_as`
        self._landing = 0
        self.hits = 0  # chunks given without being sent here once more
        self.saved = 0  # their bytes

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._cache.size if self._cache is not None else 0

    @property
    def in_hand(self) -> int:
        """Bytes in memory that have come and are not on disk yet."""
        return self._landing

    async def open(self) -> None:
        """Look at what is there. A directory that cannot be read is emptied; if that fails, nothing is kept."""
        cache = Cache(self._disk, self._directory, self._limit(), self._offload)
        try:
            await self._offload(lambda: self._open(cache))
        except OSError as error:
            _log.warn("the relay cache {place} is off: {error}", place=self._directory, error=error)
            return
        self._cache = cache
        await cache.shrink(cache.limit)

    def _open(self, cache: Cache) -> None:
        try:
            cache.open()
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.remove_tree(self._directory)
            with contextlib.suppress(OSError):
                self._disk.unlink(self._directory)
            cache.open()

    async def resize(self) -> None:
        """The limit has changed."""
        if self._cache is not None:
            self._cache.limit = self._limit()
            await self._cache.shrink(self._cache.limit)

    async def fetch(self, way: str, digest: bytes, ask: Ask, most: int = 0) -> Data:
        """The chunk, checked, once the owner has granted it to who asks. Damaged when what came is another one.

        `way`: the ids of the servers from the next one to the owner, joined by "/". Nothing of more than `most` bytes is read
        here, if that is not 0.
        """
        if len(digest) != DIGEST_SIZE:
            raise BadInput("a SHA-256 has 32 bytes")
        name = kept_as(way, digest)
        while True:
            flight = self._flights.get(name)
            if flight is None and (self._cache is None or name not in self._cache):
                return await self._bring(name, digest, ask)
            came = flight.join() if flight is not None else None
            await ask(True)
            data = await came if came is not None else await self._read(name, digest, most)
            if data is not None:
                self.hits += 1
                self.saved += len(data)
                return data

    async def _read(self, name: bytes, digest: bytes, most: int) -> Data | None:
        size = self._cache.size_of(name) if self._cache is not None else 0
        if most and size > most:
            raise Refused(f"chunk {digest.hex()} has {size} bytes, and {most} were asked for")
        found = await self._cache.get(digest, name) if self._cache is not None else None
        return found

    async def _bring(self, name: bytes, digest: bytes, ask: Ask) -> Data:
        flight = self._flights[name] = _Flight()
        try:
            data = await ask(False)
            await self._check(digest, data)
        except BaseException:
            del self._flights[name]
            flight.arrived(None)
            raise
        flight.arrived(data)
        if self._cache is None or not self._cache.limit:
            del self._flights[name]
            return data
        self._landing += len(data)
        landing = ensureDeferred(self._land(name, data))
        if self._landing > LANDING:
            await landing
        return data

    async def _land(self, name: bytes, data: Data) -> None:
        assert self._cache is not None
        try:
            await self._cache.put(name, data)
        except (OSError, CopernicusError) as error:
            _log.warn("a chunk could not be cached: {error}", error=error)
        finally:
            self._landing -= len(data)
            del self._flights[name]

    async def _check(self, digest: bytes, data: Data) -> None:
        if len(data) > CHUNK:
            raise Damaged(f"a chunk has at most {CHUNK} bytes; the next server sent {len(data)}")
        found = of_chunk(data) if len(data) <= SMALL else await self._offload(lambda: of_chunk(data))
        if found != digest:
            raise Damaged(
                f"the next server sent something else than chunk {digest.hex()}",
                "ask its administrator: cpc-server doctor",
            )


def kept_as(way: str, digest: bytes) -> bytes:
    """By what a chunk is known here that has come by this way."""
    return of_chunk(way.encode() + b"\0" + digest)
