"""One connection: twisted.web's HTTP/1.1 parser with a call that starts at its headers, and with every wait bounded.

What is different from twisted.web's own: a call begins when its headers are there, so that it can be refused before its
body is read; `100 Continue` goes out only when the body is wanted; single bytes do not push a deadline out; an answer given
before the end of a body closes the connection after the rest has been thrown away for a moment (a close with unread data
would be a reset, which can destroy the answer on its way).
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from cpc.server.http.answer import MALFORMED, TOO_MANY, TOO_MUCH_HEADER, Data
from cpc.server.http.request import Request

if TYPE_CHECKING:
    from cpc.server.http.door import Door

SLOWEST = 8192  # bytes per second that a body must come with
BODY_PATIENCE = 30.0
LINGER = 5.0


class Channel(HTTPChannel):  # type: ignore[misc, unused-ignore]
    """A connection of one client; requests one after the other, pipelined ones wait their turn."""

    MAX_LENGTH = 16 << 10  # of one line
    totalHeadersSize = 32 << 10
    maxHeaders = 100
    abortTimeout = 5
    transport: Any
    _networkProducer: Any

    def __init__(self, door: Door) -> None:
        super().__init__()
        self.door = door
        self.callLater = door.reactor.callLater  # type: ignore[method-assign]
        self.timeOut = door.limits.idle_seconds  # type: ignore[assignment]
        self._refused = False
        self._lingering = False
        self._in_header = False
        self._body_paused = False
        self._closing = False
        self.host = ""

    def requestFactory(self, *_: object) -> Request:  # type: ignore[override]
        return Request(self)

    @property
    def held_back(self) -> bool:
        """Whether the client is behind with reading."""
        return bool(self._waitingForTransport)

    # --- life ---

    def connectionMade(self) -> None:
        super().connectionMade()
        self.host = getattr(self.transport.getPeer(), "host", "")
        self.setTimeout(self.door.limits.header_seconds)
        if not self.door.opened(self):
            self._reply_and_close(TOO_MANY)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override, unused-ignore]
        self.door.closed(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """End the connection at once, whatever is under way."""
        self.setTimeout(None)
        if self.transport is not None:
            self.transport.abortConnection()

    def finish_soon(self) -> None:
        """Close when the request under way is answered; at once if there is none."""
        self.persistent = False
        if not self.requests:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close after what is written has left."""
        if not self._closing:
            self._closing = True
            super().loseConnection()

    # --- bytes in ---

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        LineReceiver.dataReceived(self, data)  # not HTTPChannel's: a trickle of bytes must not push the deadline out
        starting = bool(self.line_mode and (self.requests or self._buffer)) and not self._handlingRequest
        if starting and not self._in_header and not self._refused:
            self._in_header = True
            self.setTimeout(self.door.limits.header_seconds)

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._reply_and_close(TOO_MUCH_HEADER)

    def headerReceived(self, line: bytes) -> bool:
        if self._refused:
            return False
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and len(value.strip()) > 18:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        if self._refused:
            return
        request = self.requests[-1]
        self._in_header = False
        self.persistent = self.persistent and self.checkPersistence(request, self._version)
        if self._version == b"HTTP/1.1" and len(request.requestHeaders.getRawHeaders(b"host", [])) != 1:
            self._respondToBadRequestAndDisconnect()
            return
        self.setTimeout(None)
        request.head_received(self._command, self._path, self._version, self.length)

    def allContentReceived(self) -> None:
        if self._lingering:
            self.loseConnection()
        elif not self._refused:
            super().allContentReceived()

    # --- bodies ---

    def pause_body(self) -> None:
        self._body_paused = True
        self.setTimeout(None)
        self._networkProducer.pauseProducing()

    def resume_body(self, expected: int) -> None:
        self._body_paused = False
        self.setTimeout(BODY_PATIENCE + expected / SLOWEST)
        request = self.requests[-1]
        if request.expects_continue:
            request.expects_continue = False
            self._send100Continue()
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self._body_paused:
            self._networkProducer.pauseProducing()

    # --- answers ---

    def requestDone(self, request: Request) -> None:  # type: ignore[override, unused-ignore]
        self._body_paused = False
        if request.body.ended:
            self._savedTimeOut = self.door.limits.idle_seconds
            super().requestDone(request)
            self.transport.flush()
            return
        del self.requests[0]
        self._lingering = True
        self.setTimeout(LINGER)
        self._networkProducer.resumeProducing()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._reply_and_close(TOO_MUCH_HEADER if self._receivedHeaderSize > self.totalHeadersSize else MALFORMED)

    def _reply_and_close(self, answer: Data) -> None:
        if self._refused:
            return
        self._refused = True
        requests, self.requests = self.requests, []
        for request in requests:
            request.connectionLost(Failure(ConnectionAbortedError()))
        self.transport.write(answer.raw())
        self.setTimeout(LINGER)
        self.loseConnection()

    def timeoutConnection(self) -> None:
        if self._abortingCall is None:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()


def is_loopback(host: str) -> bool:
    """Whether a peer's address is this machine."""
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")
