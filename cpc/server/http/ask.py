"""What a handler gets beside its parameters: who asks, with which key, and the services that answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cpc.core.errors import BadInput, NotLoggedIn
from cpc.server.http.request import Request
from cpc.server.http.services import Services
from cpc.server.principal import Call, Principal

MAX_KEY = 64


class Ask:
    """One call on its way through a handler."""

    __slots__ = ("_who", "body", "key", "request", "services")

    def __init__(self, services: Services, request: Request, who: Principal | None) -> None:
        self.services = services
        self.request = request
        self._who = who
        self.key = _key(request.header(b"idempotency-key"))
        self.body = b""

    def add_header(self, name: bytes, value: bytes) -> None:
        """Send a header of this call's own with its answer."""
        self.request.responseHeaders.setRawHeaders(name, [value])

    @property
    def who(self) -> Principal:
        """Who asks; NotLoggedIn when nobody is."""
        if self._who is None:
            raise NotLoggedIn("this needs a login", "log in with `cpcc login USER`, or send a token")
        return self._who

    @property
    def call(self) -> Call:
        """The call, for services that change something. The same key with another method, path, query or body is refused."""
        if not self.key:
            return Call(self.who)
        request = self.request
        return Call.of(self.who, self.key, request.method.decode(), request.uri.decode(), self.body)

    @property
    def token(self) -> str:
        """The token that came with the call; "" for none."""
        return bearer(self.request)

    def parts(self, size: int, limit: int) -> AsyncIterator[bytes]:
        """A raw body in parts."""
        return self.request.body.parts(size, limit)


def bearer(request: Request) -> str:
    """The token in `Authorization: Bearer …`; "" when there is none."""
    scheme, _, token = request.header(b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _key(text: str) -> str:
    if len(text) > MAX_KEY or not text.isascii() or (text and not text.isprintable()):
        raise BadInput(f"an Idempotency-Key has at most {MAX_KEY} printable ASCII characters")
    return text
