"""A server as clients see it: /api/v1 over TLS on a loopback port, with a small world behind it and faults on demand.

Written from the contract of the API and from nothing of `cpc.server`, so that both ends are held to the same words.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from cpc.core.errors import BadInput, Conflict, CopernicusError, Denied, NotFound, NotLoggedIn
from cpc.wire.identity import Authority, Name, Role
from tests.helpers.small_server_world import Hangup, SmallWorld

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(slots=True)
class Faults:
    """What goes wrong, for the next requests whose path holds the word: how often."""

    lose_reply: Counter[str] = field(default_factory=Counter)  # carried out, but the answer never arrives
    lose_request: Counter[str] = field(default_factory=Counter)  # not even carried out
    busy: Counter[str] = field(default_factory=Counter)  # 503
    cut_after: dict[str, int] = field(default_factory=dict)  # a body ends after so many bytes, once
    corrupt: Counter[str] = field(default_factory=Counter)  # a byte of a body is another one
    cut_stream: dict[str, int] = field(default_factory=dict)  # a stream ends after so many events, once

    @staticmethod
    def take(faults: Counter[str], path: str) -> bool:
        """Whether a fault of this kind is due for a path; it is then used up."""
        for word, left in faults.items():
            if word in path and left > 0:
                faults[word] -= 1
                return True
        return False

    @staticmethod
    def take_number(faults: dict[str, int], path: str) -> int | None:
        """The same for a fault that has a number."""
        for word in list(faults):
            if word in path:
                return faults.pop(word)
        return None


class SmallServer:
    """Use it as a context manager. `world` is what it knows, `seen` what was asked, `faults` what goes wrong."""

    def __init__(self, directory: Path, server_id: str = "srv-1", authority: Authority | None = None,
                 site: bool = False, role: Role = Role.SERVER) -> None:  # fmt: skip
        self.world = SmallWorld(server_id)
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.authority = authority or Authority.create(server_id)
        self.connections = 0
        signer = Authority.create("site") if site else self.authority
        name = Name(signer.server_id, role, "" if role is Role.SERVER else "w1")
        leaf = signer.identity(name, 86400.0, ("localhost", "127.0.0.1"))
        self.site_authority = signer.certificate_pem.decode()
        chain = directory / f"{server_id}-{id(self)}.pem"
        chain.write_bytes(leaf.certificate_pem + signer.certificate_pem + leaf.key_pem)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(chain)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.host, self.port = "127.0.0.1", self._server.server_address[1]
        self.world.port = self.port
        self.world.fingerprint = self.authority.fingerprint
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> SmallServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> None:  # fmt: skip
        self.world.close()
        self._server.shutdown()
        self._thread.join(10)
        self._server.cut_all()
        self._server.server_close()

    def calls(self, method: str, path: str) -> list[Seen]:
        """What was asked with this method and a path that matches the whole pattern."""
        return [one for one in self.seen if one.method == method and re.fullmatch(path, one.path)]

    def tls(self) -> ssl.SSLContext:
        """What the door shows."""
        return self._tls


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64
    fake: SmallServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[Any, Any]:
        raw, address = super().get_request()
        wrapped = self.fake.tls().wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        wrapped.settimeout(30)
        self._open.add(wrapped)
        self.fake.connections += 1
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for one in list(self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up, and refuse certificates: that is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request.do_handshake()
        self.number = self.server.fake.connections
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        fake = self.server.fake
        target = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(target.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.path = target.path.removeprefix(API)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.seen.append(Seen(self.command, self.path, query, headers, body, self.number))
        try:
            if Faults.take(fake.faults.lose_request, self.path):
                raise Hangup
            if Faults.take(fake.faults.busy, self.path):
                self._refuse(503, {"code": "unavailable", "message": "the server is stopping", "hint": "try again"})
                return
            answer = self._answer(query, headers, body)
            if Faults.take(fake.faults.lose_reply, self.path):
                raise Hangup
            self._send(answer)
        except CopernicusError as error:
            shown = {"code": error.code, "message": error.message, "hint": error.hint}
            self._refuse(error.status, shown)
        except Hangup:
            self._hang_up()

    def _answer(self, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        world = self.server.fake.world
        token = headers.get("authorization", "").removeprefix("Bearer ")
        user = world.tokens.get(token, "")
        if not user and self.path not in ("/server", "/login"):
            raise NotLoggedIn("this needs a login", "log in with `cpcc login USER`")
        key = headers.get("idempotency-key", "")
        if self.command not in ("GET", "PUT") and not key and self.path not in ("/login", "/logout"):
            raise BadInput("a changing call needs an Idempotency-Key")
        known = world.answers.get(key) if key else None
        digest = hashlib.sha256(f"{self.command} {self.path} {sorted(query.items())}".encode() + body).digest()
        if known is not None:
            if known[0] != digest:
                raise Conflict("this key belongs to another call")
            return known[1]
        answer = self._route(user, query, headers, body)
        if key:
            world.answers[key] = (digest, answer)
        return answer

    def _route(self, user: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        from tests.helpers.small_server_routes import ROUTES

        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, self.path)
            if method == self.command and found:
                parts = [urllib.parse.unquote(part) for part in found.groups()]
                if self.path == "/server":
                    self.authority = base64.b64encode(
                        ssl.PEM_cert_to_DER_cert(self.server.fake.authority.certificate_pem.decode())
                    ).decode()
                ask = Ask(self.server.fake.world, user, query, headers, body, self.path)
                return act(ask, *parts)
        raise NotFound(f"there is no {self.command} {self.path}")

    def _send(self, answer: Any) -> None:
        if isinstance(answer, Bytes):
            self._send_bytes(answer)
        elif isinstance(answer, Events):
            self._send_events(answer)
        else:
            extra = {"X-Copernicus-Authority": self.authority} if self.path == "/server" else {}
            self._send_json(200, answer, extra)

    def _send_json(self, status: int, answer: Any, extra: dict[str, str] | None = None) -> None:
        data = msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, shown: dict[str, str]) -> None:
        self._send_json(status, shown)

    def _send_bytes(self, answer: Bytes) -> None:
        faults = self.server.fake.faults
        data, start = answer.data, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", answer.range)
        if wanted:
            start = int(wanted.group(1))
        if Faults.take(faults.corrupt, self.path):
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(answer.data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        cut = Faults.take_number(faults.cut_after, self.path)
        if cut is not None:
            self.wfile.write(data[start : start + cut])
            raise Hangup
        self.wfile.write(data[start:])

    def _send_events(self, answer: Events) -> None:
        cut = Faults.take_number(self.server.fake.faults.cut_stream, self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b": watching\n\n")
        try:
            for sent, (number, kind, data) in enumerate(answer.messages):
                if sent == cut:
                    raise Hangup
                head = f"id: {number}\n" if number else ""
                self.wfile.write(f"{head}event: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n")
        except OSError:
            return  # the watcher has left

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


@dataclass(frozen=True, slots=True)
class Ask:
    """One call."""

    world: SmallWorld
    user: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    path: str

    def json(self, *known: str) -> dict[str, Any]:
        """The body, without fields that the contract does not know."""
        given: dict[str, Any] = json.loads(self.body or b"{}")
        unknown = set(given) - set(known)
        if unknown:
            raise BadInput(f"Object contains unknown field '{unknown.pop()}'")
        return given

    def only(self, *known: str) -> dict[str, str]:
        """The query, without parameters that the contract does not know."""
        unknown = set(self.query) - set(known)
        if unknown:
            raise BadInput(f"in the query: unknown parameter '{unknown.pop()}'")
        return self.query

    def super_user(self) -> None:
        """Denied for anybody else."""
        if not self.world.users[self.user].super_user:
            raise Denied(f"{self.user} is not a super user", "ask an administrator")


@dataclass(frozen=True, slots=True)
class Bytes:
    """A file as an answer."""

    data: bytes
    range: str


@dataclass(frozen=True, slots=True)
class Events:
    """Server-sent events as an answer: (id, event, data)."""

    messages: Any
