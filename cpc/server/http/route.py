"""A declared call: one declaration from which routing, checks, OpenAPI and the manual are made.

    @route("POST", "/projects/{project}/jobs", act=Act.JOB_SUBMIT, limit=32 << 20)
    async def submit(ask: Ask, project: str, body: Submission) -> Submitted:
        \"\"\"Submit a job or an array.\"\"\"

Parameters with the names of the template come from the path (`str`, or `bytes` for a path of a file), `query` and `body`
are structures that are read strictly. The return type is the answer: a View, `Annotated[Page, JobView]` for a list,
Nothing for `{}`, Raw for bytes, Stream for server-sent events.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from cpc.server.http.strict import Json, Query
from cpc.server.roles import RULES, Act, Who

API = "/api/v1"
SMALL = 64 << 10  # a body up to this size is taken from anybody who is logged in, before roles are looked at

Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body or a query. Unknown fields are refused."""


class Nothing(Question, frozen=True):
    """`{}`"""


@dataclass(frozen=True, slots=True)
class Raw:
    """Marks bytes as an answer."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a path template: `text`, or a parameter `name`, which may be the whole `rest`."""

    text: str
    name: str = ""
    rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call. Before a body over SMALL is read, the project's gate is asked, and `early` before any raw one: they raise
    when it may not come. The rule for `act` itself is in cpc.server.roles and enforced in the service.
    """

    method: str
    path: str
    act: Act
    handle: Handler
    parts: tuple[Part, ...]
    body: Json[Any] | None
    query: Query[Any] | None
    answer: Any
    also: tuple[int, ...]  # statuses other than 200 that carry the answer and not an error
    raw: int  # the most bytes of a raw body; 0: no raw body
    limit: int
    early: Handler | None
    text: str
    noun: str
    takes: frozenset[str]
    bytes_path: bool

    @property
    def who(self) -> Who:
        """The least that somebody must be to call it."""
        return RULES[self.act].who

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET"

    @property
    def name(self) -> str:
        """A name that no other route has: `jobs.submit`."""
        return f"{self.noun}.{self.handle.__name__}"


def route(
    method: str,
    path: str,
    *,
    act: Act,
    limit: int = 1 << 20,
    raw: int = 0,
    early: Handler | None = None,
    root: str = API,
    also: tuple[int, ...] = (),
    newer: bool = False,
) -> Callable[[H], H]:
    """Declare the function below as the handler of `method` and `path`. `limit`: most bytes of its JSON body. `newer`: its
    body comes from another server, perhaps of a newer release, which may say what is not known here."""

    def declare(handle: H) -> H:
        hints = get_type_hints(handle, include_extras=True)
        parts = _parts(root + path)
        names = {part.name for part in parts if part.name}
        takes = frozenset(inspect.signature(handle).parameters) - {"ask"}
        if takes - {"query", "body"} != names:
            raise TypeError(f"{handle.__name__}: parameters {sorted(takes)} do not go with {path}")
        declared = Route(
            method=method, path=root + path, act=act, handle=handle, parts=parts,
            body=Json(hints["body"], newer) if "body" in takes else None,
            query=Query(hints["query"]) if "query" in takes else None,
            answer=hints["return"], also=also, raw=raw, limit=limit, early=early, text=inspect.getdoc(handle) or "",
            noun=handle.__module__.rpartition(".")[2], takes=takes,
            bytes_path=any(hints[part.name] is bytes for part in parts if part.rest),
        )  # fmt: skip
        setattr(handle, "route", declared)  # noqa: B010
        return handle

    return declare


def routes_of(module: Any) -> list[Route]:
    """The routes that a module declares, in its order."""
    return [value.route for value in vars(module).values() if isinstance(getattr(value, "route", None), Route)]


def _parts(path: str) -> tuple[Part, ...]:
    parts = []
    for text in path.strip("/").split("/"):
        found = re.fullmatch(r"\{(\w+)(\.\.\.)?\}", text)
        parts.append(Part(text, found.group(1), bool(found.group(2))) if found else Part(text))
    return tuple(parts)
