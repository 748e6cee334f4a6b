"""What Twisted's endpoints can do, as far as it is used here; a simulation has others."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred


class ClientEndpoint(Protocol):
    """Twisted's IStreamClientEndpoint."""

    def connect(self, protocolFactory: Any) -> Deferred[Any]: ...


class ListeningPort(Protocol):
    """Twisted's IListeningPort."""

    def getHost(self) -> Any: ...
    def stopListening(self) -> Deferred[None] | None: ...


class ServerEndpoint(Protocol):
    """Twisted's IStreamServerEndpoint."""

    def listen(self, protocolFactory: Any) -> Deferred[Any]: ...
