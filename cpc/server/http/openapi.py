"""OpenAPI 3.1 from the declared routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

import msgspec

from cpc import __version__
from cpc.core.views import ErrorView, Page
from cpc.server.http.download import Download
from cpc.server.http.outflow import Outflow
from cpc.server.http.route import Raw, Route
from cpc.server.http.stream import Stream
from cpc.server.roles import RULES, Who

_REFERENCE = "#/components/schemas/{name}"
_WORDS = {
    400: "something in the question is wrong: which field, and why",
    401: "no token, or one that is unknown, expired or revoked",
    403: "your role does not allow this",
    404: "no such thing, or none that you may see",
    405: "this path does not know the method; Allow lists those it knows",
    409: "it exists already, is in a state in which this cannot be done, or the Idempotency-Key was used for another call",
    410: "it was here and has been removed",
    413: "more than is taken",
    416: "the range lies outside of the file",
    429: "too many tries; wait",
    431: "the request line or the headers are too long",
    500: "a mistake of the server; its log has more under the request's id",
    503: "the server cannot do this now; nothing was done, try again",
    507: "the project's quota, or the disk, is full",
}


def document(routes: Iterable[Route]) -> bytes:
    """The description of all calls, as JSON."""
    routes = tuple(routes)
    types = [kind for route in routes for kind in _types(route)]
    schemas, components = msgspec.json.schema_components([*types, ErrorView], ref_template=_REFERENCE)
    named = dict(zip(map(repr, types), schemas, strict=False))
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Copernicus",
            "version": __version__,
            "description": "The job network's public API. Within /api/v1 fields may be added; none changes or leaves.",
        },
        "paths": {},
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    for route in routes:
        path = route.path.replace("...}", "}")
        described["paths"].setdefault(path, {})[route.method.lower()] = _operation(route, named)
    return msgspec.json.format(msgspec.json.encode(described), indent=1)


def _types(route: Route) -> list[Any]:
    found = [route.body.kind] if route.body else []
    answer = _answer_type(route)
    return found + ([answer] if answer is not None else [])


def _answer_type(route: Route) -> Any:
    """The type that stands in the components: of a list, its items."""
    if get_origin(route.answer) is Annotated and get_args(route.answer)[0] is Page:
        return get_args(route.answer)[1]
    return None if route.answer in (Raw, Download, Outflow, Stream) else route.answer


def _operation(route: Route, named: dict[str, Any]) -> dict[str, Any]:
    title, _, rest = route.text.partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.noun],
        "summary": title,
        "description": f"{rest.strip()}\n\nWho: {route.who.value} ({RULES[route.act].text}).".strip(),
        "parameters": _parameters(route),
        "responses": _responses(route, named),
        "security": [] if route.who is Who.ANYONE else [{"token": []}],
    }
    if route.body is not None:
        required = bool(msgspec.json.schema(route.body.kind)["$defs"][route.body.kind.__name__].get("required"))
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": named[repr(route.body.kind)]}},
        }
    elif route.raw:
        schema = {"type": "string", "format": "binary", "maxLength": route.raw}
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in route.parts:
        if part.name:
            described = {
                "name": part.name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
            if part.rest:
                described["description"] = "the rest of the path; '/' separates directories"
            found.append(described)
    if route.query is not None:
        schema = msgspec.json.schema(route.query.kind)["$defs"][route.query.kind.__name__]
        for name, of in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": False, **_query_schema(of)})
    if not route.reads and route.who is not Who.ANYONE:
        text = "the same key with the same call gets the same answer for 30 days"
        key = {"type": "string", "maxLength": 64, "pattern": "^[ -~]*$"}
        found.append({"name": "Idempotency-Key", "in": "header", "schema": key, "description": text})
    return found


def _query_schema(of: dict[str, Any]) -> dict[str, Any]:
    if of.get("type") == "array":
        return {"schema": {key: value for key, value in of.items() if key != "default"}, "explode": False}
    if "anyOf" in of:  # optional: to leave it out is the way to say null
        return {"schema": next(kind for kind in of["anyOf"] if kind != {"type": "null"})}
    return {"schema": of}


def _responses(route: Route, named: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "the answer", "content": _content(route, named)}
    found: dict[str, Any] = {"200": answer}
    if route.answer is Download:
        found["206"] = {"description": "the range that was asked for", "content": _content(route, named)}
        found["304"] = {"description": "it has not changed"}
    for status in route.also:
        found[str(status)] = answer
    for status in _errors(route):
        shown = {"application/json": {"schema": {"$ref": _REFERENCE.format(name="ErrorView")}}}
        found.setdefault(str(status), {"description": _WORDS[status], "content": shown})
    return found


def _errors(route: Route) -> list[int]:
    statuses = [400, 413, 431, 500, 503]
    if route.who is not Who.ANYONE or route.answer is Raw:
        statuses += [401, 403]
    if route.who is not Who.ANYONE:
        statuses += [404, 409, 410, 429, 507]
    elif route.body is not None:
        statuses += [401, 403, 429]
    if route.answer is Download:
        statuses.append(416)
    return sorted(set(statuses))


def _content(route: Route, named: dict[str, Any]) -> dict[str, Any]:
    if route.answer in (Download, Outflow):
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    if route.answer is Stream:
        return {"text/event-stream": {"schema": {"type": "string"}}}
    if route.answer is Raw:
        kind = "application/json" if route.path.endswith(".json") else "text/plain"
        return {kind: {"schema": {"type": "object" if kind == "application/json" else "string"}}}
    schema = named[repr(_answer_type(route))]
    if get_origin(route.answer) is Annotated:
        items = {"type": "array", "items": schema}
        page = {"items": items, "next": {"type": "string", "description": "goes into ?after=; empty at the end"}}
        schema = {"type": "object", "required": ["items", "next"], "properties": page}
    return {"application/json": {"schema": schema}}
