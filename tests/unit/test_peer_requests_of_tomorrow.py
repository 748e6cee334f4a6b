"""Requests of servers of a newer release, through the people's door: what is not known here is signed, and ignored."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cpc.core.peer_views import signed_part
from tests.helpers.http_wire import House, Reply, logged
from tests.helpers.members import Members

REQUESTS = "/api/v1/peer-requests"


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("ab")
    yield made
    made.close()


@pytest.fixture
def house(lab: Members) -> Iterator[House]:
    """The people's door of b."""
    made = House()
    made.services.peer_requests = lab["b"].federation.requests  # type: ignore[assignment]
    yield made
    made.close()


def of_tomorrow(lab: Members) -> dict[str, Any]:
    """What a of a newer release would send to b."""
    a, b = lab["a"], lab["b"]
    told = msgspec.to_builtins(a.trusting.request(b.id, b.federation.requests.word()))
    told = {"protocols": [3, 4], **told, "wishes": {"lend_on": 2, "ports": [{"quic": 443}]}}
    signature = a.authority.sign(signed_part(msgspec.json.encode(told)))
    return {**told, "signature": base64.b64encode(signature).decode()}


def send(house: House, told: dict[str, Any]) -> Reply:
    return house.ask("POST", REQUESTS, told, user="")


def test_a_request_with_fields_that_nobody_knows_yet_is_taken(lab: Members, house: House) -> None:
    reply = send(house, of_tomorrow(lab))
    assert (reply.status, reply.json["state"]) == (200, "received"), reply.json
    assert lab["b"].state(lab["a"]) == "received"


@pytest.mark.parametrize("how", ["changed", "added", "left out", "moved"])
def test_what_is_not_known_is_signed_too(lab: Members, house: House, how: str) -> None:
    told = of_tomorrow(lab)
    match how:
        case "changed":
            told["wishes"]["lend_on"] = 9
        case "added":
            told["more"] = 1
        case "left out":
            del told["protocols"]
        case "moved":
            told["protocols"] = told.pop("protocols")
    reply = send(house, told)
    assert (reply.status, reply.json["code"]) == (403, "refused")
    assert "not signed by the server that it names" in reply.json["message"]
    assert lab["b"].state(lab["a"]) == ""


def test_requests_of_people_are_read_as_strictly_as_ever(house: House) -> None:
    told = {"host": "b", "client_port": 14807, "wishes": 1}
    reply = house.ask("POST", "/api/v1/peers/look", told, user="cpc-admin")
    assert (reply.status, reply.json["code"]) == (400, "bad-input")
    assert "unknown field 'wishes'" in reply.json["message"]
    lacking = send(house, {"to": "b", "wishes": 1})
    assert (lacking.status, lacking.json["code"]) == (400, "bad-input")


@pytest.mark.parametrize(
    "more",
    ['"z": 1e400', '"z": 1e400, "name": "\\u0000"', '"z": ' + "[" * 900 + "]" * 900 + ', "name": "\\u0000"'],
    ids=["number", "number and NUL", "lists and NUL"],
)
def test_what_no_server_would_say_beside_a_request_is_refused_in_words(lab: Members, house: House, more: str) -> None:
    """Anybody may send one: it must not cost a traceback in the log."""
    told = json.dumps(of_tomorrow(lab))
    raw = f"{told[:-1]}, {more}}}".encode()
    with logged() as events:
        reply = house.ask("POST", REQUESTS, raw=raw, user="", Content_Type="application/json")
    assert (reply.status, reply.json["code"]) == (400, "bad-input")
    assert not [event for event in events if event.get("log_failure")]
