"""What makes the connections of a port, or of one attempt to connect: TLS with a channel in it."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from cpc.wire.channel import Channel
from cpc.wire.secure import Secure, SecureFactory


class TlsFactory(SecureFactory):
    """TLS without Twisted's own buffering of small writes: a channel writes once a turn already."""

    def __init__(self, security: Any, is_client: bool, make: Callable[[str], Channel | None], reactor: Any) -> None:
        super().__init__(security, is_client, _Made(make), reactor, buffering=False)

    def buildProtocol(self, addr: IAddress | None) -> Secure | None:  # type: ignore[override]
        channel = self.wrappedFactory.buildProtocol(addr)
        return None if channel is None else Secure(self, channel)


class _Made(Factory):
    """Hands out channels that `make` makes for a host; None turns a connection away."""

    noisy = False

    def __init__(self, make: Callable[[str], Channel | None]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:
        return self._make(str(getattr(addr, "host", "")))
