"""From a path to its routes: a tree of path parts, in which a fixed word goes before a parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from cpc.core.errors import NotFound
from cpc.server.http.answer import NoSuchMethod
from cpc.server.http.route import Route
from cpc.server.http.strict import text_of


class _Node:
    __slots__ = ("fixed", "methods", "parameter", "rest")

    def __init__(self) -> None:
        self.fixed: dict[bytes, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _Node | None = None
        self.methods: dict[str, Route] = {}


class Router:
    """Built once from all routes; two routes with one method and path are refused."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for part in route.parts:
                if part.rest:
                    node.rest = node = node.rest or _Node()
                elif part.name:
                    node.parameter = node = node.parameter or _Node()
                else:
                    node = node.fixed.setdefault(part.text.encode(), _Node())
            if route.method in node.methods:
                raise ValueError(f"{route.method} {route.path} is declared twice")
            node.methods[route.method] = route

    def find(self, method: str, path: bytes) -> tuple[Route, dict[str, Any]]:
        """The route and its path parameters. NotFound for an unknown path, NoSuchMethod for another method.

        HEAD finds the GET route.
        """
        parts = path.split(b"/")[1:] if path.startswith(b"/") else []
        node = self._walk(self._root, parts, 0)
        if node is None:
            raise NotFound(f"there is nothing at {_shown(path)}", "the calls are listed at /api/v1/openapi.json")
        route = node.methods.get("GET" if method == "HEAD" else method)
        if route is None:
            raise NoSuchMethod(method[:20], _shown(path), self.methods(node))
        return route, _values(route, parts)

    def allowed(self, path: bytes) -> tuple[str, ...]:
        """The methods that a path knows; NotFound for an unknown one."""
        node = self._walk(self._root, path.split(b"/")[1:], 0)
        if node is None:
            raise NotFound(f"there is nothing at {_shown(path)}")
        return self.methods(node)

    @staticmethod
    def methods(node: _Node) -> tuple[str, ...]:
        """What may stand in Allow."""
        head = ("HEAD",) if "GET" in node.methods else ()
        return (*sorted(node.methods), *head, "OPTIONS")

    def _walk(self, node: _Node, parts: list[bytes], at: int) -> _Node | None:
        if at == len(parts):
            return node if node.methods else None
        part = parts[at]
        fixed = node.fixed.get(part)
        found = self._walk(fixed, parts, at + 1) if fixed is not None else None
        if found is None and node.parameter is not None and part:
            found = self._walk(node.parameter, parts, at + 1)
        return found or (node.rest if part else None)


def _values(route: Route, parts: list[bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, part in enumerate(route.parts):
        if part.rest:
            whole = b"/".join(parts[number:])
            values[part.name] = unquote_to_bytes(whole) if route.bytes_path else text_of(whole, part.name)
        elif part.name:
            values[part.name] = text_of(parts[number], part.name)
    return values


def _shown(path: bytes) -> str:
    return path[:200].decode("ascii", "replace")
