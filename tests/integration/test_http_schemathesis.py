"""What the description promises is what the door does: schemathesis asks every call, right and wrong, over a socket.

The server is the real one, with a database, users and jobs, over TLS on a loopback port.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks as every
from schemathesis.checks import load_all_checks

from cpc.server.http import openapi
from cpc.server.http.routes import ROUTES
from tests.helpers.http_running import Running, running_server

load_all_checks()

CHECKS = every.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "ignored_auth",
    ]
)
ENDLESS = ("/api/v1/events/stream", "/api/v1/jobs/{id}/logs/follow", "/api/v1/jobs/{id}/wait")
KNOWN = {"project": "villin", "id": "57", "user": "bob", "name": "alice", "path": "out/traj.xtc"}

schema = schemathesis.openapi.from_dict(json.loads(openapi.document(ROUTES))).exclude(path=list(ENDLESS))
schema.config.seed = 2
schema.config.checks.negative_data_rejection.expected_statuses = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "413",
    "416",
    "431",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(module="http_real_server") as running:
        yield running


@pytest.fixture(scope="module")
def session(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[requests.Session]:
    with requests.Session() as session:
        if server.authority:
            trusted = tmp_path_factory.mktemp("authority") / "authority.pem"
            trusted.write_text(server.authority)
            session.verify = str(trusted)
        yield session


def test_every_call_is_asked_but_those_that_do_not_end() -> None:
    """They have tests of their own: tests/unit/test_http_streams.py, tests/unit/test_http_watchers.py."""
    asked = {(found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()}
    known = {(route.method, route.path.replace("...}", "}")) for route in ROUTES}
    assert known - asked == {("GET", path) for path in ENDLESS}


@schema.parametrize()
@settings(
    max_examples=20, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
def test_every_call_keeps_what_its_description_promises(case: Any, server: Running, session: requests.Session) -> None:
    for name in case.path_parameters or {}:
        if name in KNOWN and len(str(case.path_parameters[name])) % 2:
            case.path_parameters[name] = KNOWN[name]
    if case.operation.method.upper() == "DELETE" and case.operation.path == "/api/v1/projects/{project}":
        case.path_parameters["project"] = "doomed"
    token = server.admin if case.operation.path.startswith(("/api/v1/s", "/api/v1/users")) else server.token
    if case.operation.path == "/api/v1/logout":
        token = server.spare
    case.call_and_validate(
        base_url=server.url,
        session=session,
        checks=CHECKS,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        verify=session.verify,
    )


def test_the_server_is_well_after_all_that(server: Running, session: requests.Session) -> None:
    assert session.get(f"{server.url}/health", timeout=60, verify=session.verify).json() == {
        "status": "ok",
        "reasons": [],
    }
