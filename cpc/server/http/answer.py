"""What goes back: a status, headers and bytes; errors as ErrorView and never as a traceback."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from cpc.core.errors import BadInput, CopernicusError, NotLoggedIn, RateLimited, Unavailable
from cpc.core.views import ErrorView

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
encode = msgspec.json.Encoder().encode


class NoSuchMethod(BadInput):
    """The path is known, the method is not. `allowed` are the methods that are."""

    code = "bad-input"
    status = 405

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not possible on {path}", f"possible are {', '.join(allowed)}")
        self.allowed = allowed


class NoSuchRange(BadInput):
    """A Range that lies outside of the file of `size` bytes."""

    code = "bad-input"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside of the file, which has {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class Data:
    """A whole answer. `kind` is its content type; "" for none."""

    status: int = 200
    body: bytes = b""
    kind: bytes = JSON
    headers: Headers = ()

    def raw(self) -> bytes:
        """As bytes of HTTP/1.1, for a connection that ends with it."""
        head = [b"HTTP/1.1 %d %s" % (self.status, reason(self.status)), b"Connection: close"]
        head += [b"Content-Type: " + self.kind, b"Content-Length: %d" % len(self.body)]
        return b"\r\n".join([*head, b"", self.body])


def reason(status: int) -> bytes:
    """The words after a status."""
    return HTTPStatus(status).phrase.encode()


def view(value: Any, headers: Headers = ()) -> Data:
    """A structure as JSON."""
    return Data(body=encode(value), headers=headers)


NOTHING = Data(body=b"{}")


def refusal(error: CopernicusError) -> Data:
    """An error as its ErrorView, with the headers that belong to its status."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, NotLoggedIn):
        headers.append((b"WWW-Authenticate", b'Bearer realm="copernicus"'))
    elif isinstance(error, NoSuchMethod):
        headers.append((b"Allow", ", ".join(error.allowed).encode()))
    elif isinstance(error, NoSuchRange):
        headers.append((b"Content-Range", b"bytes */%d" % error.size))
    elif isinstance(error, RateLimited | Unavailable):
        headers.append((b"Retry-After", b"5"))
    shown = ErrorView(code=error.code, message=error.message, hint=error.hint)
    return Data(error.status, encode(shown), headers=tuple(headers))


def defect(request_id: str) -> Data:
    """A mistake of ours: one line that leads to the traceback in the log, which stays here."""
    message = f"something went wrong inside the server; this was request {request_id}"
    hint = "the server's log has the details under this number"
    return Data(500, encode(ErrorView(code="error", message=message, hint=hint)))


def _early(status: int, code: str, message: str, hint: str = "") -> Data:
    return Data(status, encode(ErrorView(code=code, message=message, hint=hint)))


MALFORMED = _early(400, "bad-input", "this is not an HTTP/1.1 request", "this port speaks HTTP/1.1 over TLS")
TOO_MUCH_HEADER = _early(431, "too-large", "the request line or the headers are too long")
TOO_MANY = _early(503, "unavailable", "too many connections", "close some, or try again in a moment")
