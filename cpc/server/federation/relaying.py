"""Messages with a route: those for this server are answered, others are passed on without looking into them.

What is held for others is bounded by the connections: each takes so many questions and bytes of one peer at a time (see
`cpc.wire.questions`) before it stops reading from it, and each relayed question ends within its time. One-way messages are
dropped when the next server is slow to read. Nothing is kept here. Of a peer's reports one is looked at at a time: the next ones
wait as they came, and count against what its connection may hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.python.failure import Failure

from cpc import __version__
from cpc.core.errors import Refused, Unavailable
from cpc.core.peer import Bound
from cpc.core.pieces import Data
from cpc.queue import terms
from cpc.server.federation.book import Book
from cpc.server.federation.ways import Caller, Handler, Hook
from cpc.wire import frames
from cpc.wire.connection import Connection
from cpc.wire.frames import Body, Envelope
from cpc.wire.messages import Message

RELAY_TIME = 120.0  # seconds: a relayed question without a time of its own
#: Whether a server is there, and how the network is, may be asked by way of peers that lend each other nothing.
LOOKING = frozenset({"ping", "survey"})
#: What a peer asks of this server one after the other. Unpacked, a report is many times what it was on the way.
IN_TURN = frozenset({"report"})
#: What workers are lent by: each server that it passes says on it what it lets those behind it have.
BOUND = frozenset({"report"})


@dataclass(frozen=True, slots=True)
class _Far:
    question: type[Any]
    handler: Handler[Any]
    bulk: bool


@dataclass(frozen=True, slots=True)
class _Passing:
    """A question on its way; see `ways.Passing`."""

    caller: Caller
    envelope: Envelope
    following: Connection
    bulk: bool

    @property
    def route(self) -> tuple[str, ...]:
        return self.envelope.route

    @property
    def body(self) -> Data:
        return self.envelope.body

    def pass_on(self, body: Data | None = None) -> Awaitable[Data]:
        envelope = self.envelope
        if body is not None:
            envelope = Envelope(
                envelope.method, body=body, owner=envelope.owner, route=envelope.route, most=envelope.most
            )
        timeout = min(self.envelope.within or RELAY_TIME, RELAY_TIME)
        return self.following.pass_on(envelope, timeout, self.bulk)


class _Line:
    """What one peer has asked and waits for its turn. No recursion, however many of them end at once."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Connection, Callable[[], Awaitable[Body | None]], Deferred[Body | None]]] = deque()
        self._busy = False

    async def wait(self, connection: Connection, answer: Callable[[], Awaitable[Body | None]]) -> Body | None:
        """What `answer` comes to, in its turn. Nobody is answered any more whose connection has ended meanwhile."""
        done: Deferred[Body | None] = Deferred()
        self._waiting.append((connection, answer, done))
        if not self._busy:
            ensureDeferred(self._work())
        return await done

    async def _work(self) -> None:
        self._busy = True
        while self._waiting:
            connection, answer, done = self._waiting.popleft()
            try:
                if connection.closed:
                    raise Unavailable("the connection was lost")
                said = await answer()
            except Exception:
                done.errback(Failure())
            else:
                done.callback(said)
        self._busy = False


class Relaying:
    """`connection(peer, bulk)` gives the open connection to a neighbour, or None."""

    def __init__(self, book: Book, connection: Callable[[str, bool], Connection | None]) -> None:
        self._book = book
        self._connection = connection
        self._far: dict[str, _Far] = {}
        self._hooks: dict[str, Hook] = {}
        self._lines: dict[str, _Line] = {}
        self.passed = 0  # messages of others, since the start

    def serve(self, method: str, question: type[Any], handler: Handler[Any], bulk: bool) -> None:
        """Answer this method when this server is the end of the route."""
        self._far[method] = _Far(question, handler, bulk)

    def bound(self, method: str, route: tuple[str, ...], place: int) -> tuple[Bound, ...]:
        """What this server, at this place of the route, lets the next one have of the workers that such a message is about."""
        return terms.bound(route, place, self._book.agreement(route[place + 1])) if method in BOUND else ()

    def hook(self, method: str, hook: Hook) -> None:
        """Let `hook` answer questions of this method that pass through."""
        self._hooks[method] = hook

    def routed(self, connection: Connection, envelope: Envelope, bulk: bool) -> Awaitable[Body | None]:
        """A message with a route has come from a peer; the body of the answer.

        What has come is not held while its answer is waited for: none of those on the way is a coroutine that knows it.
        """
        assert connection.peer is not None
        peer, route = connection.peer.server, envelope.route
        place = self._book.check_route(route, peer)
        caller = Caller(peer, route[: place + 1], envelope.most, envelope.bounds)
        if place == len(route) - 1:
            if envelope.method not in IN_TURN:
                return self._answer(caller, envelope, bulk)

            async def answer() -> Body | None:
                self._book.check_route(route, peer)  # trust may have ended while it waited
                return await self._answer(caller, envelope, bulk)

            return self._lines.setdefault(peer, _Line()).wait(connection, answer)
        return self._pass_on(caller, envelope, route[place + 1], bulk)

    def _answer(self, caller: Caller, envelope: Envelope, bulk: bool) -> Awaitable[Body | None]:
        far = self._far.get(envelope.method)
        if far is None or far.bulk is not bulk:
            known = f"release {__version__} does not serve it on this connection"
            raise Refused(f"unknown method {envelope.method!r}", known)
        return _said(far.handler(caller, frames.decode(envelope.body, far.question, envelope.method)))

    def _pass_on(self, caller: Caller, envelope: Envelope, following: str, bulk: bool) -> Awaitable[Body | None]:
        if envelope.method not in LOOKING:
            self._book.check_passing(caller.peer, following)
        connection = self._connection(following, bulk)
        if connection is None:
            raise Unavailable(
                f"{self._book.called(following)} is not connected with server {self._book.here[:8]}", "try again later"
            )
        self.passed += 1
        if own := self.bound(envelope.method, envelope.route, len(caller.route) - 1):
            envelope = msgspec.structs.replace(envelope, bounds=(*envelope.bounds, *own))
        if not envelope.call:
            connection.pass_on_word(envelope)
            return succeed(None)
        passing = _Passing(caller, envelope, connection, bulk)
        hook = self._hooks.get(envelope.method)
        return hook(passing) if hook is not None else _as_it_came(passing.pass_on())


async def _said(answer: Awaitable[Message | None]) -> Body | None:
    said = await answer
    return frames.body(said) if said is not None else None


async def _as_it_came(answer: Awaitable[Data]) -> Body:
    return frames.raw(await answer)
