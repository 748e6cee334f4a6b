"""One request: its head, its body as it comes, and the one answer it gets."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest

from cpc.server.http.answer import Data, reason
from cpc.server.http.body import Body

if TYPE_CHECKING:
    from cpc.server.http.channel import Channel

SAFETY = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-store"),
)


class Request(HttpRequest):  # type: ignore[misc, unused-ignore]
    """Begun by the channel when its head is there; `work` is the call that will answer it."""

    channel: Channel
    body: Body

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, 0)
        self.door = channel.door
        self.peer = channel.host
        self.id = ""
        self.query = b""
        self.route = ""  # the template, for figures
        self.begun = 0.0
        self.gone = False
        self.expects_continue = False
        self.body = Body(channel, None)
        self._work: Deferred[None] | None = None
        self._may_stop = False

    # --- from the channel ---

    def head_received(self, method: bytes, uri: bytes, version: bytes, length: int | None) -> None:
        """The head is there. A call without a body begins when the channel is ready for its answer."""
        self.method, self.uri, self.clientproto = method, uri, version
        self.path, _, self.query = uri.partition(b"?")
        self.body = Body(self.channel, length)
        expect = self.requestHeaders.getRawHeaders(b"expect")
        self.expects_continue = bool(expect and expect[0].lower() == b"100-continue" and version == b"HTTP/1.1")
        if length != 0:
            self.door.serve(self)

    def handleContentChunk(self, data: bytes) -> None:
        self.body.add(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.body.length == 0:
            self.door.serve(self)
        else:
            self.body.end()

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        super().connectionLost(reason)
        self.body.lose()
        if self._work is not None and self._may_stop:
            self._work.cancel()
        self.door.answered(self)

    # --- for the call ---

    def working(self, work: Deferred[None]) -> None:
        """Remember the call."""
        self._work = work

    def may_stop(self) -> None:
        """The call only reads: it may be stopped when nobody waits for its answer any more."""
        self._may_stop = True

    def stop(self) -> None:
        """End a call that only reads, because the server is closing."""
        if self._work is not None and self._may_stop:
            self._work.cancel()

    def header(self, name: bytes) -> str:
        """A header's value, "" when it is not there; the first when it is there twice."""
        values = self.requestHeaders.getRawHeaders(name)
        return values[0].decode("latin-1") if values else ""

    def head(self, status: int, kind: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Set the answer's head; it leaves with the first bytes."""
        self.code, self.code_message = status, reason(status)
        put = self.responseHeaders.setRawHeaders
        put(b"Date", [self.door.date()])
        if kind:
            put(b"Content-Type", [kind])
        put(b"X-Request-Id", [self.id.encode()])
        for name, value in SAFETY + headers:
            put(name, [value])
        if not self.body.ended or not self.channel.persistent:
            self.channel.persistent = False
            put(b"Connection", [b"close"])

    def send(self, answer: Data) -> None:
        """The whole answer. Nothing happens when nobody is there to get it."""
        if self.gone:
            return
        self.head(answer.status, answer.kind if answer.body else b"", answer.headers)
        if answer.status not in (204, 304):
            self.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(answer.body)])
        self.write(answer.body)
        self.done()

    def done(self) -> None:
        """The answer is complete."""
        if self.gone:
            return
        self.body.discard()
        self.door.answered(self)
        self.finish()

    def abort(self) -> None:
        """Cut the connection: an answer that has begun cannot be completed."""
        if not self.gone:
            self.channel.abort()
