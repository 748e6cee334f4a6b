"""TLS over a Twisted transport: TLSMemoryBIOProtocol, made for connections that carry files as well as single calls.

Twisted hands every TLS record (16 KiB) on by itself, in both directions. Here all records that came with one read are handed
on together, and all that one write makes are given to the transport together. The socket is read in larger pieces while much
comes. What is seen of it from outside is the same.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any, cast

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

RECORD = 16 << 10  # the most that a TLS record carries
OVERHEAD = 64  # what it costs, at most
LITTLE = 64 << 10  # bytes read from the socket at a time, at first
MUCH = 256 << 10  # and while more than that is there


class Secure(TLSMemoryBIOProtocol):
    """One connection."""

    _tlsConnection: Any
    transport: Any

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
        """Hand on, at once, all that the last bytes have completed. Then say what TLS itself has to say."""
        records: list[bytes] = []
        end: Failure | None = None
        over = self._lostTLSConnection
        receive = self._tlsConnection.recv
        while not over:
            try:
                records.append(receive(RECORD))
            except WantReadError:
                break
            except ZeroReturnError:
                over = True
            except Error:
                over, end = True, Failure()
        if records and not self._aborted:
            ProtocolWrapper.dataReceived(self, records[0] if len(records) == 1 else b"".join(records))
        if over and not self._lostTLSConnection:
            if end is None:
                self._shutdownTLS()
            self._tlsShutdownFinished(end)
        self._flushSendBIO()

    def _write(self, data: bytes | memoryview) -> None:
        if self._lostTLSConnection:
            return
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                sent += self._tlsConnection.send(view[sent : sent + RECORD])
        except WantReadError:
            self._bufferedWrite(bytes(view[sent:]))
        except Error:
            self._tlsShutdownFinished(Failure())
        self._flush(sent)

    def _flush(self, size: int) -> None:
        """Give the transport all that `size` bytes have become."""
        try:
            out = self._tlsConnection.bio_read(size + (size // RECORD + 2) * OVERHEAD + RECORD)
        except WantReadError:
            return
        self.transport.write(out)


class SecureBuffering(Secure, BufferingTLSTransport):
    """The same, with small writes of one turn of the reactor sent as one: for protocols that write header by header."""


class SecureFactory(TLSMemoryBIOFactory):
    """`TLSMemoryBIOFactory` whose connections are Secure, buffering unless `buffering` is False."""

    noisy = False

    def __init__(self, security: Any, is_client: bool, wrapped: Any, reactor: Any, buffering: bool = True) -> None:
        super().__init__(security, is_client, wrapped, cast(IReactorTime, reactor))
        self.protocol = SecureBuffering if buffering else Secure
