"""Chunks of one attempt, one after the other as they are written, some of them fetched before their turn.

With one at a time, each would cost a whole way to its owner and back. The one whose turn it is may always be fetched; others
need room in `Early`, which all attempts of the worker share, so what is held in memory does not grow with their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

Fetch = Callable[[bytes], Coroutine[Any, Any, bytes]]

MOST_EARLY = 8  # chunks of all attempts together
WINDOW = 4  # of one attempt; the connection carries as many at once (`cpc.wire.calls.BULK_CALLS`)


class Early:
    """How many chunks may still be fetched before their turn."""

    def __init__(self, most: int = MOST_EARLY) -> None:
        self.left = most

    def take(self) -> bool:
        """Room for one more, if there is any."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def give(self) -> None:
        """One is written, or not wanted any more."""
        self.left += 1


class InOrder:
    """`await next()` gives the chunks with these digests, in this order. `close` when no more are wanted, however it ended."""

    def __init__(self, digests: Iterable[bytes], fetch: Fetch, early: Early) -> None:
        self._left = deque(digests)
        self._fetch = fetch
        self._early = early
        self._coming: deque[Deferred[bytes]] = deque()

    async def next(self) -> bytes:
        """The next chunk, or what `fetch` raises for it."""
        if self._coming:
            self._early.give()  # it is its turn
        else:
            self._begin()
        turn = self._coming.popleft()
        while self._left and len(self._coming) < WINDOW - 1 and self._early.take():
            self._begin()
        return await turn

    def _begin(self) -> None:
        self._coming.append(ensureDeferred(self._fetch(self._left.popleft())))

    def close(self) -> None:
        """What is still on its way counts until it has come; nobody wants it, nor to know what became of it."""
        self._left.clear()
        while self._coming:
            self._coming.popleft().addBoth(lambda _: self._early.give())
