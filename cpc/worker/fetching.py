"""Chunks of one attempt, one after the other as they are written, some of them fetched before their turn.

With one at a time, each would cost a whole way to its owner and back. The one whose turn it is may always be fetched; others
need room in `Early`, which all attempts of the worker share, so what is held in memory does not grow with their number. What
counts are bytes: of small chunks many are on their way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.digest import CHUNK
from cpc.wire.calls import BULK_CALLS, SMALL_CALLS

#: (its digest, its size) → the chunk
Fetch = Callable[[bytes, int], Coroutine[Any, Any, bytes]]

MOST_EARLY = 8 * CHUNK  # bytes of all attempts together
WINDOW = BULK_CALLS * CHUNK  # bytes of one attempt; the connection carries as many at once


class Early:
    """How many bytes may still be fetched before their turn."""

    def __init__(self, most: int = MOST_EARLY) -> None:
        self.left = most

    def take(self, size: int) -> bool:
        """Room for one more of so many bytes, if there is any."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """One is written, or not wanted any more."""
        self.left += size


class InOrder:
    """`await next()` gives these chunks (digest, size), in this order. `close` when no more are wanted, however it ended."""

    def __init__(self, chunks: Iterable[tuple[bytes, int]], fetch: Fetch, early: Early) -> None:
        self._left = deque(chunks)
        self._fetch = fetch
        self._early = early
        self._coming: deque[tuple[Deferred[bytes], int]] = deque()
        self._bytes = 0  # of those that are coming

    async def next(self) -> bytes:
        """The next chunk, or what `fetch` raises for it."""
        if self._coming:
            self._early.give(self._coming[0][1])  # it is its turn
        else:
            self._begin()
        turn, size = self._coming[0]
        while self._left and self._fits(self._left[0][1]) and self._early.take(self._left[0][1]):
            self._begin()
        self._coming.popleft()
        self._bytes -= size
        return await turn

    def _fits(self, size: int) -> bool:
        return len(self._coming) < SMALL_CALLS and self._bytes + size <= WINDOW

    def _begin(self) -> None:
        digest, size = self._left.popleft()
        self._coming.append((ensureDeferred(self._fetch(digest, size)), size))
        self._bytes += size

    def close(self) -> None:
        """What is still on its way counts until it has come; nobody wants it, nor to know what became of it."""
        self._left.clear()
        while self._coming:
            coming, size = self._coming.popleft()
            coming.addBoth(self._came, size)

    def _came(self, _: object, size: int) -> None:
        self._early.give(size)
