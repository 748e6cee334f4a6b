"""TLS over a Twisted transport: TLSMemoryBIOProtocol, made for connections that carry files as well as single calls.

Twisted hands every TLS record (16 KiB) on by itself, in both directions. Here all records that came with one read are handed
on together, and all that one write makes are given to the transport together. The socket is read in larger pieces while much
comes. What is seen of it from outside is the same.

A call into OpenSSL gives the interpreter's lock away, and pyOpenSSL makes two for each record and copies it; other threads
that want the lock then take turns with this one, record by record. So records are read into one buffer by calls of our own.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

RECORD = 16 << 10  # the most that a TLS record carries
LITTLE = 64 << 10  # bytes read from the socket at a time, at first
MUCH = 256 << 10  # and while more than that is there

# pyOpenSSL shows neither of these, but has had them since it is made with cffi.
_lib: Any = vars(SSL)["_lib"]
_ffi: Any = vars(SSL)["_ffi"]
_ROOM = MUCH + 4 * RECORD
_space = _ffi.new("char[]", _ROOM)  # for all connections: it is used within one call only, in the reactor's thread


def _records(connection: Any) -> tuple[bytes, int | None]:
    """All that the records which are there carry, as far as there is room; and OpenSSL's last answer: 1 when there may be
    more, None when more has to come first, else what `_raise_ssl_error` explains."""
    read, handle, end = _lib.SSL_read, connection._ssl, 0
    while end + RECORD <= _ROOM:
        got = read(handle, _space + end, RECORD)
        if got <= 0:
            waits = _lib.SSL_get_error(handle, got) == _lib.SSL_ERROR_WANT_READ
            return bytes(_ffi.buffer(_space, end)), None if waits else got
        end += got
    return bytes(_ffi.buffer(_space, end)), 1


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

    def _checkHandshakeStatus(self) -> None:
        # A write is taken whole: a memory BIO is never full.
        _lib.SSL_clear_mode(self._tlsConnection._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        super()._checkHandshakeStatus()

    def _flushReceiveBIO(self) -> None:
        """Hand on, at once, all that the last bytes have completed; then see what TLS itself has to say."""
        more, over, why = True, False, None
        while more and not self._lostTLSConnection:
            data, result = _records(self._tlsConnection)
            more = result == 1
            try:
                if result is not None and not more:
                    self._tlsConnection._raise_ssl_error(self._tlsConnection._ssl, result)
            except ZeroReturnError:
                over = True
            except Error:
                over, why = True, Failure()
            if data and not self._aborted:
                ProtocolWrapper.dataReceived(self, data)
        if over and not self._lostTLSConnection:
            if why is None:
                self._shutdownTLS()
            self._tlsShutdownFinished(why)
        self._flushSendBIO()

    def _write(self, data: bytes | memoryview) -> None:
        if self._lostTLSConnection or not data:
            return
        view = memoryview(data)
        for start in range(0, len(view), MUCH):
            piece = view[start : start + MUCH]
            try:
                self._tlsConnection.send(piece)
            except WantReadError:
                self._bufferedWrite(bytes(view[start:]))
                return
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        """Give the transport all that is ready to leave."""
        size = _ROOM
        while size == _ROOM:
            size = _lib.BIO_read(self._tlsConnection._from_ssl, _space, _ROOM)
            if size > 0:
                self.transport.write(bytes(_ffi.buffer(_space, size)))


class SecureBuffering(Secure, BufferingTLSTransport):
    """The same, with small writes of one turn of the reactor sent as one: for protocols that write header by header."""


class SecureFactory(TLSMemoryBIOFactory):
    """`TLSMemoryBIOFactory` whose connections are Secure, buffering unless `buffering` is False."""

    noisy = False

    def __init__(self, security: Any, is_client: bool, wrapped: Any, reactor: Any, buffering: bool = True) -> None:
        super().__init__(security, is_client, wrapped, cast(IReactorTime, reactor))
        self.protocol = SecureBuffering if buffering else Secure
