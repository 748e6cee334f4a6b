"""HTTP servers of batch systems and clouds, asked with a bound on time and on what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError, SSLError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from cpc.api import BadInput, HttpAnswer, NotConnected, TooLarge, Unavailable

MAX_BODY = 64 << 20


class Web:
    """Asks HTTP servers (`cpc.api.Http`). Certificates are verified by the machine's own authorities."""

    def __init__(self, reactor: Any, max_body: int = MAX_BODY) -> None:
        self._reactor = reactor
        self._agent = Agent(reactor, connectTimeout=10.0)
        self._max_body = max_body

    async def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 30.0,
    ) -> HttpAnswer:
        """Ask once. NotConnected, Unavailable, TooLarge as `cpc.api.Http` says; BadInput for what is no URL."""
        agent, address, shown = self._way(url)
        asked: Deferred[Any] = agent.request(
            method.encode(),
            address,
            Headers({name: [value] for name, value in (headers or {}).items()}),
            _Body(body) if body else None,
        )
        asked.addTimeout(timeout, self._reactor)
        try:
            response = await asked
            collector = _Collector(self._max_body)
            response.deliverBody(collector)
            collector.done.addTimeout(timeout, self._reactor)
            content = await collector.done
        except (ConnectError, DNSLookupError, SSLError, ConnectingCancelledError) as error:
            raise NotConnected(
                f"{shown} cannot be reached: {_words(error)}", "see whether it runs, and its address"
            ) from None
        except (TooLarge, Unavailable):
            raise
        except CancelledError:
            raise Unavailable(f"{shown} was not asked to the end") from None
        except Exception as error:  # whatever may go wrong with bytes from somewhere
            raise Unavailable(f"{shown} did not answer: {_words(error)}", "see what it writes into its log") from None
        known = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return HttpAnswer(response.code, content, known)

    def _way(self, url: str) -> tuple[Any, bytes, str]:
        """Who asks, for what address, and what to call it."""
        if url.startswith("unix://"):
            path, colon, rest = url.removeprefix("unix://").partition(":")
            if not path.startswith("/") or not colon or not rest.startswith("/"):
                raise BadInput(f"{url[:200]!r} is not the address of a socket", "write unix:///run/service.sock:/path")
            agent = Agent.usingEndpointFactory(self._reactor, _Socket(self._reactor, path))
            return agent, b"http://localhost" + rest.encode(), path
        try:
            parts = urlsplit(url)
            encoded = url.encode("ascii")
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good:
            raise BadInput(
                f"{url[:200]!r} is not the address of an HTTP server", "write http://host:port or unix:///socket:/"
            )
        return self._agent, encoded, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@implementer(IAgentEndpointFactory)
class _Socket:
    """Every address leads to one socket."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout=10)

    def endpointForURI(self, uri: URI) -> Any:
        return self._endpoint


@implementer(IBodyProducer)
class _Body:
    """A request's body, sent at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """It is out already."""

    def resumeProducing(self) -> None:
        """It is out already."""

    def stopProducing(self) -> None:
        """It is out already."""


class _Collector(Protocol):
    """Reads an answer up to a bound."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._parts: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._parts.append(data)
        elif not self.done.called:
            self._abort()
            self.done.errback(TooLarge("an HTTP server answered more than can be read", "ask for less at once"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        abort = getattr(self.transport, "abortConnection", None) or getattr(self.transport, "loseConnection", None)
        if abort is not None:
            abort()


def _words(error: BaseException) -> str:
    inner = getattr(error, "reasons", None)
    if inner:
        error = inner[0].value
    return str(error) or type(error).__name__
