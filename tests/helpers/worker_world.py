"""A scripted server and workers on the network in memory: the real wire, spool and agent in virtual time."""

from __future__ import annotations

import gc
import hashlib
import os
import random
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core import ids
from cpc.core.chance import SeededChance
from cpc.core.clock import SystemClock
from cpc.core.digest import Content, of_chunk
from cpc.core.errors import BadInput, CopernicusError, NotFound, Refused
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.offload import inline
from cpc.core.resources import GIB, Amounts
from cpc.spool.ownership import Owner, claim
from cpc.wire.bundle import Bundle
from cpc.wire.connection import Connection, Listener
from cpc.wire.identity import Authority, Name, Role
from cpc.wire.messages import (
    Bulk,
    Checkpoint,
    ChunkData,
    ChunkGet,
    ChunkList,
    ChunkPut,
    ChunksMissing,
    Enrol,
    Enrolled,
    Goodbye,
    Hello,
    Orders,
    Result,
    Settled,
    Tail,
    Task,
    Turn,
    Welcome,
)
from cpc.wire.tls import ServerTls
from cpc.worker import link, waiting
from cpc.worker.agent import Agent, Options
from cpc.worker.credentials import Credentials, place
from cpc.worker.offer import Offer
from cpc.worker.starting import PlainStarter
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.helpers.programs import FakeProcesses, Program
from tests.simulation.clock import VirtualReactor
from tests.simulation.network import Faults, Host, Network


class _Failures:
    """Takes the place of the agent's logs: what it did not expect fails a test (`World.check`).

    It stays there for good, because coroutines of killed agents end when Python collects them, at any time, badly.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []

    def failure(self, text: str, **facts: Any) -> None:
        failure = facts.get("failure") or Failure()
        self.seen.append(f"{text.format(**facts)}\n{failure.getTraceback()}")


FAILURES = _Failures()
waiting._log = FAILURES  # type: ignore[assignment]
link._log = FAILURES  # type: ignore[assignment]

SERVER = "11111111-2222-3333-4444-555555555555"
PORT = 13807


def lease(number: int, attempt: int = 1) -> Lease:
    return Lease(ids.make(1, number), attempt, 1)


def content(data: bytes) -> Content:
    from cpc.core.digest import CHUNK, of_chunks

    return of_chunks([data[start : start + CHUNK] for start in range(0, len(data), CHUNK)])


@dataclass
class Script:
    """What the server knows and how it behaves; survives its restarts."""

    authority: Authority
    tasks: list[Task] = field(default_factory=list)
    results: dict[Lease, list[Result]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    hellos: list[Hello] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    puts: list[bytes] = field(default_factory=list)
    gets: list[bytes] = field(default_factory=list)
    goodbyes: list[str] = field(default_factory=list)
    leased: dict[Lease, Task] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    enrolments: int = 0
    renewals: int = 0
    next_orders: Orders = field(default_factory=Orders)
    beat: float = 10.0
    heartbeat_time: float = 60.0
    brief: bool = False
    checkpoint_interval: float = 100.0
    certificate_valid_for: float = 86_400.0
    drop: tuple[Lease, ...] = ()
    lose_answers: int = 0  # do what a turn says, then cut the connection instead of answering
    settle: bool = True
    verdict: str = "accepted"
    postpone: int = 0  # answer so many results with retry
    revoked: str = ""
    refuses: dict[str, CopernicusError] = field(default_factory=dict)  # by method: enrol, hello
    knows: set[str] | None = None  # fingerprints of the keys that may say hello; None: all
    poisoned: Lease | None = None  # a turn with this result makes the server fail
    mute: bool = False
    all_at_once: bool = False  # tasks also beyond the worker's room

    def put_file(self, data: bytes) -> Content:
        found = content(data)
        for start, digest in zip(range(0, len(data), 4 << 20), found.chunks, strict=True):
            self.chunks[digest] = data[start : start + (4 << 20)]
        return found

    def add(self, number: int, *argv: str, attempt: int = 1, **more: object) -> Lease:
        who = lease(number, attempt)
        fields = {"granted": Amounts(cores=1), "project": ids.make(1, 1), **more}
        self.tasks.append(Task(lease=who, argv=argv, **fields))  # type: ignore[arg-type]
        return who

    def settled(self, who: Lease) -> bool:
        return who in self.results

    def file(self, who: Lease, path: str) -> bytes:
        """Bytes of one output of an accepted result, from what the server really has."""
        result = self.results[who][0]
        entry = result.files.find(os.fsencode(path))
        assert entry is not None, f"{path} is not among {[each.path for each in result.files.entries]}"
        assert entry.content is not None
        parts = [result.small.get(digest) or self.chunks[digest] for digest in entry.content.chunks]
        data = b"".join(parts)
        assert hashlib.sha256(data).digest() == entry.content.digest or not data
        return data

    def manifest_bytes(self, files: Manifest, path: str) -> bytes:
        entry = files.find(os.fsencode(path))
        assert entry is not None
        assert entry.content is not None
        return b"".join(self.chunks[digest] for digest in entry.content.chunks)


class RealHost:
    """This machine, for a scripted server on a real port of 127.0.0.1."""

    name = "localhost"

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.clock = SystemClock()

    def listen(self, port: int) -> Any:
        from twisted.internet.endpoints import TCP4ServerEndpoint

        return TCP4ServerEndpoint(self.reactor, port, interface="127.0.0.1")


def make_bundle(authority: Authority, host: str, port: int) -> Bundle:
    """A worker bundle of this server."""
    identity = authority.identity(Name(SERVER, Role.BUNDLE, "lab"), 1e8)
    return Bundle(
        role="worker",
        name="lab",
        server=SERVER,
        server_name="test",
        addresses=((host, port),),
        authority=authority.certificate_pem.decode(),
        key=identity.key_pem.decode(),
        certificate=identity.certificate_pem.decode(),
    )


class FakeServer:
    """One life of a server on `host`."""

    def __init__(self, host: Host | RealHost, script: Script, port: int = PORT) -> None:
        self.host = host
        self.script = script
        identity = script.authority.identity(Name(SERVER, Role.SERVER), 1e8)
        pinned = {SERVER: script.authority.certificate_pem}
        tls = ServerTls(identity, lambda: pinned, lambda name, fingerprint: script.revoked or None)
        self.listener = Listener(host.reactor, tls, self._opened, host.clock)
        self.sessions: dict[Connection, Hello] = {}
        self.never: list[Deferred[None]] = []
        self.listening = ensureDeferred(self.listener.listen(host.listen(port)))  # type: ignore[arg-type]

    def _opened(self, connection: Connection) -> None:
        connection.serve("enrol", Enrol, self._enrol)
        connection.serve("renew-certificate", Enrol, self._renew)
        connection.serve("hello", Hello, self._hello)
        connection.serve("turn", Turn, self._turn)
        connection.serve("goodbye", Goodbye, self._goodbye)
        connection.serve("bulk", Bulk, self._bulk)
        connection.serve("chunk-get", ChunkGet, self._get, bulk=True)
        connection.serve("chunk-put", ChunkPut, self._put, bulk=True)
        connection.serve("chunks-missing", ChunksMissing, self._missing, bulk=True)

    def push(self, orders: Orders) -> None:
        for connection in self.sessions:
            if not connection.closed:
                connection.tell("orders", orders)

    async def _enrol(self, connection: Connection, question: Enrol) -> Enrolled:
        assert connection.peer is not None
        if connection.peer.role is not Role.BUNDLE:
            raise Refused("only a bundle may enrol")
        self._refuse("enrol")
        self.script.enrolments += 1
        if self.script.knows is not None:
            from cpc.wire.identity import fingerprint_of

            self.script.knows.add(fingerprint_of(question.request))
        return self._certificate(question)

    def _refuse(self, method: str) -> None:
        if method in self.script.refuses:
            raise self.script.refuses[method]

    def cut(self, error: CopernicusError) -> None:
        """End all sessions with this error."""
        for connection in list(self.sessions):
            connection.refuse(error)

    async def _renew(self, connection: Connection, question: Enrol) -> Enrolled:
        self.script.renewals += 1
        return self._certificate(question)

    def _certificate(self, question: Enrol) -> Enrolled:
        from cpc.wire.identity import fingerprint_of

        key = fingerprint_of(question.request).encode()
        name = self.script.names.setdefault(key, f"w{len(self.script.names) + 1}")
        valid = self.script.certificate_valid_for
        return Enrolled(
            certificate=self.script.authority.issue(question.request, Name(SERVER, Role.WORKER, name), valid),
            name=name,
            valid_for=valid,
        )

    async def _hello(self, connection: Connection, hello: Hello) -> Welcome:
        script = self.script
        self._refuse("hello")
        if script.knows is not None and connection.peer_fingerprint not in script.knows:
            raise Refused("this server does not know the worker's key", "enrol again with a connection bundle")
        script.hellos.append(hello)
        self.sessions[connection] = hello
        drop, script.drop = script.drop, ()
        return Welcome(
            session=len(script.hellos),
            server="test",
            release="3",
            incarnation=1,
            heartbeat_time=script.heartbeat_time,
            beat=script.beat,
            brief=script.brief,
            checkpoint_interval=script.checkpoint_interval,
            drop=drop,
            certificate_valid_for=script.certificate_valid_for,
        )

    async def _turn(self, connection: Connection, turn: Turn) -> Orders | None:
        script = self.script
        script.turns.append(turn)
        if script.mute:
            never: Deferred[None] = Deferred()
            self.never.append(never)
            await never
        if any(result.lease == script.poisoned for result in turn.results):
            raise BadInput("this result is not to be understood")
        script.tails.extend(turn.tails)
        for checkpoint in turn.checkpoints:
            self._has_chunks(checkpoint.files, {})
            script.checkpoints.append(checkpoint)
            script.order.append(f"checkpoint {checkpoint.lease}")
        settled, retry = [], []
        for result in turn.results:
            if script.postpone:
                script.postpone -= 1
                retry.append(result.lease)
                continue
            self._has_chunks(result.files, result.small)
            script.results.setdefault(result.lease, []).append(result)
            script.order.append(f"result {result.lease}")
            if script.settle:
                settled.append(Settled(lease=result.lease, verdict=script.verdict))
        orders, script.next_orders = script.next_orders, Orders()
        tasks, free = list(orders.tasks), turn.free
        while turn.wants and script.tasks and (script.all_at_once or free.covers(script.tasks[0].granted)):
            task = script.tasks.pop(0)
            free = free - task.granted
            script.leased[task.lease] = task
            tasks.append(task)
        if script.lose_answers:
            script.lose_answers -= 1
            script.tasks[:0] = tasks
            connection.close("cut")
            return None
        return Orders(
            tasks=tuple(tasks),
            settled=tuple(settled),
            retry=tuple(retry),
            cancel=orders.cancel,
            hand_back=orders.hand_back,
            follow=orders.follow,
            drain=orders.drain,
            leave=orders.leave,
        )

    def _has_chunks(self, files: Manifest, small: dict[bytes, bytes]) -> None:
        for _, found in files.files():
            for digest in found.chunks:
                assert digest in small or digest in self.script.chunks, "a result came before its files"

    async def _goodbye(self, connection: Connection, goodbye: Goodbye) -> None:
        self.script.goodbyes.append(goodbye.reason)

    async def _bulk(self, connection: Connection, bulk: Bulk) -> None:
        if not any(each.peer == connection.peer and not each.closed for each in self.sessions):
            raise Refused("there is no such session")

    async def _get(self, connection: Connection, question: ChunkGet) -> ChunkData:
        self.script.gets.append(question.digest)
        if question.digest not in self.script.chunks:
            raise NotFound("no such chunk")
        return ChunkData(data=memoryview(self.script.chunks[question.digest]))

    async def _put(self, connection: Connection, question: ChunkPut) -> None:
        if of_chunk(question.data) != question.digest:
            raise BadInput("another digest")
        self.script.puts.append(question.digest)
        self.script.chunks[question.digest] = bytes(question.data)

    async def _missing(self, connection: Connection, question: ChunksMissing) -> ChunkList:
        return ChunkList(digests=tuple(each for each in question.digests if each not in self.script.chunks))


class World:
    """A server `s` and, when asked for, workers; everything in virtual time."""

    def __init__(self, seed: int = 1, programs: dict[str, Program] | None = None, faults: Faults | None = None) -> None:
        self.reactor = VirtualReactor()
        self.network = Network(self.reactor, random.Random(seed), faults)
        self.chance = SeededChance(seed)
        self.server_host = self.network.host("s")
        self.programs = programs if programs is not None else {"true": Program(1.0)}
        self.script = Script(Authority.create(SERVER, self.server_host.clock, self.chance))
        self.server = FakeServer(self.server_host, self.script)
        self.bundle = make_bundle(self.script.authority, "s", PORT)
        self.platter = Platter(self.reactor.seconds)
        self.said: list[str] = []
        gc.collect()  # what former worlds leave is theirs
        FAILURES.seen.clear()

    def check(self) -> None:
        """Nothing happened in the agents that they did not expect."""
        assert FAILURES.seen == []

    def worker(self, name: str = "n1", pid: int = 100, cores: int = 4, **options: object) -> Worker:
        host = self.network.host(name)
        if not host.reactor.alive:
            host.start()
        return Worker(self, host, pid, cores, options)

    def restart_server(self, away: float = 60.0) -> None:
        self.stop_server()
        self.reactor.advance(away)
        self.server = FakeServer(self.server_host, self.script)

    def stop_server(self) -> None:
        self.reactor.finish(self.server.listener.stop())
        self.reactor.advance(0.1)

    def until(self, true: object, within: float = 600.0) -> None:
        self.reactor.run_until(true, within)  # type: ignore[arg-type]


class Worker:
    """One agent on a machine; `kill` ends it as kill -9 does."""

    def __init__(self, world: World, host: Host, pid: int, cores: int, options: dict[str, object]) -> None:
        self.world = world
        self.host = host
        self.disk = MemoryDisk(world.platter)
        self.disk.make_directory("/work")
        self.disk.make_directory("/home")
        self.processes = FakeProcesses(host.reactor, self.disk, world.programs)
        self.place = place(self.disk, ("/home",), world.bundle, host.name)
        self.ended: list[object] = []
        until = options.pop("until_in", None)
        if until is not None:
            options["until"] = host.clock.monotonic() + float(until)  # type: ignore[arg-type]
        self.agent = Agent(
            bundle=world.bundle,
            credentials=Credentials(self.disk, self.place.directory, world.bundle, world.chance),
            connect=host.connect,
            reactor=host.reactor,
            clock=host.clock,
            chance=world.chance,
            processes=self.processes,
            starter=PlainStarter(),
            disk=self.disk,
            offload=inline,
            claim=claim(self.disk, "/work", Owner(credential=f"{SERVER}/lab", host=host.name, pid=pid)),
            offer=Offer(host.name, "smp", Amounts(cores=cores, memory=8 * GIB)),
            options=Options(**options),  # type: ignore[arg-type]
            say=world.said.append,
        )
        ensureDeferred(self.agent.run()).addBoth(self.ended.append)

    @property
    def leftovers(self) -> list[str]:
        """Run directories that are still there."""
        return [each for each in self.world.platter.names if "/runs/" in each]

    def kill(self) -> None:
        self.host.kill()
        self.disk.end()
