"""HTTP to one server: one connection that is kept, calls that are repeated safely when a reply is lost."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time  # a command line tool is at the edge: it may look at the clock
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from cpc.client import trust
from cpc.client.trust import Pin
from cpc.core.errors import CopernicusError, NotFound, Refused, Unavailable, from_code

PREFIX = "/api/v1"
TRIES = 6
TIMEOUT = 75.0


class Response:
    """An answer whose body has not been read."""

    def __init__(self, raw: http.client.HTTPResponse) -> None:
        self._raw = raw
        self.status = raw.status

    def header(self, name: str) -> str:
        """A header, or ""."""
        return self._raw.headers.get(name, "") or ""

    def read(self, size: int | None = None) -> bytes:
        """The body, or a part of it."""
        return self._raw.read(size)

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it comes."""
        yield from iter(self._raw.readline, b"")


class Transport:
    """`request` answers or raises what the server said (CopernicusError); Unavailable when it cannot be reached."""

    def __init__(self, host: str, port: int, pin: Pin | None, token: str = "") -> None:
        self.host = host
        self.port = port
        self.pin = pin
        self.token = token
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def another(self) -> Transport:
        """A second connection to the same server: for streams and other threads."""
        return Transport(self.host, self.port, self.pin, self.token)

    def json(self, method: str, path: str, body: Any = None, **query: object) -> Any:
        """Ask with JSON and get JSON. A changing call carries a key, so that repeating it changes nothing twice."""
        data = None if body is None else _encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if method != "GET":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        answer = self.request(method, path, data, headers, **query)
        text = answer.read()
        return json.loads(text) if text else None

    def request(
        self, method: str, path: str, body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None, **query: object,
    ) -> Response:  # fmt: skip
        """One call; tried again with growing pauses while the server is away or restarting."""
        pause = 0.1
        for left in reversed(range(TRIES)):
            try:
                return self._once(method, path, body, headers or {}, query)
            except (Unavailable, _Lost) as error:
                self.close()
                repeatable = isinstance(body, bytes | None)
                if not left or not repeatable or isinstance(error, _Final):
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 3.0)
        raise AssertionError("the last try raises")

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        headers: Mapping[str, str],
        query: Mapping[str, object],
    ) -> Response:
        connection = self._connect()
        given = {name: _text(value) for name, value in query.items() if value is not None and value != ""}
        target = PREFIX + path + (f"?{urllib.parse.urlencode(given)}" if given else "")
        sent = {"Accept": "application/json", **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, target, body, sent)
            raw = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(self._words(error), _HINT) from error
        if raw.status >= 400:
            raise _refusal(raw)
        return Response(raw)

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            made = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=trust.context(self.pin))
            try:
                made.connect()
            except OSError as error:
                made.close()
                raise self._no_connection(error) from error
            made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.pin is not None:
                try:
                    trust.check(made.sock, self.pin)
                except CopernicusError:
                    made.close()
                    raise
            self._connection = made
        return self._connection

    def _no_connection(self, error: OSError) -> CopernicusError:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            return Refused(
                f"the server at {self.host} port {self.port} is not the one that was added here: {error.verify_message}",
                "if it was set up anew, compare its fingerprint and add it again: cpcc add-server",
            )
        if isinstance(error, socket.gaierror):
            return _Final(f"the host name {self.host!r} is not known: {error.strerror}", "check the name of the server")
        return _Lost(self._words(error), _HINT)

    def _words(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"cannot reach the server at {self.host} port {self.port}: {reason}"


_HINT = "is it running, is the port right, does a firewall stand between?"


class _Lost(Unavailable):
    """The connection broke: the call may or may not have been carried out."""


class _Final(Unavailable):
    """Trying again will not help."""


def _encode(body: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(body)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _refusal(raw: http.client.HTTPResponse) -> CopernicusError:
    text = raw.read()
    try:
        said = json.loads(text)
        return from_code(said["code"], said["message"], said.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        if raw.status == 404:
            return NotFound(
                "the server does not know this call", "it may be of an older release, or not a Copernicus server"
            )
        return CopernicusError(f"the server answered with status {raw.status}", "see its log")
