"""The simulated network keeps to what TCP promises, breaks what TCP does not, and does the same for the same seed."""

from __future__ import annotations

import gc
import random

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.lease import Lease
from cpc.wire.connection import Connection, connect
from cpc.wire.messages import ChunkData, ChunkGet, Goodbye, Message, Orders, Turn
from cpc.wire.tls import ClientTls
from tests.helpers.wires import HERE, PORT, Wires
from tests.simulation.clock import Clock, HostReactor, VirtualReactor
from tests.simulation.link import Side
from tests.simulation.network import Faults, Host, Network

LEASE = Lease(1, 1, 1)


# --- time -----------------------------------------------------------------------------------------------------------------


def test_time_steps_from_event_to_event_and_never_past_one() -> None:
    reactor, seen = VirtualReactor(), []

    def later(name: str) -> None:
        seen.append((name, reactor.seconds()))

    reactor.callLater(2, later, "two")
    reactor.callLater(1, later, "one")
    reactor.callLater(1, lambda: reactor.callLater(0.5, later, "one and a half"))
    reactor.advance(10)
    assert seen == [("one", 1.0), ("one and a half", 1.5), ("two", 2.0)]
    assert reactor.seconds() == 10


def test_calls_of_one_moment_run_in_the_order_in_which_they_were_made() -> None:
    reactor, seen = VirtualReactor(), list[int]()
    for number in range(50):
        reactor.callLater(1.0, seen.append, number)
    reactor.callLater(0.5, lambda: reactor.callLater(0.5, seen.append, 50))
    reactor.advance(1)
    assert seen == list(range(51))


def test_a_cancelled_or_moved_call_is_not_run_at_its_old_time() -> None:
    reactor, seen = VirtualReactor(), list[tuple[str, float]]()
    gone = reactor.callLater(1, lambda: seen.append(("gone", reactor.seconds())))
    moved = reactor.callLater(1, lambda: seen.append(("moved", reactor.seconds())))
    sooner = reactor.callLater(9, lambda: seen.append(("sooner", reactor.seconds())))
    gone.cancel()
    moved.reset(3)
    sooner.reset(2)
    assert [call.getTime() for call in reactor.getDelayedCalls()] == [2, 3]
    reactor.advance(10)
    assert seen == [("sooner", 2.0), ("moved", 3.0)]
    assert not moved.active()


def test_a_loop_that_lets_no_time_pass_is_found() -> None:
    reactor = VirtualReactor()

    def again() -> None:
        reactor.callLater(0, again)

    again()
    with pytest.raises(RuntimeError, match="time stands still"):
        reactor.advance(1)


def test_a_frozen_process_does_what_came_due_when_it_thaws_and_an_ended_one_never() -> None:
    world = VirtualReactor()
    one, other, seen = HostReactor(world), HostReactor(world), list[str]()
    one.callLater(1, seen.append, "first")
    one.callLater(2, seen.append, "second")
    other.callLater(1, seen.append, "never")
    one.freeze()
    other.end()
    world.advance(5)
    assert seen == []
    one.thaw()
    world.advance(0)
    assert seen == ["first", "second"]


def test_clocks_of_machines_may_differ() -> None:
    world = VirtualReactor()
    one, other = Clock(world), Clock(world, uptime=7.0)
    other.offset = -3_000_000
    world.advance(1.5)
    assert one.now() - other.now() == 3_000_000
    assert (one.monotonic(), other.monotonic()) == (1001.5, 8.5)


# --- bare connections -----------------------------------------------------------------------------------------------------


class Talker(Protocol):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.end: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.end.append(type(reason.value))

    def say(self, *words: bytes) -> None:
        for word in words:
            self.side.write(word)

    @property
    def side(self) -> Side:
        assert isinstance(self.transport, Side)
        return self.transport


class Talkers(Factory):
    noisy = False

    def __init__(self) -> None:
        self.made: list[Talker] = []

    def buildProtocol(self, addr: object) -> Talker:
        self.made.append(Talker())
        return self.made[-1]


class Pair:
    def __init__(self, faults: Faults | None = None, seed: int = 1) -> None:
        self.reactor = VirtualReactor()
        self.network = Network(self.reactor, random.Random(seed), faults)
        self.a, self.b = self.network.host("a"), self.network.host("b")
        self.there = Talkers()
        self.reactor.finish(self.b.listen(1).listen(self.there))

    def join(self) -> tuple[Talker, Talker]:
        client = self.reactor.finish(self.connecting())
        self.reactor.run_until(lambda: self.there.made and self.there.made[-1].transport is not None)
        return client, self.there.made[-1]

    def connecting(self, timeout: float = 30.0) -> Deferred[Talker]:
        return self.a.connect("b", 1, timeout).connect(Talkers())


def test_bytes_arrive_late_in_order_and_once() -> None:
    pair = Pair(Faults(latency=(0.01, 0.5)))
    here, there = pair.join()
    sent = [b"%d " % number for number in range(100)]
    here.say(*sent)
    pair.reactor.run_until(lambda: len(there.heard) == 100)
    assert there.heard == sent
    assert pair.reactor.seconds() > 0.3


def test_a_proper_close_delivers_what_was_written_before() -> None:
    pair = Pair()
    here, there = pair.join()
    here.say(*[b"x"] * 50)
    here.side.loseConnection()
    pair.reactor.advance(1)
    assert len(there.heard) == 50
    assert (here.end, there.end) == ([ConnectionDone], [ConnectionDone])
    assert pair.network.links == ()


def test_nobody_listens_or_the_machine_is_off() -> None:
    pair = Pair()
    with pytest.raises(ConnectionRefusedError):
        pair.reactor.finish(pair.a.connect("b", 2).connect(Talkers()))
    pair.b.kill(silent=True)
    before = pair.reactor.seconds()
    with pytest.raises(TimeoutError):
        pair.reactor.finish(pair.connecting(timeout=7.0))
    assert pair.reactor.seconds() - before == pytest.approx(7.0)


def test_a_cut_that_one_side_is_not_told_leaves_it_half_open_until_it_sends() -> None:
    pair = Pair()
    here, there = pair.join()
    pair.network.cut(pair.network.links[0], tell=["client"])
    pair.reactor.advance(1000)
    assert here.end == [ConnectionLost]
    assert there.end == []
    there.say(b"anybody?")
    pair.reactor.advance(59)
    assert there.end == []
    pair.reactor.advance(2)
    assert there.end == [ConnectionLost]


def test_a_partition_holds_bytes_up_and_healing_lets_them_through_in_order() -> None:
    pair = Pair()
    here, there = pair.join()
    pair.network.partition("a", "b", both=False)
    here.say(b"1", b"2")
    there.say(b"back")
    pair.reactor.advance(30)
    assert there.heard == []
    assert here.heard == [b"back"]
    here.say(b"3")
    pair.network.heal("a", "b")
    here.say(b"4")
    pair.reactor.advance(1)
    assert there.heard == [b"1", b"2", b"3", b"4"]
    pair.reactor.advance(1000)
    assert (here.end, there.end) == ([], [])


def test_a_long_partition_ends_the_connection_of_whoever_sends() -> None:
    pair = Pair()
    here, there = pair.join()
    pair.network.partition("a", "b")
    here.say(b"lost")
    pair.reactor.advance(61)
    assert (here.end, there.end) == ([ConnectionLost], [])
    pair.network.heal()
    there.say(b"still there?")
    pair.reactor.advance(1)
    assert there.end == [ConnectionLost]
    assert there.heard == []


def test_a_frozen_process_reads_when_it_thaws_and_its_machine_accepts_meanwhile() -> None:
    pair = Pair()
    here, there = pair.join()
    pair.b.freeze()
    here.say(b"hello")
    second = pair.reactor.finish(pair.connecting())
    second.say(b"me too")
    pair.reactor.advance(500)
    assert there.heard == []
    assert len(pair.there.made) == 1
    pair.b.thaw()
    pair.reactor.advance(1)
    assert there.heard == [b"hello"]
    assert pair.there.made[1].heard == [b"me too"]
    assert here.end == second.end == []


def test_a_killed_process_is_noticed_and_one_without_power_is_not() -> None:
    pair = Pair()
    here, there = pair.join()
    pair.b.kill()
    pair.reactor.advance(1)
    assert here.end == [ConnectionLost]
    assert there.end == []  # the process is gone: nobody is told anything
    pair.b.start()
    pair.reactor.finish(pair.b.listen(1).listen(pair.there))
    here, there = pair.join()
    pair.b.kill(silent=True)
    pair.reactor.advance(1000)
    assert here.end == []
    pair.b.start()
    here.say(b"hello?")
    pair.reactor.advance(1)
    assert here.end == [ConnectionLost]


def test_a_producer_is_paused_while_the_other_side_does_not_read() -> None:
    class Producer:
        says: list[str] = []  # noqa: RUF012

        def pauseProducing(self) -> None:
            self.says.append("pause")

        def resumeProducing(self) -> None:
            self.says.append("resume")

        def stopProducing(self) -> None:
            self.says.append("stop")

    pair = Pair()
    here, there = pair.join()
    producer = Producer()
    here.side.registerProducer(producer, True)
    there.side.pauseProducing()
    here.say(*[b"x"] * 20)
    pair.reactor.advance(1)
    assert producer.says == []
    here.say(b"x")
    assert producer.says == ["pause"]
    there.side.resumeProducing()
    pair.reactor.advance(1)
    assert producer.says == ["pause", "resume"]
    assert len(there.heard) == 21


# --- the production wire over it ------------------------------------------------------------------------------------------


def story(seed: int) -> tuple[list[str], list[str]]:
    """Two workers call through a bad network for two minutes: what the network saw, and what the calls gave."""
    wires = Wires(seed, Faults(latency=(0.001, 0.05), cut=0.004, silent=0.5, stall=0.02, stall_time=5.0))
    ends: list[str] = []

    async def chunk(_: Connection, asked: ChunkGet) -> Message:
        return ChunkData(data=memoryview(asked.digest * 2000))

    def serve(connection: Connection) -> None:
        connection.serve("chunk-get", ChunkGet, chunk, bulk=True)
        connection.on_closed(lambda reason: ends.append(f"{connection.peer}: {reason}"))

    wires.on_connection = serve
    wires.listen()
    for turn in range(40):
        try:
            connection = wires.connect(wires.worker(f"w{turn % 2}"))
            for number in range(20):
                question = ChunkGet(lease=LEASE, digest=b"%032d" % number)
                found = wires.reactor.finish(connection.call("chunk-get", question, ChunkData, 10, bulk=True))
                assert len(found.data) == 64_000
            connection.tell("goodbye", Goodbye(reason="done"))
            connection.close("done")
        except CopernicusError as error:
            ends.append(str(error))
    wires.reactor.advance(500)
    return wires.network.trace, ends


def test_one_seed_gives_one_trace_and_another_seed_another() -> None:
    """Keys and certificates differ from run to run, and so do sizes of TLS records; the traces must not."""
    first, again, other = story(11), story(11), story(12)
    assert first == again
    assert first[0] != other[0]
    assert any("cut" in line for line in first[0])
    assert any("lost" in line or "no answer" in line for line in first[1])


def test_a_killed_process_does_not_run_its_finally_blocks() -> None:
    wires = Wires()
    wires.listen()
    ran: list[str] = []

    async def work() -> None:
        tls = ClientTls(wires.worker(), wires.authority.certificate_pem, HERE)
        here = await connect(wires.w.connect("s", PORT), tls, wires.w.reactor, wires.w.clock)
        try:
            await here.call("turn", Goodbye(), Orders)
        finally:
            ran.append("call")

    async def sleep() -> None:
        pause: Deferred[None] = Deferred()
        wires.w.reactor.callLater(1000, pause.callback, None)
        try:
            await pause
        finally:
            ran.append("sleep")

    ensureDeferred(work())
    ensureDeferred(sleep())
    wires.reactor.run_until(lambda: wires.taken)
    wires.w.kill(silent=True)
    wires.taken.clear()
    wires.reactor.advance(5000)
    gc.collect()
    assert ran == []


def test_a_call_into_the_void_ends_in_time() -> None:
    wires = Wires()
    wires.listen()
    connection = wires.connect()
    wires.network.cut(wires.network.links[0], tell=[])
    before = wires.reactor.seconds()
    with pytest.raises(Unavailable, match="no answer within 8 s"):
        wires.reactor.finish(connection.call("turn", Goodbye(), Orders, timeout=8.0))
    assert wires.reactor.seconds() - before == pytest.approx(8.0)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_every_call_ends_and_every_connection_is_forgotten(seed: int) -> None:
    """Three workers call through cuts, stalls, partitions, frozen and killed machines; then there is peace."""
    faults = Faults(latency=(0.001, 0.2), cut=0.003, silent=0.5, stall=0.03, stall_time=10.0)
    wires = Wires(seed, faults)
    chance, ends, asked, served = wires.network.chance, list[str](), [0], dict[int, int]()

    async def turn(_: Connection, said: Turn) -> Message:
        served[said.number] = served.get(said.number, 0) + 1
        return said

    wires.on_connection = lambda there: there.serve("turn", Turn, turn)
    wires.listen(idle=50.0)

    async def work(host: Host, name: str) -> None:
        security = ClientTls(wires.worker(name), wires.authority.certificate_pem, HERE)
        here: Connection | None = None
        while wires.reactor.seconds() < 600:
            try:
                here = await connect(host.connect("s", PORT), security, host.reactor, host.clock, 10.0)
                while wires.reactor.seconds() < 600:
                    asked[0] += 1
                    question = Turn(number=asked[0], note="x" * chance.randrange(3) * 10_000)
                    answer = await here.call("turn", question, Turn, timeout=5.0)
                    assert answer == question
                    ends.append("answered")
                here.close("done")
            except CopernicusError as error:
                if here is not None:
                    here.close()
                ends.append(error.code)
            pause: Deferred[None] = Deferred()
            host.reactor.callLater(1.0, pause.callback, None)
            await pause

    workers = [wires.network.host(f"w{number}") for number in range(3)]
    for number, host in enumerate(workers):
        ensureDeferred(work(host, f"w{number}"))
    while wires.reactor.seconds() < 600:
        wires.reactor.advance(chance.uniform(5, 30))
        victim = chance.choice(workers)
        kind = chance.randrange(5)
        if kind == 0:
            victim.freeze()
        elif kind == 1:
            wires.network.partition(victim.name, "s", both=chance.random() < 0.5)
        elif kind == 2:
            wires.s.freeze()
        wires.reactor.advance(chance.uniform(1, 30))
        victim.thaw()
        wires.s.thaw()
        if kind != 4:
            wires.network.heal()
    wires.network.heal()
    wires.network.faults = Faults()
    wires.reactor.advance(400)
    assert ends.count("answered") > 50
    assert set(ends) == {"answered", "unavailable"}
    assert len(ends) >= asked[0]
    assert set(served.values()) == {1}
    assert wires.listener is not None
    assert wires.listener.connections == ()
    open_sides = [side for link in wires.network.links for side in link.sides if not side.closed]
    assert open_sides == []
