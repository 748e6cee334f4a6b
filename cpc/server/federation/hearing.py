"""When the homes of borrowed workers were heard of, and looks for those that are silent.

By way, not by home: one way may be cut while another is not, and who the home is, the neighbour says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import ensureDeferred

from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.server.federation.ways import Ways
from cpc.server.queue import Queue
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.peer_messages import Ping, Pong

PROBE = 30.0  # seconds between looks for a home that is silent


class Hearing:
    """All times are by the lease clock. In units: `answers`, when a silent home is there after all, and `closed`, with
    why, when trust has ended anywhere on the way."""

    def __init__(
        self, queue: Queue, store: Store, ways: Ways, answers: Callable[[tuple[str, ...]], None],
        closed: Callable[[Tx, tuple[str, ...], str], None],
    ) -> None:  # fmt: skip
        self._queue = queue
        self._store = store
        self._ways = ways
        self._answers = answers
        self._closed = closed
        self._heard: dict[tuple[str, ...], float] = {}
        self._probed: dict[tuple[str, ...], float] = {}  # silent: when it was looked for
        self._promised: dict[tuple[str, ...], float] = {}  # the heartbeat time by which it was last told to report

    def note(self, back: tuple[str, ...]) -> None:
        """It is heard of now, by this way. What is promised to one that has not reported yet is what counts now."""
        self._heard[back] = self._queue.now
        self._promised.setdefault(back, self._queue.limits.heartbeat_time)

    def promise(self, back: tuple[str, ...]) -> float:
        """It is told by which heartbeat time to report: what that is."""
        self._promised[back] = self._queue.limits.heartbeat_time
        return self._promised[back]

    def promised(self, back: tuple[str, ...]) -> float:
        """By which heartbeat time it reports, as far as it knows; 0.0: it has not reported yet."""
        return self._promised.get(back, 0.0)

    def forget(self, back: tuple[str, ...]) -> None:
        """Nothing is lent by this way any more."""
        self._promised.pop(back, None)
        self._heard.pop(back, None)
        self._probed.pop(back, None)

    def last(self, back: tuple[str, ...]) -> float:
        """When it was heard of by this way; it has a full period from our start on."""
        return self._heard.get(back, 0.0)

    def silent(self, back: tuple[str, ...]) -> bool:
        """Whether it was not heard of for a heartbeat time."""
        span = max(self._queue.limits.heartbeat_time, self.promised(back))
        return self.last(back) < self._queue.lease_clock.reading - span

    def look(self, tx: Tx, ways: Iterable[tuple[str, ...]]) -> None:
        """Those that say nothing for half a heartbeat time are asked whether they are there."""
        now, limit = self._queue.now, self._queue.limits.heartbeat_time / 2
        for back in dict.fromkeys(ways):
            if back and now - self.last(back) > limit and now - self._probed.get(back, -PROBE) >= PROBE:
                self._probed[back] = now
                tx.after(lambda back=back: self._probe(back))  # type: ignore[misc]

    def _probe(self, back: tuple[str, ...]) -> None:
        """A home that is there answers for its workers: what it does not name within a heartbeat time, they do not have.
        Trust that has ended anywhere on the way ends what runs there."""

        async def ask() -> None:
            try:
                await self._ways.ask_far(back, "ping", Ping(), Pong, PROBE / 2)
                await self._store.write(lambda tx: self._answers(back))
                self.note(back)
            except Refused as error:
                words = f"the way to its worker's server is closed: {error.message}"
                await self._store.write(lambda tx: self._closed(tx, back, words))
            except CopernicusError:
                pass  # it is away; its jobs may run on for `peer_grace`

        ensureDeferred(ask()).addErrback(lambda failure: failure.trap(Unavailable))
