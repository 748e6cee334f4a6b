"""One session with the server: turns over one connection, at most one outstanding, until the connection is lost.

A turn leaves at least every `beat`, and at once when there is something to tell; what happens within one reactor turn
leaves together. While jobs wait here for room, nothing is gained by hurry: then what happens within GATHER seconds does.

What the worker holds is named twice in a beat, not in every turn: hundreds of jobs may wait here, and each turn would name
them all.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Gone, Unavailable
from cpc.wire.connection import Connection
from cpc.wire.messages import Orders, Welcome
from cpc.worker.desk import Desk

FOLLOW_EVERY = 1.0
GATHER = 0.05


class Session:
    """A live session. `run` ends with the error that ended it."""

    def __init__(self, connection: Connection, welcome: Welcome, desk: Desk, reactor: Timers, clock: Clock) -> None:
        self.connection = connection
        self.number = welcome.session
        self.turns = 0  # that were answered
        self._brief = welcome.brief
        self._named_at = float("-inf")  # monotonic: the last turn that named what the worker holds
        self._sent = 0
        self._desk = desk
        self._reactor = reactor
        self._clock = clock
        self._timeout = min(60.0, max(2.0, welcome.heartbeat_time / 3))
        self._dirty = False
        self._gathering = False
        self._waiter: Deferred[None] | None = None
        self._soon: Timer | None = None
        self._timer: Timer | None = None
        connection.on_closed(lambda reason: self._wake())

    async def run(self) -> None:
        """Turn after turn. Raises Unavailable when the connection is lost or silent, and what the server refuses."""
        try:
            while not self.connection.closed:
                self._dirty = False
                sent_at = self._clock.monotonic()
                brief = self._brief and sent_at - self._named_at < self._desk.beat / 2
                turn = self._desk.compose(self._sent + 1, brief)
                try:
                    orders = await self.connection.call("turn", turn, Orders, timeout=self._timeout)
                except (Unavailable, Gone):
                    raise
                except CopernicusError as error:
                    if self.connection.end is not None or not self._desk.refused(turn, error):
                        raise
                    continue
                finally:
                    self._sent += 1
                self.turns += 1
                self._named_at = self._named_at if brief else sent_at
                self._desk.answered(turn)
                self._desk.obey(orders)
                await self._pause(sent_at + self._desk.beat)
            raise self.connection.end or Unavailable("the connection was closed")
        finally:
            self._stop_timers()

    def poke(self) -> None:
        """There is something to tell."""
        self._dirty = True
        if self._waiter is not None and self._soon is None and not self._gathering:
            self._soon = self._reactor.callLater(0, self._wake)

    async def _pause(self, until: float) -> None:
        """Until there is something to tell, or the beat is due."""
        late = self._dirty  # it happened just now, perhaps with more to come in this turn of the reactor
        while not self._dirty and not self.connection.closed:
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            followed = self._desk.followed()
            await self._wait(min(left, FOLLOW_EVERY) if followed else left)
            if followed and self._desk.tails():
                return
        if not self.connection.closed and (late or self._desk.has_work_ahead):
            await self._gather()

    async def _gather(self) -> None:
        """What else happens in this reactor turn goes along; or in a moment, while there is enough to do here."""
        self._gathering = True
        await self._wait(GATHER if self._desk.has_work_ahead else 0)
        self._gathering = False

    async def _wait(self, seconds: float) -> None:
        self._waiter = Deferred()
        self._timer = self._reactor.callLater(seconds, self._wake)
        await self._waiter

    def _wake(self) -> None:
        self._stop_timers()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def _stop_timers(self) -> None:
        for timer in (self._soon, self._timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._soon = self._timer = None
