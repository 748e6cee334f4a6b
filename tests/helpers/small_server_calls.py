"""How the calls of the small server are declared, and how they give lists in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpc.core import ids
from cpc.core.errors import BadInput
from cpc.core.views import (
    Page,
)
from tests.helpers.small_server import Ask

ROUTES: list[tuple[str, str, Callable[..., Any]]] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a call."""

    def declare(act: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, pattern, act))
        return act

    return declare


def page(ask: Ask, items: list[Any], *known: str) -> Page:
    """A part of a list; the cursor is a position."""
    query = ask.only("limit", "after", *known)
    limit, start = int(query.get("limit", 100)), int(query.get("after") or 0)
    if not 1 <= limit <= 1000:
        raise BadInput("in the query: limit is not between 1 and 1000")
    more = start + limit < len(items)
    return Page(items=tuple(items[start : start + limit]), next=str(start + limit) if more else "")


def page_of_ids(ask: Ask, items: list[Any], *known: str) -> Page:
    """A part of a list that goes down by id; the cursor is the last id of the part before."""
    query = ask.only("limit", "after", *known)
    limit = int(query.get("limit", 100))
    if not 1 <= limit <= 1000:
        raise BadInput("in the query: limit is not between 1 and 1000")
    below = ids.read(query["after"])[0] if query.get("after") else 1 << 62
    rest = sorted((one for one in items if ids.read(one.id)[0] < below), key=lambda one: -ids.read(one.id)[0])
    return Page(items=tuple(rest[:limit]), next=rest[limit - 1].id if len(rest) > limit else "")
