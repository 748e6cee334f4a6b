"""What a peer may bring into quarantine: results that this server, restored from a backup, does not know.

Whether they are what they say nobody can tell. So they count against the peer, and not against the projects of their jobs, and
each peer has so much room and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.clock import Clock
from cpc.core.errors import Refused
from cpc.server import settling
from cpc.server.queue import Queue
from cpc.server.storage import show_size
from cpc.store import attempts, jobs
from cpc.store.transaction import Tx
from cpc.wire.messages import Result, Settled

SETTING = "quarantine_limit"
MOST = 10_000  # results of one peer, however small
DAY = 86400.0  # seconds that chunks are kept for a result that has not come
NEVER = "it was never given out by this server"


class Quarantine:
    """`limit`: bytes that one peer may have there. `called`: how people call it."""

    def __init__(self, queue: Queue, clock: Clock, limit: Callable[[], int], called: Callable[[str], str]) -> None:
        self._queue = queue
        self._clock = clock
        self._limit = limit
        self._called = called
        self._full: set[str] = set()  # of whom it has been said
        self._came: dict[str, tuple[float, int]] = {}  # bytes of chunks that were sent ahead, and since when

    def refuse(self, tx: Tx, peer: str, results: Sequence[Result]) -> list[Settled]:
        """In a unit: which of these, that no attempt of ours has left, are not taken, and why in words."""
        refused: list[Settled] = []
        left: tuple[int, int] | None = None
        full = False
        for result in results:
            lease = result.lease
            known = jobs.get(tx, lease.job) or jobs.done(tx, lease.job)
            if not 0 < lease.incarnation < self._queue.incarnation:
                verdict, words = ("dropped", NEVER) if known else ("gone", "")  # it may have been deleted
                refused.append(Settled(lease=lease, verdict=verdict, note=words))
                continue
            if not known:
                continue  # nothing of it is kept
            if attempts.result(tx, lease.job, settling.quarantined(lease)) is not None:
                continue  # it is here
            if left is None:
                count, size = attempts.in_quarantine(tx, peer)
                left = (MOST - count, self._limit() - size)
            size = settling.weight(settling.sane(result))
            if left[0] > 0 and size <= left[1]:
                left = (left[0] - 1, left[1] - size)
            else:
                full = True
                refused.append(Settled(lease=lease, verdict="dropped", note=self._words(peer)))
        if left is not None:
            self._say(tx, peer, full)
        return refused

    def check(self, peer: str, size: int) -> None:
        """A chunk of a result that will go there is about to be taken. Refused when so many have come ahead of their results."""
        now = self._clock.monotonic()
        since, came = self._came.get(peer, (now, 0))
        if now - since >= DAY:
            since, came = now, 0
        if came + size > self._limit():
            raise Refused(self._words(peer), f"its administrator may raise {SETTING}")
        self._came[peer] = (since, came + size)

    def not_taken(self, peer: str, size: int) -> None:
        """It was not taken after all, and will come again."""
        since, came = self._came.get(peer, (0.0, 0))
        self._came[peer] = (since, max(0, came - size))

    def _words(self, peer: str) -> str:
        return f"{self._called(peer)} may have {show_size(self._limit())} in quarantine, and this is more"

    def _say(self, tx: Tx, peer: str, full: bool) -> None:
        """In the events, but not with each result."""
        if full and peer not in self._full:
            tx.event("server", "quarantine.full", server=peer, limit=self._limit())
        if full:
            tx.after(lambda: self._full.add(peer))
        else:
            tx.after(lambda: self._full.discard(peer))
