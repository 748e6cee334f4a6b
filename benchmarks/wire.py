"""What a MiB costs on its way from one process to another over TLS, without a disk and without a hash.

Raw Twisted TLS is the floor; then the same bytes as chunks over the machines' wire, four of them under way at a time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from benchmarks.report import Table
from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.digest import CHUNK
from cpc.core.lease import Lease
from cpc.core.memory import keep_freed_memory
from cpc.wire.connection import Connection, Listener, connect
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import ChunkPut, Message
from cpc.wire.tls import ClientTls, ServerTls

SERVER = "bench"
PIECE = 64 << 10
IN_FLIGHT = 4
MIB = float(1 << 20)


class Nothing(Message, frozen=True):
    """An empty answer."""


def run(size: int, runs: int) -> Table:
    """CPU in ms a MiB of sender and receiver, for `size` MiB each way of sending."""
    table = Table(f"the wire, {size} MiB")
    for _ in range(runs):
        raw, chunks = between(raw_sender, raw_receiver, size), between(chunk_sender, chunk_receiver, size)
        table.add(
            raw_sender_ms=raw[0], raw_receiver_ms=raw[1], raw_mib_s=raw[2],
            sender_ms=chunks[0], receiver_ms=chunks[1], mib_s=chunks[2],
        )  # fmt: skip
    return table


Side = Callable[[int, int, ServerTls | ClientTls], None]  # port, bytes, TLS; begins what ends with reactor.stop()


def between(sender: Side, receiver: Side, size: int) -> tuple[float, float, float]:
    """(sender's CPU, receiver's CPU) in ms a MiB, and MiB/s, with a process for each."""
    keep_freed_memory()  # as server and worker do
    authority = Authority.create(SERVER, SystemClock(), SystemChance())
    server = authority.identity(Name(SERVER, Role.SERVER), 86400.0)
    worker = authority.identity(Name(SERVER, Role.WORKER, "w"), 86400.0)
    near, far = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(far[1], b"%.6f\n" % _receive(receiver, authority, server, size << 20, near[1]))
        os._exit(0)
    port = int(os.read(near[0], 20))
    begin = time.perf_counter()
    spent = _send(sender, authority, worker, size << 20, port)
    wall = time.perf_counter() - begin
    there = float(os.read(far[0], 40))
    os.waitpid(child, 0)
    for handle in (*near, *far):
        os.close(handle)
    return spent / size * 1e3, there / size * 1e3, size / wall


def _receive(side: Side, authority: Authority, who: Identity, size: int, tell: int) -> float:
    from twisted.internet import reactor

    tls = ServerTls(who, lambda: {SERVER: authority.certificate_pem})
    side(tell, size, tls)
    return _spin(reactor)


def _send(side: Side, authority: Authority, who: Identity, size: int, port: int) -> float:
    """In a process of its own, because a reactor runs once."""
    back = os.pipe()
    child = os.fork()
    if child == 0:
        from twisted.internet import reactor

        side(port, size, ClientTls(who, authority.certificate_pem, SERVER))
        os.write(back[1], b"%.6f\n" % _spin(reactor))
        os._exit(0)
    spent = float(os.read(back[0], 40))
    os.waitpid(child, 0)
    os.close(back[0])
    os.close(back[1])
    return spent


def _spin(reactor: Any) -> float:
    before = os.times()
    reactor.run(installSignalHandlers=False)
    after = os.times()
    return after.user + after.system - before.user - before.system


# --- raw ---------------------------------------------------------------------------------------------------------------


class _Sink(Protocol):
    left = 0

    def dataReceived(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left <= 0:
            assert self.transport is not None
            self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        from twisted.internet import reactor

        reactor.stop()


def raw_receiver(tell: int, size: int, tls: Any) -> None:
    """Counts bytes."""
    from twisted.internet import reactor

    factory = Factory.forProtocol(type("Sink", (_Sink,), {"left": size}))
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(TLSMemoryBIOFactory(tls, False, factory))
    listening.addCallback(lambda port: os.write(tell, b"%d\n" % port.getHost().port))


class _Source(Protocol):
    left = 0
    paused = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.left = 0

    def resumeProducing(self) -> None:
        self.paused = False
        while self.left > 0 and not self.paused:
            self.left -= PIECE
            self.transport.write(_ZEROS)

    def connectionLost(self, reason: object = None) -> None:
        from twisted.internet import reactor

        reactor.stop()


_ZEROS = os.urandom(PIECE)


def raw_sender(port: int, size: int, tls: Any) -> None:
    """Writes bytes as they are taken."""
    from twisted.internet import reactor

    factory = Factory.forProtocol(type("Source", (_Source,), {"left": size}))
    TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(TLSMemoryBIOFactory(tls, True, factory))


# --- chunks -------------------------------------------------------------------------------------------------------------


def chunk_receiver(tell: int, size: int, tls: Any) -> None:
    """Answers chunks with nothing."""
    from twisted.internet import reactor

    async def put(_: Connection, question: ChunkPut) -> None:
        assert len(question.data) == CHUNK

    def connected(connection: Connection) -> None:
        connection.serve("chunk-put", ChunkPut, put, bulk=True)
        connection.on_closed(lambda _: reactor.stop())

    listener = Listener(reactor, tls, connected, SystemClock())
    listening = ensureDeferred(listener.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")))
    listening.addCallback(lambda port: os.write(tell, b"%d\n" % port.getHost().port))


def chunk_sender(port: int, size: int, tls: Any) -> None:
    """Puts chunks in several lanes."""
    from twisted.internet import reactor

    data = os.urandom(CHUNK)
    numbers = iter(range(size // CHUNK))

    async def lane(connection: Connection) -> None:
        for number in numbers:
            body = ChunkPut(lease=Lease(1, 1, 1), digest=b"%032d" % number, data=memoryview(data))
            await connection.call("chunk-put", body, Nothing, bulk=True)

    async def all_lanes() -> None:
        connection = await connect(TCP4ClientEndpoint(reactor, "127.0.0.1", port), tls, reactor, SystemClock())
        await DeferredList([ensureDeferred(lane(connection)) for _ in range(IN_FLIGHT)], fireOnOneErrback=True)
        connection.on_closed(lambda _: reactor.stop())
        connection.close()

    ensureDeferred(all_lanes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--size", type=int, default=256, help="MiB (default 256)")
    parser.add_argument("--runs", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    run(given.size, given.runs).show(given.json)
