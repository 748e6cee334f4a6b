"""The channel below a connection: bytes to frames and back, what is bounded, and what happens when the other side stops.

A frame leaves at once if none has left for a moment; those that follow it in one turn of the reactor leave in one TLS write.
While the other side does not read, nothing more is given to the transport than its own buffer; what waits is counted in
`backlog`, so that whoever produces can be held back.
A side that has not read for STALL seconds is cut off.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol as Typed

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from cpc.core.alarm import Alarm
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.pieces import Piece, Pieces
from cpc.wire import tls
from cpc.wire.frames import Frame, FrameReader
from cpc.wire.intake import Intake, Ticket, Whose
from cpc.wire.secure import Secure

PIECE = 256 << 10  # bytes given to TLS at once; more is cut, so that a pause takes effect in between
MOMENT = 0.001  # seconds: after one that has left, frames are gathered for so long
STALL = 120.0  # seconds
CLOSE_TIME = 5.0  # seconds for the last words to leave


class ChannelUser(Typed):
    """What a channel tells."""

    def secured(self, handle: SSL.Connection) -> None:
        """The TLS handshake is done; nothing has been read yet."""

    def frame_received(self, frame: bytes | Pieces) -> None:
        """A whole frame. A CopernicusError that it raises goes to `frame_refused`."""

    def frame_refused(self, error: CopernicusError) -> None:
        """The stream cannot be read any further."""

    def drained(self) -> None:
        """All that was sent has been given to the transport."""

    def channel_lost(self, error: BaseException, words: str) -> None:
        """The end, once. `words` is set when this side cut it."""


@implementer(IPushProducer, IHandshakeListener)
class Channel(Protocol):
    """One TLS connection as frames."""

    def __init__(self, reactor: Timers, clock: Clock, user: ChannelUser) -> None:
        self.reader = FrameReader()
        self.backlog = 0  # bytes that wait for the other side to read
        self.heard = 0.0  # when bytes came last, by the monotonic clock
        self._reactor = reactor
        self._clock = clock
        self._user = user
        self._queue: deque[Piece] = deque()
        self._given = 0  # bytes, to the transport
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()
        self._flushing: Timer | None = None
        self._stalled: Timer | None = None
        self._ending: Timer | None = None
        self._left_at = float("-inf")  # when a frame left last
        self._paused_at: float | None = None
        self._parsing = False
        self._held = False
        self._tickets: tuple[Intake, Whose] | None = None  # where large frames need them
        self._waits = False  # for a ticket
        self._ticket: Ticket | None = None  # of the large frame that is coming
        self._closing = False
        self._left = False
        self._lost = False
        self._words = ""

    # --- out ------------------------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        """Queue a frame; it leaves now, at the end of this turn, or when the other side reads again."""
        if self._closing or self._lost:
            return
        alone = not self._queue
        self._queue.extend(frame)
        self.backlog += sum(map(len, frame))
        if self._flushing is not None or self._paused_at is not None or self._parsing:
            return
        if alone and self._clock.monotonic() - self._left_at >= MOMENT:
            self._give()
        if self._queue and self._paused_at is None:
            self._flushing = self._reactor.callLater(0, self._flush_later)

    def _flush_later(self) -> None:
        self._flushing = None
        self._flush()

    def _flush(self) -> None:
        """Give the transport pieces of at most PIECE bytes until it says stop."""
        if self._lost:
            return
        sent = bool(self._queue)
        self._give()
        if self._queue:
            return
        if self._closing:
            self._lose()
        elif sent:
            self._user.drained()

    def _give(self) -> None:
        if self._queue:
            self._left_at = self._clock.monotonic()
        while self._queue and self._paused_at is None:
            piece = self._next_piece()
            self.backlog -= len(piece)
            self._given += len(piece)
            self._tls().write(piece)
            self._tell_left(self._given)

    def when_left(self, callback: Callable[[], None]) -> None:
        """Call back when all that is queued now has been given to the transport, or never will be; perhaps at once."""
        self._marks.append((self._given + self.backlog, callback))
        if not self.backlog:
            self._tell_left(self._given)

    def _tell_left(self, given: float) -> None:
        while self._marks and self._marks[0][0] <= given:
            self._marks.popleft()[1]()

    def _drop(self) -> None:
        """What is queued goes nowhere."""
        self._queue.clear()
        self.backlog = 0
        self._tell_left(float("inf"))

    def _next_piece(self) -> bytes | memoryview:
        """Small frames together, a large one in pieces; only small ones are copied."""
        first = self._queue[0]
        if len(first) > PIECE:
            view = memoryview(first)
            self._queue[0] = view[PIECE:]
            return view[:PIECE]
        parts, size = [], 0
        while self._queue and size + len(self._queue[0]) <= PIECE:
            part = self._queue.popleft()
            parts.append(part)
            size += len(part)
        return memoryview(parts[0]) if len(parts) == 1 else b"".join(parts)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._paused_at is None:
            self._paused_at = self._clock.monotonic()
            if self._stalled is None:
                self._stalled = Alarm(self._reactor, self._clock, STALL, self._check_stall)

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._paused_at = None
        if self._flushing is None and (self._queue or self._closing):
            self._flushing = self._reactor.callLater(0, self._flush_later)

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""
        self._drop()

    def _check_stall(self) -> None:
        self._stalled = None
        if self._paused_at is None or self._lost:
            return
        left = self._paused_at + STALL - self._clock.monotonic()
        if left > 0:
            self._stalled = Alarm(self._reactor, self._clock, left, self._check_stall)
        else:
            self.abort(f"the other side has not read for {STALL:.0f} s")

    # --- in -------------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """TCP is there, TLS is not yet."""
        tls = self._tls()
        tls.registerProducer(self, True)
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            setting = getattr(tls, option, None)
            if setting is not None:
                setting(True)

    def handshakeCompleted(self) -> None:
        """TLS is there. What is said now leaves together with the last bytes of the handshake."""
        handle = self._tls().getHandle()
        assert isinstance(handle, SSL.Connection)
        self._parsing = True
        try:
            self._user.secured(handle)
        finally:
            self._parsing = False
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing or self._lost:
            return
        self.heard = self._clock.monotonic()
        self.reader.feed(data)
        self._parse()

    def _parse(self) -> None:
        if self._parsing:
            return
        self._parsing = True
        try:
            while not (self._held or self._closing or self._lost):
                frame = self.reader.next()
                if frame is None:
                    self._ask()
                    break
                if self._ticket is not None:
                    self._ticket.read()
                self._user.frame_received(frame)
                self._end_ticket()  # unless the question has it now
        except CopernicusError as error:
            self._user.frame_refused(error)
        finally:
            self._parsing = False
        if self._flushing is None:
            self._flush()

    @property
    def held(self) -> bool:
        """Whether it is this side that does not read."""
        return self._held or self._waits

    def hold(self) -> None:
        """Read nothing more until `release`: TCP tells the other side to wait."""
        self._stop_reading(True, self._waits)

    def release(self) -> None:
        """Read on."""
        self._stop_reading(False, self._waits)

    def _stop_reading(self, held: bool, waits: bool) -> None:
        if self._lost:
            return
        before, self._held, self._waits = self.held, held, waits
        if self.held and not before:
            self._tls().pauseProducing()
        elif before and not self.held:
            self._tls().resumeProducing()
            self._reactor.callLater(0, self._parse_later)

    # --- large frames, where they need tickets ---

    def need_tickets(self, intake: Intake, whose: Whose) -> None:
        """From the next large frame on. `whose` says for whom one is, by its beginning and its size."""
        self._tickets = intake, whose

    def _ask(self) -> None:
        """For a ticket, if a large frame has begun to come."""
        begun = self.reader.begun
        if self._tickets is not None and self._ticket is None and begun is not None:
            intake, whose = self._tickets
            ticket = self._ticket = intake.ask("in", whose(*begun), self._may_read)
            if not ticket.given:
                self._stop_reading(self._held, True)

    def _may_read(self) -> None:
        self._stop_reading(self._held, False)

    def take_ticket(self) -> Ticket | None:
        """That of the frame which is being handed on, for its question to keep."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None and not ticket.given:  # all of it came in spite of that
            self._stop_reading(self._held, False)
        return ticket

    def _end_ticket(self) -> None:
        ticket = self.take_ticket()
        if ticket is not None:
            ticket.over()

    def _parse_later(self) -> None:
        if not self._lost:
            self._parse()

    # --- the end --------------------------------------------------------------------------------------------------------

    def close(self, words: str = "") -> None:
        """Let what is queued leave, for at most CLOSE_TIME, then close. Nothing more is read."""
        if self._closing or self._lost:
            return
        self._closing = True
        self._words = self._words or words
        self._stop_reading(False, False)  # or the transport would not notice the other side's goodbye
        self._ending = self._reactor.callLater(CLOSE_TIME, self._give_up)
        if self._queue:
            if self._flushing is None and self._paused_at is None:
                self._flushing = self._reactor.callLater(0, self._flush_later)
        elif self._flushing is None:
            self._lose()

    def abort(self, words: str = "") -> None:
        """Cut at once."""
        if self._lost:
            return
        self._closing = True
        self._words = self._words or words
        self._drop()
        if self.transport is not None:
            self._tls().abortConnection()

    def _give_up(self) -> None:
        self._ending = None
        self.abort()

    def _lose(self) -> None:
        if self._left:
            return
        self._left = True
        tls = self._tls()
        tls.unregisterProducer()  # TLS says goodbye only when nobody produces any more
        tls.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        if self._lost:
            return
        self._lost = True
        for timer in (self._flushing, self._stalled, self._ending):
            if timer is not None and timer.active():
                timer.cancel()
        self._drop()
        self._end_ticket()
        assert reason.value is not None
        self._user.channel_lost(reason.value, self._words)

    def address(self, here: bool) -> str:
        """`host:port` of this side or the other; empty before there is a transport."""
        if self.transport is None:
            return ""
        address = self._tls().getHost() if here else self._tls().getPeer()
        host, port = getattr(address, "host", ""), getattr(address, "port", 0)
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    def _tls(self) -> Secure:
        assert isinstance(self.transport, Secure)
        return self.transport


def why_lost(error: BaseException, words: str) -> CopernicusError:
    """What `channel_lost` tells, as whoever waits is told of it."""
    if words:
        return Unavailable(words)
    explained = tls.explain(error)
    if explained is not None:
        return explained
    if isinstance(error, ConnectionDone):
        return Unavailable("the other side closed the connection")
    if isinstance(error, ConnectionClosed):
        said = str(error.args[0]) if error.args and error.args[0] else "it broke off"
        return Unavailable(f"the connection was lost: {said}")
    return Unavailable(f"the connection was lost: {type(error).__name__}")
