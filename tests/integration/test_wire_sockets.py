"""The wire over real sockets on 127.0.0.1."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.task import deferLater

from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.errors import Refused, Unavailable
from cpc.core.lease import Lease
from cpc.wire import calls, questions
from cpc.wire.connection import GREETING_TIME, Connection, Listener, connect
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import ChunkData, ChunkGet, ChunkList, ChunkPut, Message, Turn
from cpc.wire.tls import ClientTls, ServerTls
from tests.helpers.hand_timers import HandTimers

CLOCK = SystemClock()
LEASE = Lease(1, 1, 1)
YEAR = 365 * 86_400.0


class Server:
    """A listener on a free port of 127.0.0.1 that serves a few methods."""

    def __init__(self) -> None:
        self.authority = Authority.create("server-a", CLOCK, SystemChance())
        self.taken: list[Connection] = []
        self.port = 0
        tls = ServerTls(self.identity(Role.SERVER), lambda: {"server-a": self.authority.certificate_pem})
        self.timers = HandTimers()
        self.listener = Listener(self.timers, tls, self._take, CLOCK)

    def identity(self, role: Role, name: str = "") -> Identity:
        return self.authority.identity(Name("server-a", role, name), YEAR)

    def _take(self, connection: Connection) -> None:
        self.taken.append(connection)
        connection.serve("turn", Turn, self._turn)
        connection.serve("chunk-get", ChunkGet, self._get, bulk=True)
        connection.serve("chunk-put", ChunkPut, self._put, bulk=True)
        connection.serve("never", Turn, self._never)

    async def _turn(self, _: Connection, turn: Turn) -> Message:
        return turn

    async def _never(self, _: Connection, turn: Turn) -> Message:
        await Deferred()
        return turn

    async def _get(self, _: Connection, asked: ChunkGet) -> Message:
        return ChunkData(data=memoryview(asked.digest * (4 << 15)))

    async def _put(self, _: Connection, asked: ChunkPut) -> Message:
        return ChunkList(digests=(asked.digest, b"%d" % len(asked.data)))

    def endpoint(self) -> TCP4ClientEndpoint:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)

    async def connect(
        self, who: Identity | None = None, authority: Authority | None = None, timeout: float = 60.0
    ) -> Connection:
        trusted = authority or self.authority
        tls = ClientTls(who or self.identity(Role.WORKER, "w1"), trusted.certificate_pem, trusted.server_id)
        return await connect(self.endpoint(), tls, reactor, CLOCK, timeout=timeout)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    port = await server.listener.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    server.port = port.getHost().port
    try:
        yield server
    finally:
        ends = [closed(connection) for connection in server.taken]
        await server.listener.stop()
        for end in ends:
            await end


def closed(connection: Connection) -> Deferred[str]:
    """When and why it has ended."""
    end: Deferred[str] = Deferred()
    connection.on_closed(end.callback)
    return end


async def until(true: Any, within: float = 60.0) -> None:
    """Wait until `true()`, looking every few milliseconds."""
    end = CLOCK.monotonic() + within
    while not true():
        assert CLOCK.monotonic() < end, "it did not become true in time"
        await deferLater(reactor, 0.01)


@pytest_twisted.ensureDeferred
async def test_two_machines_know_each_other_and_talk() -> None:
    async with serving() as server:
        here = await server.connect()
        assert here.peer == Name("server-a", Role.SERVER)
        assert server.taken[0].peer == Name("server-a", Role.WORKER, "w1")
        assert here.remote == server.taken[0].local == f"127.0.0.1:{server.port}"
        asked = [ensureDeferred(here.call("turn", Turn(number=n), Turn)) for n in range(500)]
        assert [turn.number for turn in await gatherResults(asked)] == list(range(500))
        end = closed(here)
        here.close("done")
        assert await end == "done"


@pytest_twisted.ensureDeferred
async def test_strangers_are_told_in_words() -> None:
    async with serving() as server:
        other = Authority.create("server-b", CLOCK, SystemChance())
        stranger = other.identity(Name("server-b", Role.WORKER, "w"), YEAR)
        with pytest.raises(Refused, match="does not know the authority"):
            await server.connect(stranger)
        with pytest.raises(Refused, match="not the server in the bundle"):
            await server.connect(server.identity(Role.WORKER, "w"), other)
        assert server.taken == []


@pytest_twisted.ensureDeferred
async def test_files_travel_both_ways_with_few_bytes_held() -> None:
    async with serving() as server:
        here = await server.connect()
        most = [0]

        async def get(number: int) -> bytes:
            found = await here.call("chunk-get", ChunkGet(lease=LEASE, digest=b"%032d" % number), ChunkData, bulk=True)
            most[0] = max(most[0], server.taken[0].backlog)
            return bytes(found.data)

        data = await gatherResults([ensureDeferred(get(number)) for number in range(16)])
        assert data == [b"%032d" % number * (4 << 15) for number in range(16)]
        assert most[0] <= questions.ANSWER_BACKLOG + (5 << 20)
        puts = [
            here.call(
                "chunk-put", ChunkPut(lease=LEASE, digest=b"%d" % n, data=memoryview(data[n])), ChunkList, bulk=True
            )
            for n in range(16)
        ]
        said = await gatherResults([ensureDeferred(put) for put in puts])
        assert [one.digests for one in said] == [(b"%d" % n, b"4194304") for n in range(16)]


@pytest_twisted.ensureDeferred
async def test_a_side_that_does_not_read_holds_the_other_back() -> None:
    """The client stops reading its socket while it asks for 64 MiB: the server holds a few files, not all."""
    async with serving() as server:
        here = await server.connect()
        here.channel.hold()
        asked = [
            ensureDeferred(here.call("chunk-get", ChunkGet(lease=LEASE, digest=b"x" * 32), ChunkData, bulk=True))
            for _ in range(16)
        ]
        there = server.taken[0]
        await until(lambda: there.backlog > 1 << 20)
        await deferLater(reactor, 0.2)
        assert there.backlog <= calls.BULK_CALLS * ((4 << 20) + 4096)
        here.channel.release()
        assert sum(len(one.data) for one in await gatherResults(asked)) == 64 << 20


@pytest_twisted.ensureDeferred
async def test_a_broken_socket_fails_what_is_outstanding() -> None:
    async with serving() as server:
        here = await server.connect()
        asked = ensureDeferred(here.call("never", Turn(number=1), Turn))
        await until(lambda: len(server.taken[0]._questions) == 1)
        server.taken[0].channel.abort("test")
        with pytest.raises(Unavailable, match="lost"):
            await asked
        await until(lambda: server.listener.connections == ())


@pytest_twisted.ensureDeferred
async def test_bare_sockets_that_say_nothing_or_garbage_are_dropped() -> None:
    async with serving() as server:
        silent = socket.create_connection(("127.0.0.1", server.port))
        rude = socket.create_connection(("127.0.0.1", server.port))
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for one in (silent, rude):
            one.setblocking(False)

        def ended(one: socket.socket) -> bool:
            try:
                while one.recv(4096):
                    pass
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return True

        await until(lambda: ended(rude))  # which came after the other
        assert not ended(silent)
        server.timers.advance(GREETING_TIME)
        await until(lambda: ended(silent))
        silent.close()
        rude.close()
        assert server.taken == []
        (await server.connect()).close()


@pytest_twisted.ensureDeferred
async def test_where_packets_are_dropped_is_said() -> None:
    server = Server()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        server.port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            await server.connect(timeout=0.3)
        for each in waiting:
            each.close()


@pytest_twisted.ensureDeferred
async def test_where_nobody_listens_is_said() -> None:
    server = Server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.port = free.getsockname()[1]
        with pytest.raises(Unavailable, match="nothing listens there"):
            await server.connect()
