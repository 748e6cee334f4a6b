"""Links without TLS, for networks of a hundred servers: ten thousand handshakes would take a minute, and a gigabyte.

**Nothing but the handshake is left out, and here only** (`Shown`): each side is handed the certificate that the machine at the
other end has, where TLS would have proved that it has the key. Who that is, which authority vouches for it, its role, its dates
and whether it is trusted is decided by the production code (`cpc.wire.tls`), and all above it is production code too. Links of
this kind have a port of their own; workers come to the usual one, over TLS. What arrives is counted, frame by frame.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.protocols.policies import ProtocolWrapper

from cpc.server.federation import links
from cpc.wire import frames, tls
from cpc.wire.endpoints import ClientEndpoint, ServerEndpoint
from cpc.wire.identity import Identity, read_certificate
from cpc.wire.peer_messages import Alive
from cpc.wire.secure import Secure
from cpc.wire.tls import ALPN, ClientTls, Refuse

PORT = 23807
MANY = 1000  # certificates: of so many servers and their authorities each is read once, and not for each connection
_ALIVE = b"".join(frames.question("alive", 0, frames.body(Alive())))
Identify = Callable[[str], Identity | None]  # who runs on the machine of that name now


class Shown(SSL.Connection):
    """What a handshake would have come to: the other side's certificate and its authority's."""

    def __init__(self, identity: Identity) -> None:  # not that of OpenSSL: there is no connection
        self._identity = identity

    def get_alpn_proto_negotiated(self) -> bytes:
        return ALPN

    def get_verified_chain(self, *, as_cryptography: bool = False) -> Any:
        return [_read(self._identity.certificate_pem), _read(self._identity.authority_pem)]


class Plain(Secure):
    """One side of such a connection, in the place of `Secure`."""

    def __init__(self, factory: Any, channel: Any, identify: Identify, count: Counter[str]) -> None:
        ProtocolWrapper.__init__(self, factory, channel)
        self._identify = identify
        self._count = count
        self._reader = frames.FrameReader()
        self._reader.limit = frames.MAX_FRAME
        self._shown: Shown | None = None

    def getHandle(self) -> Shown:
        assert self._shown is not None
        return self._shown

    def makeConnection(self, transport: Any) -> None:
        identity = self._identify(transport.peer.host.name)
        ProtocolWrapper.makeConnection(self, transport)
        if identity is None:
            transport.abortConnection()
            return
        self._shown = Shown(identity)
        self.wrappedProtocol.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        if data == _ALIVE and not len(self._reader):  # nearly all there is: not read twice
            self._count["alive"] += 1
        else:
            self._reader.feed(data)
            while (frame := self._reader.next()) is not None:
                envelope = frames.read(frame)
                self._count[envelope.method or ("answer" if envelope.answers else "greeting")] += 1
        ProtocolWrapper.dataReceived(self, data)

    def write(self, data: bytes | memoryview) -> None:
        self.transport.write(data)

    def loseConnection(self) -> None:
        ProtocolWrapper.loseConnection(self)

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Any) -> None:
        ProtocolWrapper.connectionLost(self, reason)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        ProtocolWrapper.registerProducer(self, producer, streaming)

    def unregisterProducer(self) -> None:
        ProtocolWrapper.unregisterProducer(self)


class Unsecured(ClientTls):
    """The way to a server, without what TLS would need for it: a context for each of ten thousand connections."""

    def __init__(
        self,
        identity: Identity | None,
        authority_pem: bytes,
        server: str,
        refuse: Refuse = lambda name, fingerprint: None,
    ) -> None:
        self.role = identity.name.role if identity is not None else None
        self._roots = _roots(server, authority_pem)
        self._refuse = refuse


@lru_cache(MANY)
def _roots(server: str, authority_pem: bytes) -> dict[str, bytes]:
    return tls._roots({server: authority_pem})


_read = lru_cache(MANY)(read_certificate)


@contextlib.contextmanager
def unsecured() -> Iterator[None]:
    """Meanwhile servers dial each other so."""
    former, links.ClientTls = links.ClientTls, Unsecured  # type: ignore[misc]
    try:
        yield
    finally:
        links.ClientTls = former  # type: ignore[misc]


class _Factory:
    """A TlsFactory whose connections are Plain."""

    def __init__(self, factory: Any, dials: bool, identify: Identify, count: Counter[str]) -> None:
        self._factory = factory
        self._dials = dials
        self._identify = identify
        self._count = count

    def buildProtocol(self, address: Any) -> Plain | None:
        channel = self._factory.wrappedFactory.buildProtocol(address)
        if channel is None:
            return None
        made = Plain(self._factory, channel, self._identify, self._count)
        if not self._dials:
            self._factory._creatorCallable(made)  # a server looks now who is pinned
        return made

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()


class PlainWay:
    """An endpoint, either to connect or to listen, without TLS."""

    def __init__(self, endpoint: ClientEndpoint | ServerEndpoint, identify: Identify, count: Counter[str]) -> None:
        self._endpoint: Any = endpoint
        self._identify = identify
        self._count = count

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """As IStreamClientEndpoint."""
        return self._endpoint.connect(_Factory(protocolFactory, True, self._identify, self._count))

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """As IStreamServerEndpoint."""
        return self._endpoint.listen(_Factory(protocolFactory, False, self._identify, self._count))
