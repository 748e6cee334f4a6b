"""Bytes from outside are hostile: whatever comes, the door neither breaks nor mixes answers up."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred

from tests.helpers.http_wire import Client, House, logged, parse

API = "/api/v1"
TOKEN = {"Authorization": "Bearer alice-token"}


def whole(client: Client) -> list[tuple[int, bytes]]:
    found, rest = [], client.wire.value()
    while rest:
        reply, rest = parse(rest)
        found.append((reply.status, reply.body))
    return found


BODY = json.dumps({"spec": {"argv": ["x"]}, "dry_run": True}).encode()
CALLS = [
    ("GET", f"{API}/whoami", b""),
    ("GET", f"{API}/nix", b""),
    ("POST", f"{API}/projects/villin/jobs", BODY),
    ("POST", f"{API}/projects/villin/jobs", b"{"),
    ("GET", f"{API}/jobs/57/outputs/a", b""),
    ("POST", f"{API}/jobs/57/cancel", b"{}"),
]


@settings(max_examples=30, derandomize=True, database=None)
@given(st.data())
def test_how_the_bytes_are_cut_does_not_change_the_answers(data: st.DataObject) -> None:
    house = House()
    client = house.client()
    calls = data.draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=5))
    stream = b""
    for method, path, body in calls:
        headers = TOKEN | ({"Content-Length": str(len(body)), "Content-Type": "application/json"} if body else {})
        stream += client.head(method, path, headers) + body
    alone = [house.client() for _ in calls]
    expected = []
    for one, (method, path, body) in zip(alone, calls, strict=True):
        reply = one.ask(method, path, raw=body, Content_Type="application/json")
        expected.append((reply.status, reply.body))
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, 200))
        client.channel.dataReceived(stream[at : at + size])
        at += size
    assert whole(client) == expected
    house.close()


FRAGMENTS = [
    b"GET ", b"POST ", b"/api/v1/whoami", b"/api/v1/login", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"hello", b"Authorization: Bearer alice-token\r\n",
    b"Expect: 100-continue\r\n", b"Content-Type: application/json\r\n", b"\x00", b"\xff\xfe", b" ", b":", b"\r", b"\n",
    b"Connection: close\r\n", b"Range: bytes=0-\r\n", b"Last-Event-ID: 1\r\n", b"/api/v1/events/stream",
    b"/api/v1/uploads/u1", b"PUT ", b"OPTIONS ", b"HEAD ", b"?limit=%zz", b"%2e%2e/", b"a" * 20000,
]  # fmt: skip


@settings(max_examples=120, derandomize=True, database=None)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20)), max_size=25), st.booleans())
def test_nonsense_breaks_nothing(pieces: list[bytes], lost: bool) -> None:
    house = House()
    client = house.client()
    with logged() as events:
        for piece in pieces:
            client.channel.dataReceived(piece)
        if lost:
            client.lose()
        house.reactor.advance(3000)
    assert not [event for event in events if "log_failure" in event]
    other = house.client()
    assert other.ask("GET", f"{API}/whoami").json["name"] == "alice"
    client.lose()
    closed = ensureDeferred(house.door.close())
    other.lose()
    assert closed.called, "nothing is left behind"
    assert not [call for call in house.reactor.getDelayedCalls() if call.active()]
