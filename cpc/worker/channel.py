"""A file descriptor in a Twisted reactor: bytes out in order, bytes in, and the end told once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]


class DelayedCall(Protocol):
    """A timer that was set."""

    def active(self) -> bool: ...
    def cancel(self) -> None: ...


class Reactor(Protocol):
    """Timers and descriptors: what every real reactor gives (IReactorTime, IReactorFDSet)."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> DelayedCall: ...
    def addReader(self, reader: Any) -> None: ...
    def addWriter(self, writer: Any) -> None: ...
    def removeReader(self, reader: Any) -> None: ...
    def removeWriter(self, writer: Any) -> None: ...


@implementer(IReadWriteDescriptor)
class Channel:
    """Reads from its start on. `on_end` is called once, when the other side is closed or broken."""

    def __init__(self, reactor: Reactor, fd: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        self._unsent = bytearray()
        self.ended = False
        os.set_blocking(fd, False)
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor, −1 after the end."""
        return self._fd

    def logPrefix(self) -> str:
        """How log lines begin."""
        return "guardian"

    def write(self, data: bytes) -> None:
        """Send, now or when the other side has read. After the end, nothing happens."""
        if self.ended:
            return
        if self._unsent:
            self._unsent += data
            return
        self._unsent += data
        self._send()
        if self._unsent:
            self._reactor.addWriter(self)

    def doRead(self) -> None:
        """Readable: hand over what there is."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self._end()

    def doWrite(self) -> None:
        """Writable: send what waits."""
        self._send()
        if not self._unsent:
            self._reactor.removeWriter(self)

    def _send(self) -> None:
        try:
            del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # reading tells the end, after what the other side still had to say

    def connectionLost(self, reason: Failure) -> None:
        """The reactor found the descriptor broken."""
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        os.close(self._fd)
        self._fd = -1
        self._on_end()
