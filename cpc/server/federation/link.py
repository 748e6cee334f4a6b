"""The link with one peer: a connection for messages and one for files, each used in both directions."""

from __future__ import annotations

from collections.abc import Callable

from cpc.core.clock import Timer, Timers
from cpc.core.errors import Conflict, CopernicusError
from cpc.wire import frames
from cpc.wire.connection import Connection
from cpc.wire.peer_messages import Alive

BEAT = 25.0  # seconds between signs of life
SILENCE = 60.0  # seconds without any: the connection is lost
_ALIVE = frames.question("alive", 0, frames.body(Alive()))  # always the same


class _Line:
    """One of the two, and which side has dialled it."""

    def __init__(self, connection: Connection, dialler: str) -> None:
        self.connection = connection
        self.dialler = dialler


class Link:
    """Up while both connections are there. `changed(up)` is told each time it becomes so or ceases to be so."""

    def __init__(self, here: str, peer: str, reactor: Timers, changed: Callable[[bool], None]) -> None:
        self.peer = peer
        self.release = ""
        self._here = here
        self._reactor = reactor
        self._changed = changed
        self._lines: dict[bool, _Line] = {}
        self._up = False
        self._beat: Timer | None = None

    @property
    def up(self) -> bool:
        """Whether the peer can be talked to now."""
        return self._up

    def connection(self, bulk: bool) -> Connection | None:
        """The one for files, or for all else; None while it is not there."""
        line = self._lines.get(bulk)
        return line.connection if line is not None else None

    def check(self, bulk: bool, dialler: str) -> None:
        """Conflict when a connection of this kind that `dialler` has made is not wanted, because the other one stays.

        If both sides have dialled, the one stays that was dialled by the server with the smaller id. A side that dials
        again has lost its former one, whether the other has noticed or not.
        """
        line = self._lines.get(bulk)
        if line is not None and line.dialler != dialler and line.dialler == min(self._here, self.peer):
            raise Conflict("there is a connection between the two servers already")

    def take(self, connection: Connection, bulk: bool, dialler: str) -> None:
        """Use this connection from now on; `check` has let it pass."""
        former = self._lines.get(bulk)
        if former is not None:
            self._lost(former, bulk)
            former.connection.close("another connection took its place")
        line = self._lines[bulk] = _Line(connection, dialler)
        self.release = connection.release
        connection.drop_when_idle(SILENCE)
        connection.on_closed(lambda _: self._lost(line, bulk))
        self._judge()

    def close(self, error: CopernicusError | None) -> None:
        """End both."""
        for bulk, line in list(self._lines.items()):
            self._lost(line, bulk)
            line.connection.refuse(error)

    def _lost(self, line: _Line, bulk: bool) -> None:
        if self._lines.get(bulk) is line:
            del self._lines[bulk]
            self._judge()

    def _judge(self) -> None:
        if self._beat is None and self._lines:
            self._beat = self._reactor.callLater(BEAT, self._say)
        up = len(self._lines) == 2
        if up is not self._up:
            self._up = up
            self._changed(up)

    def _say(self) -> None:
        self._beat = None
        if not self._lines:
            return
        for line in self._lines.values():
            if not line.connection.closed:
                line.connection.channel.send(_ALIVE)
        self._beat = self._reactor.callLater(BEAT, self._say)

    def stop(self) -> None:
        """No more signs of life."""
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = None
