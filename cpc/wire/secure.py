"""TLS over a Twisted transport: TLSMemoryBIOProtocol, made for connections that carry files as well as single calls.

Twisted hands every TLS record (16 KiB) on by itself, in both directions. Here all records that came with one read are handed
on together, and all that one write makes are given to the transport together. The socket is read in larger pieces while much
comes. What is written goes to the kernel at once, if nothing waits there: by way of the reactor's list of writers it would
leave one turn of the loop later, behind whatever else has come. What is seen of it from outside is the same.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

RECORD = 16 << 10  # the most that a TLS record carries
LITTLE = 64 << 10  # bytes read from the socket at a time, at first
MUCH = 256 << 10  # and while more than that is there
_ROOM = 2 * MUCH


def _records(connection: SSL.Connection) -> tuple[bytes, Error | None]:
    """All that the records which are there carry, up to MUCH; and why there is no more, None when there may be.

    The reason comes without its traceback: that would hold the frames of this read, and with them all bytes that came, until
    the next search for garbage.
    """
    pieces: list[bytes] = []
    size = 0
    while size < MUCH:
        try:
            pieces.append(connection.recv(RECORD))
        except Error as end:
            return b"".join(pieces), end.with_traceback(None)
        size += len(pieces[-1])
    return b"".join(pieces), None


def _give(transport: Any, data: bytes) -> None:
    """Write to a transport; to a socket that takes it, now. What it does not take, and every error, is left to the reactor."""
    if isinstance(transport, FileDescriptor) and _idle(transport):
        taken = transport.writeSomeData(data)
        if isinstance(taken, int) and taken > 0:
            data = data[taken:]
    if data:
        transport.write(data)


def _idle(transport: FileDescriptor) -> bool:
    """Whether nothing waits in the transport, and it is open."""
    waits = transport.dataBuffer or transport._tempDataBuffer
    return bool(transport.connected) and not (waits or transport.disconnecting or transport._writeDisconnected)


class Secure(TLSMemoryBIOProtocol):
    """One connection."""

    _tlsConnection: Any
    transport: Any
    _greeted = False  # what the handshake itself has to say has left

    def makeConnection(self, transport: Any) -> None:
        transport.SEND_LIMIT = MUCH  # of a TCP transport; others do not look at it
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the other side, encrypted."""
        size = getattr(self.transport, "bufferSize", 0)
        if len(data) == size < MUCH:
            self.transport.bufferSize = MUCH
        elif len(data) < LITTLE < size:
            self.transport.bufferSize = LITTLE
        super().dataReceived(data)

    def _flushReceiveBIO(self) -> None:
        """Hand on, at once, all that the last bytes have completed; then see what TLS itself has to say."""
        end: Error | None = None
        some = False
        while end is None and not self._lostTLSConnection:
            data, end = _records(self._tlsConnection)
            if data and not self._aborted:
                some = True
                ProtocolWrapper.dataReceived(self, data)
        if some and self._greeted and isinstance(end, WantReadError):
            return  # TLS has nothing to say that could not wait for the next bytes from here
        self._greeted = True
        if end is not None and not isinstance(end, WantReadError) and not self._lostTLSConnection:
            if isinstance(end, ZeroReturnError):
                self._shutdownTLS()
                self._tlsShutdownFinished(None)
            else:
                self._tlsShutdownFinished(Failure(end))
        self._flushSendBIO()

    def _write(self, data: bytes | memoryview) -> None:
        if self._lostTLSConnection or not data:
            return
        view = memoryview(data)
        start = unflushed = 0
        while start < len(view):
            try:
                start += self._tlsConnection.send(view[start : start + RECORD])
            except WantReadError:
                self._bufferedWrite(bytes(view[start:]))
                return
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            if start - unflushed >= MUCH:
                unflushed = start
                self._flushSendBIO()
        self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        """Give the transport all that is ready to leave."""
        while True:
            try:
                data = self._tlsConnection.bio_read(_ROOM)
            except WantReadError:
                return
            _give(self.transport, data)
            if len(data) < _ROOM:
                return


class SecureBuffering(Secure, BufferingTLSTransport):
    """The same, with small writes of one turn of the reactor sent as one: for protocols that write header by header."""

    def flush(self) -> None:
        """What was written leaves now: nothing more belongs to it."""
        self._aggregator.flush()


class SecureFactory(TLSMemoryBIOFactory):
    """`TLSMemoryBIOFactory` whose connections are Secure, buffering unless `buffering` is False."""

    noisy = False

    def __init__(self, security: Any, is_client: bool, wrapped: Any, reactor: Any, buffering: bool = True) -> None:
        super().__init__(security, is_client, wrapped, cast(IReactorTime, reactor))
        self.protocol = SecureBuffering if buffering else Secure
