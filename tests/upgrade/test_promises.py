"""The public API of every release is kept: its description is compared with that of today, and the comparison bites."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cpc.server.http import openapi
from cpc.server.http.routes import ROUTES
from tests.upgrade.promises import broken
from tests.upgrade.tape import all_of

TODAY: dict[str, Any] = json.loads(openapi.document(ROUTES))


def schemas(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"]
    return found


@pytest.mark.parametrize("recorded", all_of("openapi.json"), ids=lambda path: path.parent.name)
def test_what_a_release_has_promised_is_kept(recorded: Path) -> None:
    lines = broken(json.loads(recorded.read_bytes()), TODAY)
    assert not lines, "programs of people break:\n" + "\n".join(lines)


def test_a_description_keeps_itself() -> None:
    assert broken(TODAY, copy.deepcopy(TODAY)) == []


def less(document: dict[str, Any], change: str) -> None:
    """One step back."""
    view, spec, login = (schemas(document)[name] for name in ("JobView", "JobSpec", "Login"))
    get = document["paths"]["/api/v1/projects/{project}/jobs"]["get"]
    match change:
        case "path":
            del document["paths"]["/api/v1/whoami"]
        case "answer field":
            del view["properties"]["exit_code"]
            view["required"].remove("exit_code")
        case "renamed":
            view["properties"]["status"] = view["properties"].pop("state")
            view["required"] = ["status" if name == "state" else name for name in view["required"]]
        case "answer type":
            view["properties"]["attempts"] = {"type": "string"}
        case "answer null":
            view["properties"]["attempts"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
        case "left out":
            view["required"].remove("reason")
        case "input field":
            del spec["properties"]["stdin"]
        case "input type":
            spec["properties"]["walltime"] = {"type": "integer", "default": 0}
        case "necessary":
            login["properties"]["factor"] = {"type": "string"}
            login["required"].append("factor")
        case "parameter":
            get["parameters"] = [each for each in get["parameters"] if each["name"] != "state"]
        case "necessary parameter":
            get["parameters"].append({"name": "mood", "in": "query", "required": True, "schema": {"type": "string"}})
        case "bound":
            login["properties"]["password"]["maxLength"] = 3
        case "choice":
            schemas(document)["NewBundle"]["properties"]["role"]["enum"] = ["worker"]
        case "token":
            document["paths"]["/health"]["get"]["security"] = [{"token": []}]
        case "content":
            answer = document["paths"]["/api/v1/whoami"]["get"]["responses"]["200"]["content"]
            answer["text/plain"] = answer.pop("application/json")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("path", "GET /api/v1/whoami is gone"),
        ("answer field", "JobView.exit_code is gone"),
        ("renamed", "JobView.state is gone"),
        ("answer type", "JobView.attempts was integer and is string"),
        ("answer null", "JobView.attempts was integer and is integer or null"),
        ("left out", "JobView.reason may be left out now"),
        ("input field", "JobSpec (taken).stdin is gone"),
        ("input type", "JobSpec (taken).walltime was number and is integer"),
        ("necessary", "Login (taken).factor is necessary now"),
        ("parameter", "GET /api/v1/projects/{project}/jobs: the query parameter state is not taken any more"),
        ("necessary parameter", "GET /api/v1/projects/{project}/jobs: the query parameter mood is necessary now"),
        ("bound", "Login (taken).password takes less: maxLength was"),
        ("choice", "NewBundle (taken).role does not take 'client' any more"),
        ("token", "GET /health needs a token now"),
        ("content", "GET /api/v1/whoami does not answer application/json any more"),
    ],
)
def test_a_promise_that_is_broken_is_told_of_in_one_line(change: str, line: str) -> None:
    changed = copy.deepcopy(TODAY)
    less(changed, change)
    assert any(each.startswith(line) for each in broken(TODAY, changed)), broken(TODAY, changed)


def test_more_is_no_breach() -> None:
    more = copy.deepcopy(TODAY)
    schemas(more)["JobView"]["properties"]["mood"] = {"type": "string"}
    schemas(more)["JobView"]["required"].append("mood")
    schemas(more)["JobSpec"]["properties"]["mood"] = {"type": "string", "default": ""}
    schemas(more)["NewBundle"]["properties"]["role"]["enum"].append("peer")
    more["paths"]["/api/v1/moods"] = more["paths"]["/api/v1/whoami"]
    where = {"name": "mood", "in": "query", "required": False, "schema": {"type": "string"}}
    more["paths"]["/api/v1/projects/{project}/jobs"]["get"]["parameters"].append(where)
    assert broken(TODAY, more) == []
