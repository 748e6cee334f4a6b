"""A connection between two machines: mutual TLS, a greeting, then calls and one-way messages both ways.

Whoever has connected is known by its certificate before anything else is read. The greeting settles the protocol number.
After that both sides may call and serve; a handler may take its time, others run meanwhile. Everything is bounded: see
`calls` for what one side may ask, `questions` for what is held of the other side's, `channel` for bytes.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)  # fmt: skip
from twisted.logger import Logger

import cpc
from cpc.core.alarm import Alarm
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.peer import Bound
from cpc.core.pieces import Data, Pieces
from cpc.wire import frames, tls
from cpc.wire.calls import Calls
from cpc.wire.channel import Channel, why_lost
from cpc.wire.endpoints import ClientEndpoint, ListeningPort, ServerEndpoint
from cpc.wire.factory import TlsFactory
from cpc.wire.identity import Name, Role
from cpc.wire.intake import Intake, Whose
from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL, Message
from cpc.wire.negotiation import negotiate
from cpc.wire.pace import Pace
from cpc.wire.questions import MAX_QUESTION_BYTES, Handler, Questions, Router, unknown
from cpc.wire.strangers import MAX_OF_ONE_ADDRESS, MAX_STRANGERS, Strangers

T = TypeVar("T")
Q = TypeVar("Q")

MAX_BACKLOG = 32 << 20  # bytes of one-way messages that are not read: beyond, the connection ends
PASSED_BACKLOG = 8 << 20  # bytes that wait: beyond, one-way messages of other servers are dropped
GREETING_TIME = 20.0  # seconds from TCP to the greeting
IDLE_TIME = 900.0  # seconds in which nothing comes
MAX_CONNECTIONS = 20_000

HERE = frames.Greeting(PROTOCOL, OLDEST_PROTOCOL, cpc.__version__)
#: What servers greet with: they take `peer-hello`, and messages with a route.
SERVER = frames.Greeting(PROTOCOL, OLDEST_PROTOCOL, cpc.__version__, ("peers",))

_log = Logger()


_FRAME_LIMITS = {Role.BUNDLE: frames.MAX_BUNDLE_FRAME}


class Connection:
    """One connection, open until `on_closed` fires. `peer` says who is at the other end, `release` what it runs."""

    def __init__(self, reactor: Timers, clock: Clock, security: tls.ServerTls | tls.ClientTls,
                 on_open: Callable[[Connection], None], greeting: frames.Greeting = HERE,
                 intake: Intake | None = None) -> None:  # fmt: skip
        self.peer: Name | None = None
        self.peer_fingerprint = ""
        self.peer_not_after = 0  # end of its certificate, µs
        self.protocol = 0
        self.release = ""
        self.capabilities: tuple[str, ...] = ()
        self.closed = False  # or closing: nothing is taken and nothing sent any more
        self.channel = Channel(reactor, clock, self)
        self._reactor = reactor
        self._clock = clock
        self._security = security
        self._on_open = on_open
        self._greeting = greeting
        self._intake = intake
        self._calls = Calls(reactor, clock, self.channel.send)
        self._questions = Questions(self, self.channel, reactor)
        self._ended = False
        self._end: CopernicusError | None = None
        self._on_closed: list[Callable[[str], None]] = []
        self._idle: Timer | None = None

    # --- for whoever uses it --------------------------------------------------------------------------------------------

    @property
    def local(self) -> str:
        """This side's address, as `host:port`."""
        return self.channel.address(here=True)

    @property
    def remote(self) -> str:
        """The other side's address, as `host:port`."""
        return self.channel.address(here=False)

    @property
    def backlog(self) -> int:
        """Bytes that wait here for the other side to read."""
        return self.channel.backlog

    async def call(
        self, method: str, body: Message, answer: type[T], timeout: float = 60.0, bulk: bool = False,
        route: tuple[str, ...] = (), most: int = 0, bounds: tuple[Bound, ...] = (),
    ) -> T:  # fmt: skip
        """Ask, and wait at most `timeout` seconds, queueing included. `bulk` is for questions or answers with files;
        `most`, if it is known, how many bytes the answer has.

        With a `route`, from this server over the other side to its last one, that one is asked. Only servers relay.
        Raises what the other side answered (any CopernicusError), Unavailable when it is late or the connection is lost
        (it may have been done or not), TooLarge when the body does not fit a frame.
        """
        self._check_open()
        asked = self._calls.ask(method, frames.body(body), timeout, bulk, route, most, bounds)
        del body  # what has left is held by nobody here while its answer is waited for
        return frames.decode(await asked, answer, method)

    def pass_on(self, envelope: frames.Envelope, timeout: float, bulk: bool = False) -> Awaitable[Data]:
        """Ask what a routed question asks, on its way; the body of the answer. Bodies are not looked into. Errors as `call`.

        Once the question has left, nothing of it is held here.
        """
        self._check_open()
        data = frames.raw(envelope.body)
        return self._calls.ask(envelope.method, data, timeout, bulk, envelope.route, envelope.most, envelope.bounds)

    def pass_on_word(self, envelope: frames.Envelope) -> None:
        """The same with a one-way message. It is dropped when the other side is slow to read."""
        if not self.closed and self.protocol and self.channel.backlog < PASSED_BACKLOG:
            self.channel.send(frames.question(envelope.method, 0, frames.raw(envelope.body), envelope.route))

    def tell(self, method: str, body: Message, route: tuple[str, ...] = ()) -> None:
        """Send a one-way message. It may be lost with the connection; on a closed one it is dropped."""
        data = frames.body(body)
        if self.closed or not self.protocol:
            return
        self.channel.send(frames.question(method, 0, data, route))
        if self.channel.backlog > MAX_BACKLOG:
            self._finish(Unavailable("the other side does not read what it is told"))
            self.channel.abort("the other side does not read what it is told")

    def serve(
        self, method: str, question: type[Q], handler: Handler[Q] | None, bulk: bool = False,
        most: Callable[[Q], int] = unknown, whose: Callable[[Q], str] | None = None,
    ) -> None:  # fmt: skip
        """Answer `method`. The handler gets this connection and the question; None answers an empty map. A CopernicusError that
        it raises is sent. Of `bulk` methods so many handlers run as BULK_BYTES allow, by what each may answer (`most`: bytes),
        and of those with large answers as there are tickets for that owner of files (`whose`), see `need_tickets`.
        Without a handler nothing is done: for one-way messages that only show that the other side is there.
        """
        self._questions.serve(method, question, handler, bulk, most, whose)

    def route(self, router: Router, bulk: bool = False, most: int = MAX_QUESTION_BYTES) -> None:
        """Give every message with a route to `router`, with this connection; it answers with the body of the answer.

        Without a router such messages are refused. `bulk` as in `serve`. From now on nothing is read while `most` bytes of
        questions are held.
        """
        self._questions.route(router, bulk)
        self._questions.hold_at_most(most)

    def need_tickets(self, whose: Whose) -> None:
        """Large frames that come here are taken in as there are tickets of this server, and large answers of what is served with
        `whose` are given as there are (see `cpc.wire.intake`)."""
        if self._intake is not None:
            self._questions.intake = self._intake
            self.channel.need_tickets(self._intake, whose)

    def on_closed(self, callback: Callable[[str], None]) -> None:
        """Call back once with the reason, in words, when the connection has ended (at once if it has)."""
        if self._ended:
            callback(self._reason())
        else:
            self._on_closed.append(callback)

    def close(self, reason: str = "") -> None:
        """End it: what is queued leaves, then the reason. Outstanding calls fail now; nothing more is read."""
        self.refuse(Unavailable(reason) if reason else None)

    def refuse(self, error: CopernicusError | None) -> None:
        """End it with an error that the other side's calls fail with."""
        if self.closed:
            return
        if error is not None:
            self.channel.send(frames.refusal(error))
        self._finish(error or Unavailable("the connection was closed"))
        self.channel.close()

    # --- the channel tells ----------------------------------------------------------------------------------------------

    def secured(self, handle: SSL.Connection) -> None:
        """TLS is done: who is it? Then greet."""
        try:
            peer = self._security.check(handle, self._clock.now())
        except CopernicusError as error:
            self.refuse(error)
            return
        self.peer, self.peer_fingerprint, self.peer_not_after = peer.name, peer.fingerprint, peer.not_after
        self.channel.send(frames.greeting(self._greeting))

    def frame_received(self, frame: bytes | Pieces) -> None:
        """One frame of the other side."""
        envelope = frames.read(frame)
        if envelope.error is not None and not envelope.answers:
            self._finish(envelope.error)
            self.channel.close()
        elif not self.protocol:
            self._greeted(envelope.greeting)
        elif envelope.answers:
            self._calls.answered(envelope)
        elif envelope.method:
            self._questions.asked(envelope)

    def frame_refused(self, error: CopernicusError) -> None:
        """The other side does not keep to the protocol."""
        self.refuse(error)

    def drained(self) -> None:
        """The other side reads: answers that were held back may be made."""
        self._questions.start()

    def channel_lost(self, error: BaseException, words: str) -> None:
        """The connection has ended, whoever ended it."""
        self._finish(why_lost(error, words))
        self._ended = True
        self._stop_idling()
        self._questions.forget()
        callbacks, self._on_closed = self._on_closed, []
        for callback in callbacks:
            try:
                callback(self._reason())
            except Exception:  # the others are told all the same
                _log.failure("after the end of the connection with {peer}", peer=self.peer)

    # --- greeting -------------------------------------------------------------------------------------------------------

    def _greeted(self, said: frames.Greeting | None) -> None:
        if said is None or self.peer is None:
            raise Refused("the first frame is a greeting")
        self.protocol = negotiate(self._greeting, said, *self._sides(self.peer))
        self.release, self.capabilities = said.release, said.capabilities
        self.channel.reader.limit = _FRAME_LIMITS.get(self.peer.role, frames.MAX_FRAME)
        self._on_open(self)

    def _sides(self, peer: Name) -> tuple[str, str]:
        """This side and the other one, as people call them."""
        if peer.role is Role.SERVER and self._greeting.capabilities:
            return "this server", f"server {peer.server}"
        if isinstance(self._security, tls.ServerTls):
            return "the server", f"the worker with bundle {peer.name}" if peer.role is Role.BUNDLE else str(peer)
        return "this server" if self._security.role is Role.SERVER else "this worker", "the server"

    def drop_when_idle(self, seconds: float) -> None:
        """End the connection when nothing has come for so long; asked again, another time is set."""
        self._stop_idling()
        self.channel.heard = self._clock.monotonic()
        self._idle_for(seconds, seconds)

    def _stop_idling(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()

    def _idle_for(self, left: float, seconds: float) -> None:
        self._idle = Alarm(self._reactor, self._clock, left, lambda: self._check_idle(seconds))

    def _check_idle(self, seconds: float) -> None:
        left = self.channel.heard + seconds - self._clock.monotonic()
        if left > 0 or self.channel.held:  # nothing can be heard while nothing is read
            self._idle_for(seconds if self.channel.held else left, seconds)
        else:
            self.close(f"nothing was heard for {seconds:.0f} s")

    # --- the end --------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._end is not None:
            raise type(self._end)(self._end.message, self._end.hint)
        if not self.protocol:
            raise Unavailable("the connection is not open yet")

    def _finish(self, error: CopernicusError) -> None:
        """From now on nothing is taken or sent; the first error given is the reason."""
        if self.closed:
            return
        self.closed = True
        self._end = error
        self._questions.end()
        self._calls.fail(error)

    def _reason(self) -> str:
        return str(self._end) if self._end is not None else ""

    @property
    def end(self) -> CopernicusError | None:
        """Why it has ended, once it has."""
        return self._end


# --- the way in ---------------------------------------------------------------------------------------------------------


class Listener:
    """Takes connections. `on_connection` gets each one once it is known who it is, before its first question is read."""

    def __init__(self, reactor: Timers, security: tls.ServerTls, on_connection: Callable[[Connection], None],
                 clock: Clock, *, idle: float = IDLE_TIME, greeting_time: float = GREETING_TIME,
                 max_connections: int = MAX_CONNECTIONS, max_strangers: int = MAX_STRANGERS,
                 max_of_one_address: int = MAX_OF_ONE_ADDRESS, greeting: frames.Greeting = HERE) -> None:  # fmt: skip
        #: Told of a connection that ended before the greetings, though it was known whose it is; `end` says why.
        self.turned_away: Callable[[Connection], None] = lambda connection: None
        self._reactor = reactor
        self._clock = clock
        self._security = security
        self._on_connection = on_connection
        self._idle = idle
        self._greeting_time = greeting_time
        self._max_connections = max_connections
        self._greeting = greeting
        self._strangers: Strangers[Connection] = Strangers(max_strangers, max_of_one_address)
        self._known: dict[Connection, None] = {}  # a dict, because it keeps the order in which they came
        self._ports: list[ListeningPort] = []
        self._pace = Pace(reactor, clock, lambda: self._ports)
        self.intake = Intake(reactor)
        self.factory = TlsFactory(security, False, self._make, reactor)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those whose other side is known, in the order in which they came."""
        return tuple(self._known)

    def crowded(self) -> bool:
        """Whether machines had to wait outside since this was asked last: nothing could be heard of them."""
        return self._pace.crowded()

    async def listen(self, endpoint: ServerEndpoint) -> ListeningPort:
        """Take connections at this endpoint, too."""
        port: ListeningPort = await endpoint.listen(self.factory)
        self._ports.append(port)
        return port

    async def stop(self, reason: str = "the server is stopping") -> None:
        """Take no more connections, and close those that are open."""
        ports, self._ports = self._ports, []
        self._pace.stop()
        for port in ports:
            stopped = port.stopListening()
            if isinstance(stopped, Deferred):
                await stopped
        for connection in (*self._strangers, *self._known):
            connection.close(reason)

    def _make(self, host: str) -> Channel | None:
        if len(self._known) >= self._max_connections or not self._strangers.has_room(host):
            count = len(self._strangers) + len(self._known)
            _log.warn("a connection of {host} is turned away: {count} are open", host=host, count=count)
            return None
        connection = Connection(self._reactor, self._clock, self._security, self._opened, self._greeting, self.intake)
        late = f"no greeting within {self._greeting_time:.0f} s"
        timer = self._reactor.callLater(self._greeting_time, connection.channel.abort, late)
        self._strangers.add(connection, host, timer)
        connection.on_closed(lambda reason: self._gone(connection, reason))
        self._pace.began(connection, host)
        return connection.channel

    def _opened(self, connection: Connection) -> None:
        self._strangers.remove(connection)
        self._pace.ended(connection, well=True)
        self._known[connection] = None
        connection.drop_when_idle(self._idle)
        self._on_connection(connection)

    def _gone(self, connection: Connection, reason: str) -> None:
        self._pace.ended(connection)
        if self._strangers.remove(connection):
            _log.info("{remote} was not let in: {reason}", remote=connection.remote, reason=reason)
            if connection.peer is not None:
                self.turned_away(connection)
        self._known.pop(connection, None)


# --- the way out --------------------------------------------------------------------------------------------------------


async def connect(endpoint: ClientEndpoint, security: tls.ClientTls, reactor: Timers, clock: Clock,
                  timeout: float = 30.0, *, prepare: Callable[[Connection], None] | None = None,
                  greeting: frames.Greeting = HERE) -> Connection:  # fmt: skip
    """An open connection to the server that `security` expects, within `timeout` seconds.

    `prepare` gets it before the first question of the other side is read: the place for `serve`. Unavailable when nobody
    answers, Refused when the other side is not who it should be, or refuses us.
    """
    opened: Deferred[None] = Deferred()

    def on_open(connection: Connection) -> None:
        if prepare is not None:
            prepare(connection)
        opened.callback(None)

    def on_closed(_reason: str) -> None:
        if not opened.called:
            opened.errback(connection.end or Unavailable("the connection was closed"))

    connection = Connection(reactor, clock, security, on_open, greeting)
    connection.on_closed(on_closed)
    attempt = endpoint.connect(TlsFactory(security, True, lambda _: connection.channel, reactor))
    words = f"no answer within {timeout:g} s"

    def late() -> None:
        attempt.cancel()
        connection.channel.abort(words)

    timer = reactor.callLater(timeout, late)
    try:
        await attempt
        await opened
    except CopernicusError:
        raise
    except (TimeoutError, CancelledError, ConnectingCancelledError):
        connection.channel.abort("given up")
        raise Unavailable(f"cannot connect: {words}") from None
    except ConnectionRefusedError:
        raise Unavailable("cannot connect: nothing listens there", "is the server running?") from None
    except DNSLookupError:
        raise Unavailable("cannot connect: no such host", "check the address in the bundle") from None
    except (ConnectError, ConnectionClosed, OSError) as error:
        raise Unavailable(f"cannot connect: {str(error) or type(error).__name__}") from None
    finally:
        if timer.active():
            timer.cancel()
    return connection
