"""A client that speaks HTTP/1.1 to a Door over a transport in memory: no port, no threads, virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.task import Clock as FakeReactor
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from cpc.core.chance import SeededChance
from cpc.core.digest import CHUNK, of_chunks
from cpc.server.http.door import Door, Limits
from cpc.server.metrics import Metrics
from tests.helpers.fake_services import FakeServices
from tests.helpers.stores import ManualClock


@implementer(IPushProducer, ITCPTransport)
class Wire(StringTransport):
    """What the server writes; whether it wants to read on; whether it has closed."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 40000))
        self.aborted = False
        self.no_delay = False
        self.full_after = 1 << 62
        self._room_until = 0

    def write(self, data: bytes) -> None:
        """Takes everything, and says pause, like a socket, when more than `full_after` bytes have not left."""
        super().write(data)
        if self.producer is not None and len(self.value()) - self._room_until > self.full_after:
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def drain(self) -> None:
        """The reader has read what there is."""
        self._room_until = len(self.value())
        if self.producer is not None:
            self.producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def flush(self) -> None:
        """Nothing is held back."""

    def setTcpNoDelay(self, on: bool) -> None:
        self.no_delay = on


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to a door."""

    def __init__(self, door: Door, host: str = "127.0.0.1") -> None:
        self.wire = Wire(host)
        self.door = door
        self.lost = False
        self.channel = door.buildProtocol(None)
        self.channel.makeConnection(self.wire)

    def send(self, data: bytes) -> None:
        """Bytes as they are, in pieces as a socket gives them; waits for nobody."""
        for at in range(0, len(data), 65536):
            self.channel.dataReceived(data[at : at + 65536])

    def head(self, method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def ask(
        self, method: str, path: str, body: Any = None, *, user: str = "alice", raw: bytes | None = None,
        **headers: str,
    ) -> Reply:  # fmt: skip
        """A call with an answer at once."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            given.setdefault("Authorization", f"Bearer {user}-token")
        if data or method in ("POST", "PUT", "PATCH"):
            given["Content-Length"] = str(len(data))
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        self.send(self.head(method, path, given) + data)
        return self.reply(method == "HEAD")

    def reply(self, head_only: bool = False) -> Reply:
        """Take one whole answer out of what the server has written."""
        found, rest = parse(self.wire.value(), head_only)
        self.wire.clear()
        self.wire.write(rest)
        return found

    def lose(self) -> None:
        """The client goes away."""
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        if not self.lost:
            self.lost = True
            self.channel.connectionLost(Failure(ConnectionLost()))

    @property
    def closed(self) -> bool:
        return bool(self.wire.disconnecting)


def parse(data: bytes, head_only: bool = False) -> tuple[Reply, bytes]:
    """The first answer in `data`, and what follows it."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, f"no complete answer in {data[:500]!r}"
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"header {name} is there twice"
        headers[name.lower()] = value.strip()
    if head_only or status in (204, 304):
        return Reply(status, headers, b""), rest
    if "content-length" in headers:
        length = int(headers["content-length"])
        assert len(rest) >= length, "the body is not complete"
        return Reply(status, headers, rest[:length]), rest[length:]
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            break
    return Reply(status, headers, body), rest


class House:
    """A door over fakes, with its reactor and clock."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.services = FakeServices()
        self.world = self.services.world
        self.reactor = FakeReactor()
        self.clock = ManualClock()
        self.metrics = Metrics()
        self._clients: list[Client] = []
        self.door = Door(
            self.services, reactor=self.reactor, clock=self.clock, chance=SeededChance(1), metrics=self.metrics,
            limits=limits,
        )  # fmt: skip

    def client(self, host: str = "127.0.0.1") -> Client:
        client = Client(self.door, host)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Every client goes away."""
        for client in self._clients:
            client.lose()

    def announce(self, data: bytes) -> str:
        """Begin an upload of `data`; its id."""
        pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        content = of_chunks(pieces)
        body = {
            "digest": content.digest.hex(),
            "size": content.size,
            "chunks": [chunk.hex() for chunk in content.chunks],
        }
        return str(self.ask("POST", "/api/v1/projects/villin/uploads", body).json["id"])

    def ask(self, *args: Any, **more: Any) -> Reply:
        """A call over a connection of its own."""
        client = self.client()
        try:
            return client.ask(*args, **more)
        finally:
            client.lose()


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is written to the log meanwhile."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)
