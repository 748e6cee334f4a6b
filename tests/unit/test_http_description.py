"""What is said about the calls: OpenAPI and the manual, both from the declarations; fakes with the real signatures."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from cpc.server.http import document, openapi, services
from cpc.server.http.routes import ROUTES
from tests.helpers.fake_services import FakeServices
from tests.helpers.http_wire import House

ROOT = Path(__file__).parents[2]


def test_the_description_is_served_and_names_every_call() -> None:
    house = House()
    described = house.ask("GET", "/api/v1/openapi.json", user="").json
    house.close()
    assert described["openapi"] == "3.1.0"
    operations = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert operations == {(route.method, route.path.replace("...}", "}")) for route in ROUTES}
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_every_reference_in_the_description_leads_somewhere() -> None:
    described = openapi.document(ROUTES)
    schemas = json.loads(described)["components"]["schemas"]
    references = {part.split('"')[0] for part in described.decode().split('"#/components/schemas/')[1:]}
    assert references <= schemas.keys()
    assert {"JobSpec", "JobDetail", "ArrayView", "ErrorView", "Submission"} <= schemas.keys()
    assert schemas["Submission"]["additionalProperties"] is False


def test_a_list_says_what_is_in_it() -> None:
    described = json.loads(openapi.document(ROUTES))
    answer = described["paths"]["/api/v1/users"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["properties"]["items"]["items"] == {"$ref": "#/components/schemas/UserView"}


def test_the_manual_is_current() -> None:
    """Make it so with: python -m cpc.server.http.document docs/reference/openapi"""
    for name, data in document.files().items():
        assert (ROOT / "docs/reference/openapi" / name).read_bytes() == data, name


@pytest.mark.parametrize(
    "noun",
    [
        "accounts", "projects", "bundles", "custody", "settings", "events", "files", "jobs", "results", "workers", "peers",
        "peer_requests", "surveying", "",
    ],
)  # fmt: skip
def test_the_fakes_have_the_signatures_of_the_real_services(noun: str) -> None:
    wanted = getattr(services, "".join(part.capitalize() for part in noun.split("_")) or "Services")
    fake = getattr(FakeServices(), noun) if noun else FakeServices()
    for name, method in vars(wanted).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        expected = [(p.name, p.kind) for p in inspect.signature(method).parameters.values() if p.name != "self"]
        found = [(p.name, p.kind) for p in inspect.signature(getattr(fake, name)).parameters.values()]
        assert found == expected, name
