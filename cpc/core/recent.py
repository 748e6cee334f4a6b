"""Chunks that have just come, in memory: whoever needs them next nearly always does so within a second.

They are the bytes that were hashed when they came, so they are neither read from the disk nor hashed again. Nothing here is
needed: what is not here any more comes from the disk.
"""

from __future__ import annotations

from collections.abc import Iterable

from cpc.core.pieces import Data, views

STAY = 60.0  # seconds: nothing is here long enough for memory to go bad
USED = 16 << 20  # bytes: beyond, what has been read to its end goes before the rest


class Recent:
    """At most `most` bytes of chunks, in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: dict[bytes, tuple[float, Data]] = {}
        self._used: dict[bytes, None] = {}  # an ordered set
        self.size = 0  # bytes

    def keep(self, digest: bytes, data: Data, now: float) -> None:
        """A chunk that came at `now` (monotonic). It is not copied, so it must not change."""
        self.forget((digest,))
        if len(data) > self._most:
            return
        self._chunks[digest] = now, data
        self.size += len(data)
        # Most are read once. Memory that comes back soon is used again; new memory is what costs.
        while self.size > USED and self._used:
            self.forget((next(iter(self._used)),))
        while self.size > self._most:
            self.forget((next(iter(self._chunks)),))

    def find(self, digest: bytes, offset: int, length: int) -> bytes | None:
        """`length` bytes from `offset`, fewer at the end; None when the chunk is not here."""
        found = self._chunks.get(digest)
        if found is None:
            return None
        data = found[1]
        if offset + length >= len(data):
            self._used[digest] = None
        return b"".join(views(data, offset, length))

    def forget(self, digests: Iterable[bytes]) -> None:
        """These are not needed any more."""
        for digest in digests:
            found = self._chunks.pop(digest, None)
            self._used.pop(digest, None)
            self.size -= 0 if found is None else len(found[1])

    @property
    def due(self) -> float | None:
        """When the first of what is here has been here for STAY seconds (monotonic); None while nothing is."""
        first = next(iter(self._chunks.values()), None)
        return None if first is None else first[0] + STAY

    def expire(self, now: float) -> None:
        """What came STAY seconds before `now` goes; to be called when it is due, or each minute or so."""
        self.forget([digest for digest, (came, _) in self._chunks.items() if came + STAY <= now])
