"""The ways in and out of a simulated machine: Twisted's stream endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from zope.interface import implementer  # type: ignore[import-untyped]

from tests.simulation.clock import VirtualCall
from tests.simulation.link import Link

if TYPE_CHECKING:
    from tests.simulation.network import Host


@implementer(IListeningPort)
class Port:
    """Where a process listens."""

    def __init__(self, host: Host, number: int, factory: Any) -> None:
        self.host = host
        self.number = number
        self.factory = factory
        self._held: list[Link] | None = None  # connections that the machine has taken and the process has not

    def startListening(self) -> None:
        if self.number in self.host.ports:
            raise CannotListenError(self.host.name, self.number, OSError("address in use"))
        self.host.ports[self.number] = self
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        if self.host.ports.get(self.number) is self:
            del self.host.ports[self.number]
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self.host.name, self.number)

    def pauseProducing(self) -> None:
        """Take nothing more for now."""
        self._held = self._held or []

    def resumeProducing(self) -> None:
        """Take what has come meanwhile, and what comes."""
        held, self._held = self._held or [], None
        for link in held:
            self.host.reactor.callLater(0, self.accept, link)

    def accept(self, link: Link) -> None:
        """The process takes a connection that its machine has taken already."""
        if self._held is not None:
            self._held.append(link)
            return
        side = link.server
        if side.closed:
            return
        protocol = self.factory.buildProtocol(side.getPeer())
        if protocol is None:
            side.abortConnection()
        else:
            side.connected(protocol)


@implementer(IStreamServerEndpoint)
class ServerEndpoint:
    """`listen` on a port of a machine."""

    def __init__(self, host: Host, number: int) -> None:
        self._host = host
        self._number = number

    def listen(self, protocolFactory: Any) -> Deferred[Port]:
        port = Port(self._host, self._number, protocolFactory)
        try:
            port.startListening()
        except CannotListenError as error:
            return fail(error)
        return succeed(port)


@implementer(IStreamClientEndpoint)
class ClientEndpoint:
    """`connect` from one machine to a port of another."""

    def __init__(self, host: Host, target: str, port: int, timeout: float) -> None:
        self._host = host
        self._target = target
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return _Attempt(self._host, self._target, self._port, protocolFactory, self._timeout).answer


class _Attempt:
    """SYN, SYN-ACK, and what may come instead."""

    def __init__(self, host: Host, target: str, port: int, factory: Any, timeout: float) -> None:
        self.answer: Deferred[Any] = Deferred(self._cancel)
        self._host = host
        self._life = host.reactor
        self._network = host.network
        self._target = target
        self._port = port
        self._factory = factory
        self._done = False
        self._link: Link | None = None
        self._timer: VirtualCall = self._life.callLater(timeout, self._fail, TimeoutError())
        self._network.note(f"{host.name} connects to {target}:{port}")
        self._network.reactor.callLater(self._network.latency(), self._at_target)

    def _at_target(self) -> None:
        network, target = self._network, self._network.hosts.get(self._target)
        there = target is not None and target.powered
        if (
            not there
            or network.blocked(self._host.name, self._target)
            or network.blocked(self._target, self._host.name)
        ):
            return  # nobody says anything: the timeout will
        assert target is not None
        port = target.ports.get(self._port)
        if port is None or not target.reactor.alive:
            network.note(f"{self._target}:{self._port} refuses {self._host.name}")
            network.reactor.callLater(network.latency(), self._back, None)
            return
        link = network.link(self._host, target, self._port)
        network.note(f"{link} opens")
        target.reactor.callLater(0, port.accept, link)
        network.reactor.callLater(network.latency(), self._back, link)

    def _back(self, link: Link | None) -> None:
        if self._done or not self._life.alive:
            if link is not None:
                link.client.abortConnection()
        elif link is None:
            self._life.callLater(0, self._fail, ConnectionRefusedError())
        else:
            self._link = link
            self._life.callLater(0, self._connected, link)

    def _connected(self, link: Link) -> None:
        if self._done:
            link.client.abortConnection()
            return
        self._done = True
        self._timer.cancel()
        protocol = self._factory.buildProtocol(link.client.getPeer())
        if protocol is None:
            link.client.abortConnection()
            self.answer.errback(ConnectionRefusedError("no protocol"))
            return
        link.client.connected(protocol)
        self.answer.callback(protocol)

    def _fail(self, error: Exception) -> None:
        if not self._done:
            self._done = True
            if self._timer.active():
                self._timer.cancel()
            self.answer.errback(error)

    def _cancel(self, _answer: Deferred[Any]) -> None:
        self._fail(CancelledError())
