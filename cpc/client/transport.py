"""HTTP to one server: one connection that is kept, calls that are repeated safely when a reply is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time  # a command line tool is at the edge: it may look at the clock
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from cpc.client import trust
from cpc.client.trust import Pin
from cpc.core.errors import BadInput, CopernicusError, Damaged, NotFound, Refused, Unavailable, from_code

T = TypeVar("T")

PREFIX = "/api/v1"
CONNECT_TIMEOUT = 10.0
TIMEOUT = 75.0  # without a byte; longer than the longest wait (60 s) and the pause between two signs of life (15 s)
PATIENCE = 12.0  # how long a call is repeated after its first failure: a server's restart
LONGEST_PAUSE = 3.0
MAX_REFUSAL = 1 << 20
PIECE = 256 << 10


class Response:
    """An answer whose body has not been read. Reading raises Unavailable when the connection breaks."""

    def __init__(self, raw: http.client.HTTPResponse, words: str) -> None:
        self._raw = raw
        self._words = words
        self.status = raw.status

    def header(self, name: str) -> str:
        """A header, or ""."""
        return self._raw.headers.get(name, "") or ""

    def read(self, size: int | None = None) -> bytes:
        """The body, or at most `size` bytes of it."""
        try:
            return self._raw.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(f"{self._words}: {_reason(error)}", _HINT) from error

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it comes."""
        try:
            yield from iter(self._raw.readline, b"")
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(f"{self._words}: {_reason(error)}", _HINT) from error


class _Connection(http.client.HTTPSConnection):
    """Head and short body of a request leave together: one record, one system call, and at the server one awakening."""

    _held: list[bytes] | None = None

    def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        """A request whose body is short."""
        self._held = []
        try:
            self.request(method, target, body, headers)
            held = b"".join(self._held)
        finally:
            self._held = None
        self.send(held)

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)


class Transport:
    """`request` answers or raises what the server said (CopernicusError); Unavailable when it cannot be reached."""

    def __init__(self, host: str, port: int, pin: Pin | None, token: str = "") -> None:
        self.host = host
        self.port = port
        self.pin = pin
        self.token = token
        self.patience = PATIENCE
        self._aborted = False
        self._connection: _Connection | None = None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go; the next call makes a new one."""
        connection, self._connection = getattr(self, "_connection", None), None
        if connection is not None:
            connection.close()

    def abort(self) -> None:
        """End what another thread does with this: it sees a lost connection, and does not try again."""
        self._aborted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def another(self) -> Transport:
        """A second connection to the same server: for streams and other threads."""
        return Transport(self.host, self.port, self.pin, self.token)

    def json(self, method: str, path: str, /, body: Any = None, **query: object) -> Any:
        """Ask with JSON and get JSON. A changing call carries a key, so that repeating it changes nothing twice."""
        data = None if body is None else _encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if method != "GET":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        text = self.whole(method, path, data, headers, **query)
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise Damaged(
                f"what answers at {self.host} port {self.port} does not speak this program's language",
                "is it a Copernicus server, and the right port?",
            ) from None

    def whole(
        self, method: str, path: str, /, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> bytes:  # fmt: skip
        """The body of an answer. Repeated until all of it is here: only for calls that may be carried out twice."""
        return self._repeat(lambda: self._once(method, path, body, headers or {}, query).read())

    def request(
        self, method: str, path: str, /, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Response:  # fmt: skip
        """The same, but the body is left to read: to its end, or `close` must follow."""
        return self._repeat(lambda: self._once(method, path, body, headers or {}, query))

    def connect(self) -> None:
        """See that the server is there and the right one; tried once."""
        self._connect()

    def _repeat(self, call: Callable[[], T]) -> T:
        """Try again with growing pauses while the server is away or restarting, as long as `patience` lasts."""
        pause = 0.1
        end: float | None = None
        while True:
            try:
                return call()
            except Unavailable as error:
                self.close()
                now = time.perf_counter()
                end = now + self.patience if end is None else end
                wait = max(pause, getattr(error, "retry_after", 0.0))
                if isinstance(error, _Final) or self._aborted or now + wait > end:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], query: Mapping[str, object]
    ) -> Response:
        connection = self._connect()
        if self._aborted:
            raise _Final("the connection was closed on this side")
        given = {name: _text(value) for name, value in query.items() if value is not None and value != ""}
        target = PREFIX + path + (f"?{urllib.parse.urlencode(given)}" if given else "")
        sent = {"Accept": "application/json", **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None and len(body) > PIECE:
            sent["Content-Length"] = str(len(body))
        try:
            # A server that refuses before it has read everything has said why: its answer is read all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if body is None or len(body) <= PIECE:
                    connection.ask(method, target, body, sent)
                else:
                    connection.request(method, target, _pieces(body), sent)
            raw = connection.getresponse()
            if raw.status >= 400:
                raise _refusal(raw)
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(self._words(error), _HINT) from error
        return Response(raw, self._lost_words)

    def _connect(self) -> _Connection:
        if self._connection is not None and self._connection.sock is None:
            self._connection = None  # the server asked for its end; http.client would connect without `trust.check`
        if self._connection is None:
            made = _Connection(self.host, self.port, timeout=CONNECT_TIMEOUT, context=trust.context(self.pin))
            made.auto_open = 0
            try:
                made.connect()
                made.sock.settimeout(TIMEOUT)
                made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.pin is not None:
                    trust.check(made.sock, self.pin)
            except OSError as error:
                made.close()
                raise self._no_connection(error) from error
            except (ValueError, CopernicusError):
                made.close()
                raise
            self._connection = made
        return self._connection

    def _no_connection(self, error: OSError) -> CopernicusError:
        import ssl

        place = f"{self.host} port {self.port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in _DATES:
                return Refused(
                    f"the certificate of the server at {place} is not valid now: {error.verify_message}",
                    "compare the clocks of both machines; the server renews its certificate by itself",
                )
            return Refused(
                f"the server at {place} is not the one that was added here: {error.verify_message}",
                "if it was set up anew, compare its fingerprint and add it again: cpcc add-server",
            )
        if isinstance(error, ssl.SSLError) and "WRONG_VERSION" in (error.reason or ""):
            return _Final(f"what listens at {place} does not speak TLS", "give the port for people, 14807 by default")
        if isinstance(error, socket.gaierror):
            return _Final(f"the host name {self.host!r} is not known: {error.strerror}", "check the name of the server")
        return _Lost(self._words(error), _HINT)

    @property
    def _lost_words(self) -> str:
        return f"the connection to the server at {self.host} port {self.port} was lost"

    def _words(self, error: Exception) -> str:
        return f"cannot reach the server at {self.host} port {self.port}: {_reason(error)}"


_HINT = "is it running, is the port right, does a firewall stand between?"
_DATES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class _Lost(Unavailable):
    """The connection broke: the call may or may not have been carried out."""


class _Final(Unavailable):
    """Trying again will not help."""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _pieces(body: bytes) -> Iterator[memoryview]:
    """A long body in parts: the time that a part may take is limited, not that of all of it."""
    view = memoryview(body)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))


def _encode(body: Any) -> bytes:
    import msgspec

    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise BadInput(
            "an argument is not valid UTF-8", "names and arguments must be text; send bytes as a file"
        ) from None


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _refusal(raw: http.client.HTTPResponse) -> CopernicusError:
    text = raw.read(MAX_REFUSAL)
    try:
        said = json.loads(text)
        error = from_code(str(said["code"]), str(said["message"]), str(said.get("hint", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        error = _unknown(raw.status)
    after = raw.headers.get("Retry-After", "")
    if isinstance(error, Unavailable) and after.isdigit():
        error.retry_after = float(after)  # type: ignore[attr-defined]
    return error


def _unknown(status: int) -> CopernicusError:
    if status == 404:
        return NotFound("the server does not know this call", "it may be of an older release, or no Copernicus server")
    if status in (502, 503, 504):
        return Unavailable(f"something before the server answered with status {status}", "try again in a moment")
    return CopernicusError(f"the server answered with status {status}", "see its log")
