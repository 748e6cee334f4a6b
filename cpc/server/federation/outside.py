"""What is said to servers that are not trusted yet: over their people's door, as anybody may.

Who answers there is believed nothing: a person compares the fingerprint, and everything that matters is said later, under
mutual TLS with the authority that was approved.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from cpc.core.clock import Timers
from cpc.core.errors import CopernicusError, Refused, TooLarge, Unavailable, from_code
from cpc.core.peer_views import PeerAnswer, PeerRequest
from cpc.core.views import ServerView
from cpc.wire.endpoints import ClientEndpoint
from cpc.wire.identity import check_authority, fingerprint_of
from cpc.wire.tls import StrangerTls

PATIENCE = 20.0  # seconds for one call
MAX_ANSWER = 64 << 10

log = Logger()

_NOT_ONE = "give the port for people, 14807 by default"


@dataclass(frozen=True, slots=True)
class Stranger:
    """What a server says of itself, its authority's certificate (PEM), and a word for one request to it (see `fresh`)."""

    view: ServerView
    authority: bytes
    word: str = ""

    @property
    def fingerprint(self) -> str:
        """Of its identity key (hex), as `cpc-server setup` prints it there."""
        return fingerprint_of(self.authority)


class Outside:
    """Calls to people's doors. `connect`: how to get to a host and port."""

    def __init__(self, reactor: Timers, connect: Callable[[str, int], ClientEndpoint]) -> None:
        self._reactor = reactor
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(connect), pool)

    async def look(self, host: str, port: int) -> Stranger:
        """Who is there. Unavailable when nobody answers, Refused when it is no Copernicus server."""
        headers, text = await self._call(host, port, b"GET", "/api/v1/server")
        try:
            certificate = base64.b64decode(headers.getRawHeaders(b"X-Copernicus-Authority", [b""])[0], validate=True)
            view = msgspec.json.decode(text, type=ServerView)
            authority = ssl.DER_cert_to_PEM_cert(certificate).encode()
            server = check_authority(authority)
        except (ValueError, msgspec.MsgspecError, CopernicusError):
            raise Refused(f"what answers at {host} port {port} is not a Copernicus server", _NOT_ONE) from None
        if server != view.id:
            raise Refused(f"the server at {host} port {port} says it is {view.id}, its certificate {server}")
        return Stranger(view, authority, headers.getRawHeaders("X-Copernicus-Word", [""])[0])

    async def ask(self, host: str, port: int, request: PeerRequest) -> PeerAnswer:
        """Send a request; what the other server answers or refuses."""
        _, text = await self._call(host, port, b"POST", "/api/v1/peer-requests", msgspec.json.encode(request))
        try:
            return msgspec.json.decode(text, type=PeerAnswer)
        except (ValueError, msgspec.MsgspecError):
            raise Refused(f"the answer of {host} port {port} was not understood", "compare the releases") from None

    async def _call(self, host: str, port: int, method: bytes, path: str, body: bytes = b"") -> tuple[Headers, bytes]:
        where = f"{host} port {port}"
        shown = f"[{host}]" if ":" in host else host
        headers = Headers({b"User-Agent": [b"copernicus"], b"Content-Type": [b"application/json"]})
        try:
            uri = f"https://{shown}:{port}{path}".encode("ascii")
        except UnicodeEncodeError:
            raise Refused(f"{host} is not a host name") from None
        asked: Deferred[Any] = Deferred.fromCoroutine(self._ask(method, uri, headers, body))
        timer = self._reactor.callLater(PATIENCE, asked.cancel)
        try:
            code, found, text = await asked
        except CopernicusError:
            raise
        except CancelledError:
            raise Unavailable(f"{where} does not answer within {PATIENCE:.0f} s", "is it the right address?") from None
        except NobodyListens:
            raise Unavailable(
                f"nothing listens at {where}", "is the server running, and is it the right port?"
            ) from None
        except DNSLookupError:
            raise Unavailable(f"there is no host {host}") from None
        except (ConnectError, OSError) as error:
            raise Unavailable(f"{where} cannot be reached: {str(error) or type(error).__name__}") from None
        except Exception as error:  # whatever TLS and twisted.web make of what is something else
            log.info("{where} does not speak HTTP over TLS: {error!r}", where=where, error=_first(error))
            raise Refused(f"what answers at {where} is not a Copernicus server's port for people", _NOT_ONE) from None
        finally:
            if timer.active():
                timer.cancel()
        if code != 200:
            raise _refusal(where, code, text)
        return found, text

    async def _ask(self, method: bytes, uri: bytes, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        response = await self._agent.request(method, uri, headers, _Body(body) if body else None)
        collected = _Collected()
        response.deliverBody(collected)
        return response.code, response.headers, await collected.done


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where twisted.web connects to: over TLS that shows no certificate and checks none."""

    def __init__(self, connect: Callable[[str, int], ClientEndpoint]) -> None:
        self._connect = connect
        self._tls = StrangerTls()

    def endpointForURI(self, uri: Any) -> Any:
        return wrapClientTLS(self._tls, self._connect(uri.host.decode().strip("[]"), uri.port))  # type: ignore[arg-type]


@implementer(IBodyProducer)
class _Body:
    """A body that is there already."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None: ...


class _Collected(Protocol):
    """The body of an answer, up to MAX_ANSWER."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        self._parts.append(data)
        if self._size > MAX_ANSWER and not self.done.called:
            self.done.errback(TooLarge(f"the answer has more than {MAX_ANSWER} bytes", _NOT_ONE))
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.callback(b"".join(self._parts))

    def _cut(self) -> None:
        cut = getattr(self.transport, "abortConnection", None) or getattr(self.transport, "loseConnection", None)
        if cut is not None:
            cut()


def _refusal(where: str, code: int, text: bytes) -> CopernicusError:
    """What the other server has answered instead."""
    try:
        said = msgspec.json.decode(text)
        return from_code(str(said["code"]), f"{where} answers: {said['message']}", str(said.get("hint", "")))
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError):
        return Refused(f"what answers at {where} is not a Copernicus server (HTTP status {code})", _NOT_ONE)


def _first(error: Exception) -> object:
    """What twisted.web has wrapped."""
    reasons = getattr(error, "reasons", None)
    return reasons[0].value if reasons else error
