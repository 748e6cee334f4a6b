"""Connections of the people's door: one after the other, bounded in every direction, closed without losing an answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.server.http.door import Limits
from tests.helpers.http_wire import House, logged

API = "/api/v1"
TOKEN = {"Authorization": "Bearer alice-token"}


@pytest.fixture
def house() -> Iterator[House]:
    house = House(Limits(connections=4, connections_per_address=2))
    yield house
    house.close()


def test_pipelined_calls_are_answered_in_order(house: House) -> None:
    client = house.client()
    token = {"Authorization": "Bearer alice-token"}
    paths = [f"{API}/jobs/57/wait?timeout=30", f"{API}/whoami", f"{API}/nix"]
    client.send(b"".join(client.head("GET", path, token) for path in paths))
    assert client.wire.value() == b"", "the first is not answered yet"
    house.services.jobs.end("57")
    assert client.reply().json["state"] == "succeeded"
    assert client.reply().json["name"] == "alice"
    assert client.reply().status == 404
    assert not client.closed


def test_a_call_that_comes_byte_by_byte_is_answered(house: House) -> None:
    client = house.client()
    for byte in client.head("GET", f"{API}/server"):
        client.channel.dataReceived(bytes([byte]))
    assert client.reply().status == 200


def test_small_packets_leave_at_once(house: House) -> None:
    """Nagle's algorithm would hold an answer back for up to 40 ms."""
    assert house.client().wire.no_delay


def test_an_idle_connection_is_closed(house: House) -> None:
    client = house.client()
    client.ask("GET", f"{API}/server")
    house.reactor.advance(74)
    assert not client.closed
    client.ask("GET", f"{API}/server")
    house.reactor.advance(74)
    assert not client.closed
    house.reactor.advance(2)
    assert client.closed


def test_who_sends_nothing_or_trickles_a_header_is_cut_off(house: House) -> None:
    silent, trickling = house.client(), house.client("10.0.0.1")
    trickling.send(b"GET /api/v1/server HTTP/1.1\r\n")
    for _ in range(10):
        trickling.send(b"X-A: b\r\n")
        house.reactor.advance(2.1)
    assert silent.closed
    assert trickling.closed


def test_a_trickling_second_request_is_cut_off_too(house: House) -> None:
    client = house.client()
    client.ask("GET", f"{API}/server")
    client.send(b"GET /api")
    for _ in range(5):
        house.reactor.advance(5)
        client.send(b"x")
    assert client.closed


def test_a_trickling_body_is_cut_off(house: House) -> None:
    client = house.client()
    client.send(client.head("POST", f"{API}/login", {"Content-Length": "500", "Content-Type": "application/json"}))
    for _ in range(8):
        client.send(b" ")
        house.reactor.advance(5)
    assert client.closed


def test_a_call_that_takes_long_is_not_cut_off(house: House) -> None:
    client = house.client()
    client.send(client.head("GET", f"{API}/jobs/57/wait?timeout=60", {"Authorization": "Bearer alice-token"}))
    house.reactor.advance(600)
    assert not client.closed
    house.services.jobs.end("57")
    assert client.reply().json["state"] == "succeeded"


def test_a_wait_ends_with_its_client(house: House) -> None:
    client = house.client()
    client.send(client.head("GET", f"{API}/jobs/57/wait?timeout=60", {"Authorization": "Bearer alice-token"}))
    [waiter] = house.world.waiting["57"]
    client.lose()
    assert waiter.called, "the service is told that nobody waits"
    assert client.wire.value() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\nX: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_one_answer_in_words_and_a_close(house: House, data: bytes) -> None:
    client = house.client()
    client.send(data)
    client.send(b"GET /api/v1/server HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = client.reply()
    assert (reply.status, reply.json["code"]) == (400, "bad-input")
    assert client.wire.value() == b"", "one answer only"
    assert client.closed


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000 + b"\r\n",
    ],
)
def test_a_head_that_is_too_long_is_refused(house: House, data: bytes) -> None:
    client = house.client()
    client.send(data)
    reply = client.reply()
    assert reply.status in (400, 431)
    assert client.closed


def test_too_many_connections_are_refused_in_words_and_others_go_on(house: House) -> None:
    first, second, third = house.client(), house.client(), house.client()
    assert third.reply().status == 503
    assert third.closed
    assert not second.closed
    other = house.client("10.0.0.2")
    assert other.ask("GET", f"{API}/server").status == 200
    third.lose()
    first.lose()
    assert house.client().ask("GET", f"{API}/server").status == 200


def test_old_clients_and_those_who_ask_for_it_are_closed_after_their_answer(house: House) -> None:
    old = house.client()
    old.send(b"GET /api/v1/server HTTP/1.0\r\n\r\n")
    assert old.reply().status == 200
    assert old.closed
    polite = house.client()
    assert polite.ask("GET", f"{API}/server", Connection="close").headers["connection"] == "close"
    assert polite.closed


def test_closing_answers_what_is_under_way_and_refuses_new_calls(house: House) -> None:
    idle, waiting, lost = house.client("10.0.0.1"), house.client("10.0.0.2"), house.client("10.0.0.3")
    waiting.send(waiting.head("GET", f"{API}/jobs/57/wait?timeout=60", {"Authorization": "Bearer alice-token"}))
    closed = ensureDeferred(house.door.close())
    assert idle.closed
    reply = waiting.reply()
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert waiting.closed
    late = house.client("10.0.0.4")
    assert late.reply().status == 503
    for client in (idle, waiting, late):
        client.lose()
    assert not closed.called
    house.reactor.advance(6)
    assert lost.wire.aborted
    lost.lose()
    assert closed.called


def test_a_change_under_way_is_finished_before_closing(house: House) -> None:
    """Its effect may be on disk already: the client must hear of it."""
    client = house.client()
    data = b"x" * 10
    number = house.announce(data)
    house.services.files.gate = Deferred()
    token = {"Authorization": "Bearer alice-token", "Content-Length": "10"}
    client.send(client.head("PUT", f"{API}/uploads/{number}", token) + data)
    closed = ensureDeferred(house.door.close())
    assert client.wire.value() == b""
    house.services.files.gate.callback(None)
    assert client.reply().json["done"]
    assert client.closed
    client.lose()
    assert closed.called


def test_a_client_who_leaves_while_the_door_closes_disturbs_nothing(house: House) -> None:
    client = house.client()
    number = house.announce(b"x")
    house.services.files.gate = gate = Deferred()
    client.send(client.head("PUT", f"{API}/uploads/{number}", TOKEN | {"Content-Length": "1"}) + b"x")
    closed = ensureDeferred(house.door.close())
    client.lose()
    assert closed.called
    with logged() as events:
        gate.callback(None)
    assert not [event for event in events if "log_failure" in event]
    assert house.world.files, "the change itself was made"
