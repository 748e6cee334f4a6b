"""A scripted people's door: TLS on 127.0.0.1, the answers that a test has written, and a record of what was asked.

`small_server.SmallServer` is the same door with a small world behind it, for what nobody has scripted.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import msgspec

from cpc.client.client import Client
from cpc.client.config import Config, Server
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import CopernicusError
from cpc.core.views import ErrorView, Page, ServerView
from cpc.wire.identity import Authority, Identity, Name, Role

SERVER_ID = "5e4fe2a1-0000-4000-8000-000000000001"
YEAR = 365 * 86400.0


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    path: str  # decoded, without /api/v1
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    target: str = ""  # the path as it came, not decoded
    connection: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Raw:
    """Bytes as an answer. `cut`: so many of them, then the connection breaks."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True)
class Sse:
    """A stream of (id, event, data). It stays open afterwards while `held` is not set; None: it ends at once."""

    messages: Iterable[tuple[str, str, Any]]
    held: threading.Event | None = None


class Cut:
    """The connection breaks instead of an answer."""


class Hangup(Exception):
    """Raised by the messages of a stream: the connection breaks here."""


class Turns:
    """One answer after the other; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def next(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@lru_cache
def _authority(server: str) -> Authority:
    return Authority.create(server)


def authority(server: str = SERVER_ID) -> Authority:
    """The same for all tests."""
    return _authority(server)


@lru_cache
def identity(role: Role = Role.SERVER, name: str = "", server: str = SERVER_ID) -> Identity:
    return authority(server).identity(Name(server, role, name), YEAR, ["127.0.0.1", "localhost"])


class FakeApi:
    """`on` says what is answered; `calls` says what was asked. A context manager: it serves meanwhile."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, shown: Identity | None = None, own: Authority | None = None) -> None:
        self.authority = own or authority()
        self.calls: list[Call] = []
        self._answers: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.info = ServerView(
            id=SERVER_ID, name="lab", release="3.0.0", protocol=1, incarnation=1, host="lab.example.org", port=13807,
            client_port=14807, fingerprint=self.authority.fingerprint, started=1_700_000_000_000_000,
            heartbeat_time=120.0,
        )  # fmt: skip
        der = ssl.PEM_cert_to_DER_cert(self.authority.certificate_pem.decode())
        self.introduction = Raw(
            msgspec.json.encode(self.info), headers={"X-Copernicus-Authority": base64.b64encode(der).decode()}
        )
        self.on("GET", "/server", self.introduction)
        self.on("GET", "/events", Page(items=()))
        self._server = _serve(self, directory, shown or identity())
        self.port: int = self._server.server_address[1]

    def on(self, method: str, path: str, answer: Any) -> None:
        """Answer this call so: a structure, Raw, Sse, a CopernicusError, Cut, Turns, or a function of the Call."""
        self._answers[method, path] = answer

    def otherwise(self, call: Call) -> Any:
        """The answer to what is not scripted; None: not found."""
        return None

    def answer(self, call: Call) -> Any:
        with self._lock:
            self.calls.append(call)
            scripted = (call.method, call.path) in self._answers
            found = self._answers.get((call.method, call.path))
        if not scripted:
            return self.otherwise(call)
        while found is not Cut and (isinstance(found, Turns) or callable(found)):
            if isinstance(found, Turns):
                with self._lock:
                    found = found.next()
            else:
                found = found(call)
        return found

    def asked(self, method: str, path: str) -> list[Call]:
        """The calls of one kind, in order; `path` may be a pattern of the whole."""
        with self._lock:
            calls = [call for call in self.calls if call.method == method]
        return [call for call in calls if call.path == path or re.fullmatch(path, call.path)]

    @property
    def pin(self) -> Pin:
        return Pin(
            server=SERVER_ID, authority=self.authority.certificate_pem.decode(), fingerprint=self.authority.fingerprint
        )

    def client(self, token: str = "t0ken", project: str = "villin") -> Client:
        return Client(Transport("127.0.0.1", self.port, self.pin, token), project)

    def configure(self, home: Path, token: str = "t0ken", project: str = "villin", user: str = "alice") -> None:
        """As after add-server, login and cd."""
        Config(home).add(
            Server(name="lab", host="127.0.0.1", port=self.port, pin=self.pin, token=token, user=user, project=project)
        )

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextlib.contextmanager
def fake_api(directory: Path, shown: Identity | None = None) -> Iterator[FakeApi]:
    """A running one."""
    with FakeApi(directory, shown) as api:
        yield api


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(20)
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        with contextlib.suppress(OSError):
            super().finish_request(wrapped, client_address)
        with contextlib.suppress(OSError):
            wrapped.shutdown(socket.SHUT_RDWR)
        wrapped.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is none."""


def _serve(api: FakeApi, directory: Path, shown: Identity) -> _Quiet:
    chain = directory / f"door-{id(api)}.pem"
    chain.write_bytes(shown.key_pem + shown.certificate_pem + shown.authority_pem)
    server = _Quiet(("127.0.0.1", 0), _handler(api))
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(chain)
    return server


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.number = next(numbers)
            super().setup()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _handle(self) -> None:
            if api.closing.is_set():
                self.close_connection = True
                return
            address = urllib.parse.urlsplit(self.path)
            call = Call(
                method=self.command,
                path=urllib.parse.unquote(address.path.removeprefix("/api/v1")),
                query=dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
                target=address.path.removeprefix("/api/v1"),
                connection=self.number,
            )
            try:
                self._send(api.answer(call), call)
            except Hangup:
                self._cut()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

        def _send(self, answer: Any, call: Call) -> None:
            if isinstance(answer, Cut) or answer is Cut:
                self._cut()
                return
            if isinstance(answer, Sse):
                self._stream(answer)
                return
            raw = answer if isinstance(answer, Raw) else _raw(answer, call)
            self.send_response(raw.status)
            self.send_header("Content-Length", str(len(raw.body)))
            for name, value in raw.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw.body[: raw.cut])
            if raw.cut is not None:
                self._cut()

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _stream(self, answer: Sse) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b": watching\n\n")
            for number, event, data in answer.messages:
                head = f"id: {number}\n" if number else ""
                text = msgspec.json.encode(data).decode()
                self.wfile.write(f"{head}event: {event}\ndata: {text}\n\n".encode())
            self.wfile.flush()
            if answer.held is not None:
                answer.held.wait(20)
            self.close_connection = True

    return Handler


def _raw(answer: Any, call: Call) -> Raw:
    if answer is None:
        said = ErrorView(code="not-found", message=f"the test has no answer to {call.method} {call.path}")
        return Raw(msgspec.json.encode(said), 404)
    if isinstance(answer, CopernicusError):
        said = ErrorView(code=answer.code, message=answer.message, hint=answer.hint)
        return Raw(msgspec.json.encode(said), answer.status)
    if isinstance(answer, list | tuple):
        answer = Page(items=tuple(answer))
    return Raw(msgspec.json.encode(answer), headers={"Content-Type": "application/json"})
