"""Server-sent events: one message after the other at the watcher's pace, resumable, with a sign of life."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, ensureDeferred

from cpc.core.clock import Timer
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.views import ErrorView
from cpc.server.http.answer import encode
from cpc.server.http.ask import Ask
from cpc.server.http.flow import Flow

if TYPE_CHECKING:
    from cpc.server.http.door import Door


@dataclass(frozen=True, slots=True)
class Message:
    """One event. `id` is what `Last-Event-ID` brings back; "" for none. `data` is JSON, so without line ends."""

    id: str
    event: str
    data: bytes

    def encode(self) -> bytes:
        """As it goes over the wire."""
        head = f"id: {self.id}\n" if self.id else ""
        return b"%sevent: %s\ndata: %s\n\n" % (head.encode(), self.event.encode(), self.data)


def resume_point(ask: Ask, given: int) -> int:
    """The number to go on after: `Last-Event-ID` if it was sent, else what the query says."""
    last = ask.request.header(b"last-event-id").strip()
    if not last:
        return given
    if not (last.isascii() and last.isdigit() and len(last) <= 18):
        raise BadInput(f"Last-Event-ID {last[:40]!r} is not a number")
    return int(last)


class Stream:
    """Messages as an answer. `source` is the service's iterator; it is closed when the watcher leaves.

    The next message is asked for when the one before has left, so a slow watcher costs no memory; one that takes nothing
    for the stall time is cut off and may resume. The token is looked at again with every sign of life: when it is revoked
    the stream ends with an event "error".
    """

    def __init__(self, ask: Ask, messages: AsyncIterator[Message], source: AsyncIterator[Any]) -> None:
        self._ask = ask
        self._messages = messages
        self._source = source
        self._timer: Timer | None = None
        self._refused: CopernicusError | None = None
        self._over = False

    async def send(self, door: Door) -> None:
        """Write until the messages end or the watcher leaves."""
        request = self._ask.request
        user = self._ask.who.user
        try:
            if request.method == b"HEAD":
                request.head(200, b"text/event-stream", ())
                request.write(b"")
                request.done()
                return
            with door.one_more_stream(user):
                await self._send(door)
        finally:
            for iterator in (self._messages, self._source):
                await getattr(iterator, "aclose", _nothing)()

    async def _send(self, door: Door) -> None:
        request = self._ask.request
        request.head(200, b"text/event-stream", ((b"X-Accel-Buffering", b"no"),))
        with Flow(request, door.reactor, door.limits.stall_seconds) as flow:
            self._sign_of_life(door, flow)
            try:
                await flow.write(b": watching\n\n")
                async for message in self._messages:
                    await flow.write(message.encode())
            except CancelledError:
                if request.gone:
                    raise
                if self._refused is not None:
                    request.write(_error(self._refused))
            except CopernicusError as error:
                request.write(_error(error))
            finally:
                self._over = True
                if self._timer is not None and self._timer.active():
                    self._timer.cancel()
        request.done()

    def _sign_of_life(self, door: Door, flow: Flow) -> None:
        self._timer = door.reactor.callLater(door.limits.comment_seconds, self._alive, door, flow)

    def _alive(self, door: Door, flow: Flow) -> None:
        if not flow.paused:
            self._ask.request.write(b": still here\n\n")
        self._sign_of_life(door, flow)
        ensureDeferred(self._look_again())

    async def _look_again(self) -> None:
        """End the stream when its token is not good any more."""
        try:
            await self._ask.services.accounts.authenticate(self._ask.token)
        except CopernicusError as error:
            if not self._over:
                self._refused = error
                self._ask.request.stop()


def _error(error: CopernicusError) -> bytes:
    shown = ErrorView(code=error.code, message=error.message, hint=error.hint)
    return Message("", "error", encode(shown)).encode()


async def _nothing() -> None:
    """An iterator that need not be closed."""
