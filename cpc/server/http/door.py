"""The people's door as a whole: connections, limits, figures about itself, opening and closing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import ServerFactory

from cpc.core.chance import Chance
from cpc.core.clock import SECOND, Clock, Timers
from cpc.core.errors import RateLimited
from cpc.server.http import openapi
from cpc.server.http.channel import Channel
from cpc.server.http.request import Request
from cpc.server.http.router import Router
from cpc.server.http.routes import ROUTES
from cpc.server.http.serve import Desk
from cpc.server.http.services import Services
from cpc.server.metrics import Metrics
from cpc.wire.secure import SecureFactory


def over_tls(door: Door, tls: IOpenSSLServerConnectionCreator, reactor: IReactorTime) -> SecureFactory:
    """The factory to listen with on port 14807. `tls` is a cpc.wire.tls.PeopleTls."""
    return SecureFactory(tls, False, door, reactor)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken from one client, and how long it is waited for (seconds)."""

    header_seconds: float = 20.0  # the TLS handshake and the head of a request
    idle_seconds: float = 75.0  # between two requests
    stall_seconds: float = 60.0  # a reader that takes nothing
    comment_seconds: float = 15.0  # a sign of life in a stream
    connections: int = 4000
    connections_per_address: int = 1000
    streams_per_user: int = 50


class Door(ServerFactory):  # type: ignore[misc, unused-ignore]
    """A factory for the connections of port 14807; `over_tls` is what to listen with."""

    noisy = False

    def __init__(
        self,
        services: Services,
        *,
        reactor: Timers,
        clock: Clock,
        chance: Chance,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        self.services = services
        self.reactor = reactor
        self.clock = clock
        self.metrics = metrics
        self.limits = limits or Limits()
        self._chance = chance
        self._desk = Desk(services, Router(ROUTES))
        self._channels: set[Channel] = set()
        self._addresses: Counter[str] = Counter()
        self._requests: set[Request] = set()
        self._streams: Counter[int] = Counter()
        self._closing: list[Deferred[None]] = []
        self._closed = False
        self._date = (-1, b"")

    @cached_property
    def description(self) -> bytes:
        """All calls, for tools: made when somebody asks for it, and then kept."""
        return openapi.document(ROUTES)

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        """A channel for a new connection."""
        channel = Channel(self)
        channel.factory = self
        return channel

    # --- from the channels and requests ---

    def opened(self, channel: Channel) -> bool:
        """Whether the connection may stay."""
        limits = self.limits
        self._channels.add(channel)
        self._addresses[channel.host] += 1
        return (
            not self._closed
            and len(self._channels) <= limits.connections
            and self._addresses[channel.host] <= limits.connections_per_address
        )

    def closed(self, channel: Channel) -> None:
        """The connection is gone."""
        if channel in self._channels:
            self._channels.remove(channel)
            self._addresses[channel.host] -= 1
            if not self._addresses[channel.host]:
                del self._addresses[channel.host]
        self._check_closed()

    def serve(self, request: Request) -> None:
        """The head of a request is there, and of what has no body, all of it."""
        request.id = self._chance.token(8).hex()
        request.begun = self.clock.monotonic()
        self._requests.add(request)
        self._desk.serve(request)

    def answered(self, request: Request) -> None:
        """The answer is written, or nobody waits for it any more."""
        if request in self._requests:
            self._requests.remove(request)
            code = 499 if request.gone else request.code
            spent = self.clock.monotonic() - request.begun
            self.metrics.http(request.route or "unknown", request.method, code, spent)
            if self._closed and not request.gone:
                request.channel.persistent = False

    def log(self, request: Request) -> None:
        """twisted.web's access log: not kept, the figures and the audit have what matters."""

    def date(self) -> bytes:
        """The time for the Date header."""
        second = self.clock.now() // SECOND
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    @contextmanager
    def one_more_stream(self, user: int) -> Iterator[None]:
        """Count a stream of a user while it lasts; RateLimited when there are too many."""
        if self._streams[user] >= self.limits.streams_per_user:
            raise RateLimited(f"you have {self._streams[user]} streams open, as many as are possible", "close one")
        self._streams[user] += 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    # --- opening and closing ---

    async def close(self, patience: float = 5.0) -> None:
        """End streams and waits, let other calls finish for `patience` seconds, then cut what is left.

        Stop listening first.
        """
        self._closed = True
        for request in list(self._requests):
            request.stop()
        for channel in list(self._channels):
            channel.finish_soon()
        if not self._channels:
            return
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        timer = self.reactor.callLater(patience, self._cut)
        await done
        if timer.active():
            timer.cancel()

    def _cut(self) -> None:
        for channel in list(self._channels):
            channel.abort()

    def _check_closed(self) -> None:
        if self._closed and not self._channels:
            closing, self._closing = self._closing, []
            for done in closing:
                done.callback(None)
