"""A server as clients see it: the scripted door with a small world behind it and faults on demand.

Written from the contract of the API and from nothing of `cpc.server`, so that both ends are held to the same words.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cpc.core.errors import BadInput, Conflict, CopernicusError, Denied, NotFound, NotLoggedIn, Unavailable
from cpc.wire.identity import Authority, Name, Role
from tests.helpers.fake_api import Call, Cut, FakeApi, Hangup, Raw, Sse
from tests.helpers.small_server_world import SmallWorld


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


class SmallServer(FakeApi):
    """`world` is what it knows, `calls` what was asked, `faults` what goes wrong."""

    def __init__(self, directory: Path, server_id: str = "srv-1", site: bool = False, role: Role = Role.SERVER) -> None:
        own = Authority.create(server_id)
        signer = Authority.create("site") if site else own
        name = Name(signer.server_id, role, "" if role is Role.SERVER else "w1")
        super().__init__(directory, signer.identity(name, 86400.0, ("localhost", "127.0.0.1")), own)
        self._answers.clear()  # the world answers everything
        self.faults = Faults()
        self.site_authority = signer.certificate_pem.decode()
        self.world = SmallWorld(server_id)
        self.world.port = self.port
        self.world.fingerprint = self.authority.fingerprint

    def __exit__(self, *error: object) -> None:
        self.world.close()
        super().__exit__(*error)

    def otherwise(self, call: Call) -> Any:
        """What the world answers, unless something goes wrong."""
        if Faults.take(self.faults.lose_request, call.target):
            return Cut
        if Faults.take(self.faults.busy, call.target):
            return Unavailable("the server is stopping", "try again")
        try:
            answer = self._once(call)
        except CopernicusError as error:
            return error
        if Faults.take(self.faults.lose_reply, call.target):
            return Cut
        return self._shown(call, answer)

    def _once(self, call: Call) -> Any:
        world, path = self.world, call.target
        user = world.tokens.get(call.headers.get("authorization", "").removeprefix("Bearer "), "")
        if not user and path not in ("/server", "/login"):
            raise NotLoggedIn("this needs a login", "log in with `cpcc login USER`")
        key = call.headers.get("idempotency-key", "")
        if call.method not in ("GET", "PUT") and not key and path not in ("/login", "/logout"):
            raise BadInput("a changing call needs an Idempotency-Key")
        known = world.answers.get(key) if key else None
        digest = hashlib.sha256(f"{call.method} {path} {sorted(call.query.items())}".encode() + call.body).digest()
        if known is not None:
            if known[0] != digest:
                raise Conflict("this key belongs to another call")
            return known[1]
        answer = self._route(user, call)
        if key:
            world.answers[key] = (digest, answer)
        return answer

    def _route(self, user: str, call: Call) -> Any:
        from tests.helpers import small_server_jobs, small_server_routes  # noqa: F401 - they declare their calls
        from tests.helpers.small_server_calls import ROUTES

        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, call.target)
            if method == call.method and found:
                parts = [urllib.parse.unquote(part) for part in found.groups()]
                return act(Ask(self.world, user, call.query, call.headers, call.body, call.target), *parts)
        raise NotFound(f"there is no {call.method} {call.target}")

    def _shown(self, call: Call, answer: Any) -> Raw | Sse:
        if isinstance(answer, Bytes):
            return self._bytes(call, answer)
        if isinstance(answer, Events):
            return Sse(_cut(answer.messages, Faults.take_number(self.faults.cut_stream, call.target)))
        headers = {"Content-Type": "application/json"}
        if call.target == "/server":
            der = ssl.PEM_cert_to_DER_cert(self.authority.certificate_pem.decode())
            headers["X-Copernicus-Authority"] = base64.b64encode(der).decode()
        return Raw(msgspec.json.encode(answer), headers=headers)

    def _bytes(self, call: Call, answer: Bytes) -> Raw:
        data, start = answer.data, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", answer.range)
        if wanted:
            start = int(wanted.group(1))
        if Faults.take(self.faults.corrupt, call.target):
            data = bytes([data[0] ^ 1]) + data[1:]
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{hashlib.sha256(answer.data).hexdigest()}"',
        }
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = Faults.take_number(self.faults.cut_after, call.target)
        return Raw(data[start:], 206 if wanted else 200, headers, cut)


def _cut(messages: Any, after: int | None) -> Iterator[tuple[str, str, Any]]:
    """The messages, and a break after so many of them."""
    for sent, message in enumerate(messages):
        if sent == after:
            raise Hangup
        yield message


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
