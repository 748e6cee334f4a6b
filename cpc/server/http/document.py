"""The manual's pages about the public API, from the declared routes.

python -m cpc.server.http.document docs/reference/openapi
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from cpc.server.http import openapi
from cpc.server.http.download import Download
from cpc.server.http.outflow import Outflow
from cpc.server.http.route import Raw, Route
from cpc.server.http.routes import NOUNS, ROUTES
from cpc.server.http.stream import Stream

_INTRODUCTION = """# The public API

Printed from the declarations in `cpc/server/http` that also route and check the calls; `openapi.json` beside this page
says the same for tools (the server has it at `/api/v1/openapi.json`). Port 14807, TLS, HTTP/1.1, JSON.

* `Authorization: Bearer TOKEN` with a token from `POST /api/v1/login`, `POST /api/v1/tokens` or a client bundle.
* What changes something takes `Idempotency-Key`: the same key with the same call gets the same answer for 30 days.
* Bodies and queries are strict: an unknown field is refused with its path. Lists take `limit` and `after`.
* Times are microseconds UTC since 1970, spans seconds, sizes bytes.
* An error is `{"code", "message", "hint"}`: `code` is stable, the rest is for people. Every answer has `X-Request-Id`.
* Within `/api/v1` fields may be added; none changes its meaning or leaves.
"""


def files() -> dict[str, bytes]:
    """The pages by file name."""
    return {"openapi.json": openapi.document(ROUTES) + b"\n", "index.md": markdown().encode()}


def markdown() -> str:
    """All calls, noun by noun, as tables."""
    lines = [_INTRODUCTION]
    for noun in NOUNS:
        name = noun.__name__.rpartition(".")[2]
        lines += [
            f"## {name.capitalize()}",
            "",
            noun.__doc__ or "",
            "",
            "| call | who | question → answer |",
            "|---|---|---|",
        ]
        lines += [_row(route) for route in ROUTES if route.noun == name]
        lines.append("")
    return "\n".join(lines)


def _row(route: Route) -> str:
    question = ""
    if route.query is not None:
        question += "?" + "&".join(route.query.kind.__struct_fields__)
    if route.body is not None:
        question += " " + route.body.kind.__name__
    elif route.raw:
        question += " bytes"
    text = " ".join(route.text.split()).replace("|", "\\|")
    return f"| `{route.method} {route.path}{question}` | {route.who.value} | → `{_name(route.answer)}`: {text} |"


def _name(answer: Any) -> str:
    if get_origin(answer) is Annotated:
        return f"Page of {get_args(answer)[1].__name__}"
    if answer in (Raw, Download, Outflow, Stream):
        return {Raw: "text", Download: "bytes", Outflow: "bytes", Stream: "server-sent events"}[answer]
    kinds = get_args(answer) or (answer,)
    return " or ".join(kind.__name__ for kind in kinds)


def main(directory: str) -> None:
    """Write the pages into `directory`."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for name, data in files().items():
        (Path(directory) / name).write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1])
