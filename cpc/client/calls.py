"""Calls of the public API, and their answers as structures: what `Client` and `Network` are made of."""

from __future__ import annotations

import urllib.parse
from typing import Any, TypeVar

import msgspec

from cpc.client.transport import Transport
from cpc.core import views
from cpc.core.errors import BadInput, Damaged, NotLoggedIn

T = TypeVar("T")

_UNPAGED = ("/workers", "/heartbeats", "/settings", "/tokens", "/modules", "/peers", "/pools", "/nodes")


class Calls:
    """Speaks to one server, by default about one project. Raises what the server says (CopernicusError)."""

    def __init__(self, transport: Transport, project: str = "") -> None:
        self.transport = transport
        self.project = project

    def require_project(self, project: str | None = None) -> str:
        """The name of the project that is meant, or BadInput."""
        name = project or self.project
        if not name:
            raise BadInput("no project selected", "name one with -p PROJECT, or choose one with `cpcc cd PROJECT`")
        return name

    def _in(self, project: str | None) -> str:
        return f"/projects/{part(self.require_project(project))}"

    def _call(self, method: str, path: str, body: Any = None, /, **query: object) -> Any:
        if not self.transport.token and path != "/login":
            raise NotLoggedIn("you are not logged in", "log in with `cpcc login USER`")
        return self.transport.json(method, path, body, **query)

    def _change(self, answer: type[T], method: str, path: str, body: Any) -> T:
        return understood(self._call(method, path, body), answer)

    def _get(self, answer: type[T], path: str, /, **query: object) -> T:
        return understood(self.transport.json("GET", path, **query), answer)

    def _all(self, item: type[T], path: str, /, **query: object) -> list[T]:
        return self._some(item, path, 1 << 30, **query)

    def _some(self, item: type[T], path: str, limit: int, /, **query: object) -> list[T]:
        found: list[T] = []
        while len(found) < limit:
            page = self.transport.json("GET", path, **_page_limit(path, limit - len(found)), **query)
            given = understood(page, views.Page)
            found += understood(list(given.items), list[item])  # type: ignore[valid-type]
            if not given.next:
                break
            query["after"] = given.next
        return found[:limit]


def _page_limit(path: str, wanted: int) -> dict[str, int]:
    return {} if path in _UNPAGED or path.endswith(("/outputs", "/doctor")) else {"limit": min(wanted, 1000)}


def understood(found: Any, answer: type[T]) -> T:
    """An answer as its structure; fields that a newer server added are left out."""
    try:
        return msgspec.convert(found, answer)
    except msgspec.ValidationError as error:
        raise Damaged(
            f"the server's answer was not understood: {str(error).replace('`', chr(39))}",
            "compare the releases: cpcc version",
        ) from None


def part(text: str) -> str:
    """A text as one part of an address. BadInput when there is none: a variable of a script was empty, for example."""
    if not text:
        raise BadInput("an empty name names nothing", "say which is meant")
    return urllib.parse.quote(text, safe="")
