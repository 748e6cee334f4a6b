"""One connection in the simulated network: two sides, each a Twisted transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from tests.simulation.clock import HostReactor, VirtualCall

if TYPE_CHECKING:
    from tests.simulation.network import Host, Network

WINDOW = 16  # segments that are sent and not read by the other process
SEGMENT = 16406  # bytes: what one full TLS record takes
BUFFER = 4  # segments that wait for the window, until the producer is paused

FIN = None  # the segment after the last one


class Link:
    """A connection: its two sides, and what happens to it as a whole."""

    def __init__(self, network: Network, number: int, client: Host, server: Host, port: int) -> None:
        self.network = network
        self.number = number
        self.port = port
        self.hosts = (client.name, server.name)
        self.void = False  # cut without notice: nothing arrives any more
        here = IPv4Address("TCP", client.name, client.fresh_port())
        there = IPv4Address("TCP", server.name, port)
        self.client = Side(self, "client", client, here, there)
        self.server = Side(self, "server", server, there, here)
        self.client.peer, self.server.peer = self.server, self.client
        self._words = f"link {number} {client.name}-{server.name}:{port}"

    @property
    def sides(self) -> tuple[Side, Side]:
        return (self.client, self.server)

    def cut(self, tell: Collection[str]) -> None:
        """End it; sides that are not told find out when they send, or never."""
        self.void = True
        for side in self.sides:
            if side.role in tell:
                self.network.reactor.callLater(self.network.latency(), side.lose, ConnectionLost(), "reset")

    def process_ended(self, host: Host) -> None:
        """The process of one side is gone. Its machine, if it has power, tells the other side."""
        for side in self.sides:
            if side.host is host:
                side.gone()
                if host.powered and not side.peer.closed:
                    side.reset_peer()
        self.forget()

    def retry(self) -> None:
        """The way may be open again."""
        for side in self.sides:
            side.retry()

    def forget(self) -> None:
        """When neither side believes in it any more."""
        if self.client.closed and self.server.closed:
            self.network.unlink(self)

    def __str__(self) -> str:
        return self._words


@implementer(ITCPTransport, IConsumer, IPushProducer)
class Side:
    """The transport that one protocol has. Segments leave in order, one per write, and are handed over in order."""

    disconnecting = False
    peer: Side

    def __init__(self, link: Link, role: str, host: Host, here: IPv4Address, there: IPv4Address) -> None:
        self.link = link
        self.role = role
        self.host = host
        self.life: HostReactor = host.reactor
        self.protocol: Protocol | None = None
        self.closed = False  # this side's machine has forgotten the connection
        self._end: Exception | None = None
        self._network = link.network
        self._addresses = (here, there)
        self._out: deque[bytes | None] = deque()  # written, not sent: the window is full
        self._sent = 0  # number of the last segment sent
        self._flying: dict[int, bytes | None] = {}  # sent, not arrived
        self._stalled: dict[int, None] = {}  # of these: held up, to be sent again
        self._unread = (
            0  # arrived at the other side's machine or flying, not read by its process, for all that is known here
        )
        self._signs: list[float] = []  # when it becomes known here of a segment that it was read
        self._waking: VirtualCall | None = None  # when the first of them is looked at, because something waits for it
        self._last_arrival = 0.0
        self._doubtful = False  # arrived, but the sign that it did cannot come back
        self._giving_up: VirtualCall | None = None
        self._arrived: dict[int, bytes | None] = {}
        self._read = 0  # number of the last segment handed to the protocol
        self._reading = True
        self._producer: Any = None
        self._producer_paused = False

    # --- Twisted's names ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.closed or self.disconnecting or not data or not self.life.alive:
            return
        self._out.extend(bytes(data[start : start + SEGMENT]) for start in range(0, len(data), SEGMENT))
        self._pump()
        if len(self._out) > BUFFER and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Collection[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.closed or self.disconnecting:
            return
        self.disconnecting = True
        self._out.append(FIN)
        self._pump()

    def abortConnection(self) -> None:
        if not self.closed:
            self.disconnecting = True
            self.reset_peer()
            self.lose(ConnectionAborted(), "aborted")

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def getHost(self) -> IPv4Address:
        return self._addresses[0]

    def getPeer(self) -> IPv4Address:
        return self._addresses[1]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if not streaming:
            raise NotImplementedError("only producers that push")
        if self.closed:
            producer.stopProducing()
            return
        self._producer, self._producer_paused = producer, False

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            self.life.callLater(0, self._hand_over)

    def stopProducing(self) -> None:
        self.loseConnection()

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Every write leaves at once here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Half-open connections stay half-open here, as they do for two hours with Linux' defaults."""

    @property
    def busy(self) -> bool:
        """Whether more waits here than control messages come to: a file is on its way."""
        return len(self._out) > BUFFER

    # --- sending --------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what the window allows; a FIN needs none."""
        if self._signs:
            self._move_window()
        while self._out and (self._unread < WINDOW or self._out[0] is FIN):
            segment = self._out.popleft()
            self._sent += 1
            self._unread += 1
            self._flying[self._sent] = segment
            if segment is FIN:
                self.life.callLater(0, self.lose, ConnectionDone(), "closed")
            elif self._by_chance():
                continue
            self._send(self._sent)
        if self._out:
            self._wake_later()
        elif self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def _by_chance(self) -> bool:
        """Whether this segment meets a fault: then it is not sent now."""
        faults, chance = self._network.faults, self._network.chance
        if faults.cut and chance.random() < faults.cut:
            self._network.on_fault("segment lost, connection cut")
            self._network.cut(self.link, [side.role for side in self.link.sides if chance.random() >= faults.silent])
            self._stall(self._sent)
            return True
        if faults.stall and chance.random() < faults.stall:
            self._network.on_fault("segment held up")
            number = self._sent
            self._network.reactor.callLater(chance.uniform(0, faults.stall_time), self._send, number)
            return True
        return False

    def _send(self, number: int) -> None:
        """On its way; never overtaking the one before."""
        now = self._network.reactor.seconds()
        self._last_arrival = max(self._last_arrival, now + self._network.latency())
        self._network.reactor.callLater(self._last_arrival - now, self._arrive, number)

    def _arrive(self, number: int) -> None:
        """At the other machine, or lost on the way: then it is sent again when the way is open."""
        if number not in self._flying:
            return
        peer = self.peer
        if self.link.void or not peer.host.powered or self._network.blocked(self.host.name, peer.host.name):
            self._stall(number)
            return
        segment = self._flying.pop(number)
        if peer.closed or not peer.life.alive:
            if segment is not FIN:
                peer.reset_peer()
            return
        if self._network.blocked(peer.host.name, self.host.name):
            self._doubtful = True
            self._watch()
        peer.take(number, segment)

    def _stall(self, number: int) -> None:
        self._stalled[number] = None
        self._watch()

    def _watch(self) -> None:
        if self._giving_up is None:
            self._giving_up = self._network.reactor.callLater(self._network.give_up, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        if self._stalled or self._doubtful:
            self.lose(ConnectionLost("timed out"), "timed out")

    def retry(self) -> None:
        """What was held up is sent again."""
        if self.link.void:
            return
        self._doubtful = False
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        stalled, self._stalled = sorted(self._stalled), {}
        for number in stalled:
            self._send(number)

    def reset_peer(self) -> None:
        """This side's machine does not know the connection any more and says so (RST)."""
        if not (self.link.void or self._network.blocked(self.host.name, self.peer.host.name)):
            self._network.reactor.callLater(self._network.latency(), self.peer.lose, ConnectionLost("reset"), "reset")

    # --- receiving ------------------------------------------------------------------------------------------------------

    def connected(self, protocol: Protocol) -> None:
        """The process has the connection."""
        self.protocol = protocol
        protocol.makeConnection(self)
        if self.closed:  # it has ended between the machine's knowing of it and the process's
            self.life.callLater(0, self._tell, self._end or ConnectionLost())
        self._hand_over()

    def take(self, number: int, segment: bytes | None) -> None:
        """A segment has come to this machine; its process reads it when it runs."""
        self._arrived[number] = segment
        if self.life.frozen:
            self.life.callLater(0, self._hand_over)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the protocol what has come, in order, while it reads."""
        while self._reading and self.protocol is not None and not self.closed and self._read + 1 in self._arrived:
            self._read += 1
            segment = self._arrived.pop(self._read)
            if segment is FIN:
                self._network.note(f"{self.link} {self.role} sees the end")
                self.lose(ConnectionDone(), "closed")
                return
            self._network.note(f"{self.link} {self.role} reads {self._read}")
            self.peer.was_read(self._network.latency())
            self.protocol.dataReceived(segment)

    def was_read(self, seconds: float) -> None:
        """The other process has read a segment; the sign of it is on its way, for so long. It is an event only for a side that
        waits for it: most segments find the window open, and there would be one for each."""
        self._signs.append(self._network.reactor.seconds() + seconds)
        if self._out:
            self._wake_later()

    def _move_window(self) -> None:
        """By the signs that are here now."""
        now = self._network.reactor.seconds()
        coming = [at for at in self._signs if at > now]
        self._unread -= len(self._signs) - len(coming)
        self._signs = coming

    def _wake_later(self) -> None:
        """With the first sign."""
        if not self._signs or self.closed:
            return
        first = min(self._signs)
        if self._waking is not None and self._waking.active():
            if self._waking.time <= first:
                return
            self._waking.cancel()
        self._waking = self._network.reactor.callLater(max(0.0, first - self._network.reactor.seconds()), self._wake)

    def _wake(self) -> None:
        self._waking = None
        if not self.closed:
            if self.life.frozen:
                self.life.callLater(0, self._pump)
            else:
                self._pump()

    # --- the end --------------------------------------------------------------------------------------------------------

    def lose(self, error: Exception, how: str) -> None:
        """The connection has ended for this side; its process is told when it runs."""
        if self.closed:
            return
        self._network.note(f"{self.link} {self.role} {how}")
        self._shut()
        self._end = error
        self.life.callLater(0, self._tell, error)
        self.link.forget()

    def gone(self) -> None:
        """There is nobody to tell."""
        self._shut()

    def _shut(self) -> None:
        self.closed = True
        self.disconnecting = True
        self._out.clear()
        self._arrived.clear()
        self._signs.clear()
        if self._waking is not None and self._waking.active():
            self._waking.cancel()
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if FIN not in self._flying.values():
            self._flying.clear()  # after a proper close the machine still delivers what is on its way
        self._stalled.clear()

    def _tell(self, error: Exception) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(error))
