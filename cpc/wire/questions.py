"""The other side's questions on a connection: which methods are served, and how many handlers run at once.

Of questions with files so many are under way as BULK_BYTES allow (see `calls`): each takes its own bytes, or those that it says
its answer may have.

At most MAX_QUESTIONS calls are held at a time, MAX_MESSAGES with one-way messages, MAX_QUESTION_BYTES of bodies: beyond that
nothing more is read until some are done, so the other side waits. A side that keeps to `calls` never gets there. No handler
starts while ANSWER_BACKLOG bytes of answers wait to be read. A side that asks MAX_UNSERVED times for what is not served here
is not a newer release, but a flood: its connection ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

import cpc
from cpc.core.clock import Timers
from cpc.core.errors import CopernicusError, Refused
from cpc.wire import frames
from cpc.wire.calls import BULK_BYTES, FAR_CALLS, MAX_CALLS, SMALL_CALLS, bulk_weight
from cpc.wire.channel import Channel
from cpc.wire.intake import Intake, Ticket
from cpc.wire.messages import Message

if TYPE_CHECKING:
    from cpc.wire.connection import Connection

Q = TypeVar("Q")
Handler = Callable[["Connection", Q], Awaitable[Message | None]]
Router = Callable[["Connection", frames.Envelope], Awaitable[frames.Body | None]]

MAX_QUESTIONS = MAX_CALLS + FAR_CALLS + SMALL_CALLS
MAX_MESSAGES = 1024
MAX_QUESTION_BYTES = 64 << 20
ANSWER_BACKLOG = 8 << 20
MAX_UNSERVED = 10_000

_log = Logger()


def unknown(_question: object) -> int:
    """Nothing is known of how large the answer will be."""
    return 0


@dataclass(slots=True)
class _Served:
    question: type[Any]
    handler: Handler[Any]
    bulk: bool
    most: Callable[[Any], int] = unknown
    whose: Callable[[Any], str] | None = None

    def about(self, envelope: frames.Envelope) -> tuple[int, str | None]:
        """Bytes of the answer at most, 0: that is not known; and whose files it has, None where that plays no part."""
        if self.most is unknown and self.whose is None:
            return 0, None
        try:
            question = frames.decode(envelope.body, self.question, envelope.method)
        except CopernicusError:
            return 0, None  # and the handler is not called
        return self.most(question), None if self.whose is None else self.whose(question)

    def answer(self, connection: Connection, envelope: frames.Envelope) -> Awaitable[frames.Body | None]:
        question = frames.decode(envelope.body, self.question, envelope.method)
        return _said(self.handler(connection, question), envelope.call)


@dataclass(slots=True)
class _Routed:
    """What has a route: whoever made the connection knows what to do with it."""

    answer: Router
    bulk: bool

    def about(self, envelope: frames.Envelope) -> tuple[int, str | None]:
        """As the envelope says: what is asked is for another server to read. Tickets are for workers."""
        return envelope.most, None


_Answering = _Served | _Routed


@dataclass(slots=True, eq=False)
class _Asked:
    """A question that is not answered yet. Of one with files: what it takes, whose they are if its answer needs a ticket, and
    the tickets that it has for itself and for its answer."""

    served: _Answering
    envelope: frames.Envelope
    weight: int = 0
    whose: str | None = None
    ticket: Ticket | None = None
    out: Ticket | None = None


class Questions:
    """What is served on one connection, and what of it is under way."""

    def __init__(self, connection: Connection, channel: Channel, reactor: Timers) -> None:
        self._connection = connection
        self._channel = channel
        self._reactor = reactor
        self.intake: Intake | None = None  # where large answers need tickets
        self._served: dict[str, _Served] = {}
        self._signs: set[str] = set()  # one-way messages that say nothing but that they came
        self._routed: _Routed | None = None
        self._inbox: deque[_Asked] = deque()
        self._bulk_inbox: deque[_Asked] = deque()
        self._tickets: set[Ticket] = set()  # of questions that are not answered yet
        self._bulk_running = 0
        self._bulk_bytes = 0
        self._calls = 0
        self._messages = 0
        self._bytes = 0
        self._unserved = 0
        self._most = MAX_QUESTION_BYTES
        self._ended = False

    def __len__(self) -> int:
        """How many calls of the other side are not answered yet."""
        return self._calls

    def serve(
        self, method: str, question: type[Q], handler: Handler[Q] | None, bulk: bool, most: Callable[[Q], int] = unknown,
        whose: Callable[[Q], str] | None = None,
    ) -> None:  # fmt: skip
        """Answer `method` from now on."""
        if handler is None:
            self._signs.add(method)
        else:
            self._served[method] = _Served(question, handler, bulk, most, whose)

    def route(self, router: Router, bulk: bool) -> None:
        """Give what has a route to `router` from now on."""
        self._routed = _Routed(router, bulk)

    def asked(self, envelope: frames.Envelope) -> None:
        """A question or one-way message has come. Refused when too many came that are not served here."""
        if envelope.method in self._signs and not (envelope.call or envelope.owner):
            return
        served: _Answering | None = self._served.get(envelope.method)
        if envelope.owner:
            served = self._routed if envelope.route else None
        if served is None:
            self._unserved += 1
            if self._unserved > MAX_UNSERVED:
                raise Refused(f"{MAX_UNSERVED} messages came that are not served on this connection")
            self._answer(envelope.call, _not_served(envelope))
        else:
            self._messages += 1
            self._calls += envelope.call != 0
            self._bytes += len(envelope.body)
            if served.bulk:
                most, whose = served.about(envelope)
                weight = bulk_weight(len(envelope.body), most)
                ticket = self._channel.take_ticket()
                if ticket is not None:
                    self._tickets.add(ticket)
                self._bulk_inbox.append(
                    _Asked(served, envelope, weight, whose if weight >= frames.LARGE else None, ticket)
                )
            else:
                self._inbox.append(_Asked(served, envelope))
            self.start()
            if self._is_full():
                self._channel.hold()

    def hold_at_most(self, size: int) -> None:
        """Read no further while so many bytes of bodies are held; the frame that reaches it is taken."""
        self._most = size

    def start(self) -> None:
        """Start handlers of what waits, as far as there is room for their answers."""
        while self._inbox and self._has_room():
            ensureDeferred(self._handle(self._inbox.popleft()))
        while self._bulk_inbox and self._has_room() and self._may_start(self._bulk_inbox[0]):
            asked = self._bulk_inbox.popleft()
            self._bulk_running += 1
            self._bulk_bytes += asked.weight
            ensureDeferred(self._handle(asked))

    def end(self) -> None:
        """The connection has ended: what waits is dropped; handlers that run go on, their answers go nowhere."""
        self._ended = True
        self._inbox.clear()
        self._bulk_inbox.clear()
        tickets, self._tickets = self._tickets, set()
        for ticket in tickets:
            ticket.over()

    def forget(self) -> None:
        """Let go of the handlers, and of whatever they hold on to."""
        self._served.clear()
        self._routed = None

    def _is_full(self) -> bool:
        return self._calls > MAX_QUESTIONS or self._messages > MAX_MESSAGES or self._bytes > self._most

    def _has_room(self) -> bool:
        return self._channel.backlog < ANSWER_BACKLOG and not self._ended

    def _may_start(self, asked: _Asked) -> bool:
        running = self._bulk_running
        if running and (running >= SMALL_CALLS or self._bulk_bytes + asked.weight > BULK_BYTES):
            return False
        if asked.whose is not None and asked.out is None and self.intake is not None:
            asked.out = self.intake.ask("out", asked.whose, self._start_soon)
            self._tickets.add(asked.out)
        return asked.out is None or asked.out.given

    def _start_soon(self) -> None:
        self._reactor.callLater(0, self.start)

    async def _handle(self, asked: _Asked) -> None:
        """Run one handler to its end; whatever happens is answered, and never raised from here."""
        served, weight, ticket, out = asked.served, asked.weight, asked.ticket, asked.out
        method, call, size = asked.envelope.method, asked.envelope.call, len(asked.envelope.body)
        try:
            answer = served.answer(self._connection, asked.envelope)
            del asked  # as it came, it is held by nobody any more while its answer is waited for
            data = await answer
            if call and not self._ended:
                self._channel.send(frames.answer(call, b"\x80" if data is None else data))
        except CopernicusError as error:
            self._answer(call, error)
            if not call:
                _log.warn("{method} from {peer}: {error}", method=method, peer=self._connection.peer, error=error)
        except Exception:
            _log.failure("{method} from {peer} failed", method=method, peer=self._connection.peer)
            self._answer(call, CopernicusError(f"{method} failed", "see the log of the other side"))
        # Not in a `finally`: a handler that waits for what nobody will ever do is ended by the garbage collector, at any
        # moment, in the middle of anything.
        self._messages -= 1
        self._calls -= call != 0
        self._bytes -= size
        self._bulk_running -= served.bulk
        self._bulk_bytes -= weight
        if ticket is not None:
            self._over(ticket)
        if out is not None:
            self._channel.when_left(partial(self._over, out))
        if not self._ended:
            self.start()
            if not self._is_full():
                self._channel.release()

    def _over(self, ticket: Ticket) -> None:
        self._tickets.discard(ticket)
        ticket.over()

    def _answer(self, call: int, error: CopernicusError) -> None:
        if call and not self._ended:
            self._channel.send(frames.refusal(error, call))


async def _said(answer: Awaitable[Message | None], call: int) -> frames.Body | None:
    said = await answer
    return frames.body(said) if call and said is not None else None


def _not_served(envelope: frames.Envelope) -> Refused:
    if envelope.owner:
        return Refused("messages for other servers are not relayed here")
    known = f"release {cpc.__version__} does not serve it on this connection"
    return Refused(f"unknown method {envelope.method!r}", known)
