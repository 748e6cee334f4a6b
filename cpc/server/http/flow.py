"""A long answer that goes no faster than its reader: a push producer that a coroutine can wait on."""

# mypy: allow-untyped-calls

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from cpc.core.clock import Timer, Timers
from cpc.server.http.body import Gone
from cpc.server.http.request import Request


@implementer(IPushProducer)
class Flow:
    """Registered with the request while it lives. A reader that takes nothing for `stall` seconds is cut off."""

    def __init__(self, request: Request, reactor: Timers, stall: float) -> None:
        self._request = request
        self._reactor = reactor
        self._stall = stall
        self._paused = False
        self._stopped = False
        self._waiter: Deferred[None] | None = None
        self._timer: Timer | None = None

    def __enter__(self) -> Flow:
        self._request.registerProducer(self, True)
        if self._request.channel.held_back:
            self.pauseProducing()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_timer()
        if not self._request.gone:
            self._request.unregisterProducer()

    @property
    def paused(self) -> bool:
        """Whether the reader is behind."""
        return self._paused

    async def write(self, data: bytes) -> None:
        """Send, then wait until the reader has kept up. Raises Gone when there is no reader any more."""
        if self._over():
            raise Gone
        self._request.write(data)
        while self._paused and not self._over():
            self._waiter = Deferred()
            await self._waiter
        if self._over():
            raise Gone

    async def let_others(self) -> None:
        """Let a turn of the reactor pass: what is at hand would otherwise be sent in one go, and everybody else wait."""
        turn: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._reactor.callLater(0, turn.callback, None)
        await turn

    def _over(self) -> bool:
        return self._stopped or self._request.gone

    def pauseProducing(self) -> None:
        self._paused = True
        if self._timer is None:
            self._timer = self._reactor.callLater(self._stall, self._cut)

    def resumeProducing(self) -> None:
        self._paused = False
        self._stop_timer()
        self._wake()

    def stopProducing(self) -> None:
        self._stopped = True
        self._stop_timer()
        self._wake()

    def _cut(self) -> None:
        self._timer = None
        self._request.abort()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
