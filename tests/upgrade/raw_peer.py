"""One end of a machine's connection that says whatever it is told to, frame by frame: TLS is real, nothing above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpc.core.errors import CopernicusError
from cpc.core.pieces import Pieces
from cpc.wire.channel import Channel
from cpc.wire.factory import TlsFactory
from cpc.wire.tls import ClientTls, ServerTls
from tests.simulation.network import Host
from tests.upgrade.tape import read_frame, write_frame

UNLIMITED = 64 << 20


class RawPeer:
    """`got` is all that came; `on_frame` hears of each frame, `on_open` when the handshake is done."""

    def __init__(self, host: Host, security: ServerTls | ClientTls) -> None:
        self.got: list[dict[str, Any]] = []
        self.role = ""
        self.name = ""
        self.open = False
        self.lost = ""
        self.on_open: Callable[[RawPeer], None] = lambda peer: None
        self.on_frame: Callable[[RawPeer, dict[str, Any]], None] = lambda peer, frame: None
        self._host = host
        self._security = security
        self._waiting: list[dict[str, Any]] = []
        self.channel = Channel(host.reactor, host.clock, self)
        self.channel.reader.limit = UNLIMITED

    def send(self, envelope: dict[str, Any]) -> None:
        """A frame; it leaves as soon as the handshake is done."""
        if self.open:
            self.channel.send((write_frame(envelope),))
        else:
            self._waiting.append(envelope)

    def answer(self, call: int) -> dict[str, Any] | None:
        """What was answered to a call, if it was."""
        return next((frame for frame in self.got if frame.get("r") == call), None)

    # --- the channel tells ---

    def secured(self, handle: Any) -> None:
        peer = self._security.check(handle, self._host.clock.now())
        self.role, self.name = peer.name.role.value, peer.name.name
        self.open = True
        self.on_open(self)
        for envelope in self._waiting:
            self.channel.send((write_frame(envelope),))
        self._waiting.clear()

    def frame_received(self, frame: bytes | Pieces) -> None:
        envelope = as_before_paths(read_frame(frame))
        self.got.append(envelope)
        self.on_frame(self, envelope)

    def frame_refused(self, error: CopernicusError) -> None:
        raise AssertionError(f"what came is not a frame: {error}")

    def drained(self) -> None:
        """Nothing waits for that."""

    def channel_lost(self, error: BaseException, words: str) -> None:
        self.open = False
        self.lost = words or repr(error)


def connect(host: Host, server: str, port: int, security: ClientTls) -> RawPeer:
    """To a server."""
    peer = RawPeer(host, security)
    attempt = host.connect(server, port).connect(TlsFactory(security, True, lambda _: peer.channel, host.reactor))
    attempt.addErrback(lambda failure: setattr(peer, "lost", str(failure.value)))
    return peer


def listen(host: Host, port: int, security: ServerTls, taken: Callable[[RawPeer], None]) -> Any:
    """As a server: `taken` gets each connection before its handshake. A Deferred of the port."""

    def make(_host: str) -> Channel:
        peer = RawPeer(host, security)
        taken(peer)
        return peer.channel

    return host.listen(port).listen(TlsFactory(security, False, make, host.reactor))


def as_before_paths(value: Any) -> Any:
    """As a side of 3.0.0 reads it: a path at the end of a lease, which is written as a list, is one element too many."""
    if isinstance(value, dict):
        return {key: as_before_paths(each) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) == 4 and value[3] == "" and all(type(part) is int for part in value[:3]):
        return value[:3]
    return [as_before_paths(each) for each in value]
