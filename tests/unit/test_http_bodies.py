"""Bodies: authorised before they are read, bounded, streamed with back-pressure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from cpc.core.digest import CHUNK
from tests.helpers.http_wire import Client, House

API = "/api/v1"
JOBS = f"{API}/projects/villin/jobs"
TOKEN = {"Authorization": "Bearer alice-token"}


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def begin(house: House, method: str, path: str, length: int | str, **headers: str) -> Client:
    """The head of a request; its body is still to come."""
    client = house.client()
    given = TOKEN | {"Content-Type": "application/json", "Content-Length": str(length)} | headers
    client.send(client.head(method, path, {name: value for name, value in given.items() if value}))
    return client


@pytest.mark.parametrize(
    ("method", "path", "length", "headers", "status"),
    [
        ("POST", JOBS, 1 << 24, {"Authorization": ""}, 401),
        ("POST", JOBS, 1 << 24, {"Authorization": "Bearer bob-token"}, 403),
        ("POST", f"{API}/projects/secret/jobs", 1 << 24, {}, 404),
        ("POST", JOBS, (32 << 20) + 1, {}, 413),
        ("POST", f"{API}/login", 8193, {"Authorization": ""}, 413),
        ("POST", f"{API}/nix", 1 << 40, {}, 404),
        ("PUT", JOBS, 1 << 24, {}, 405),
        ("PUT", f"{API}/uploads/u9", 1 << 20, {}, 404),
        ("PUT", f"{API}/uploads/u9", (8 << 20) + 1, {}, 413),
        ("POST", f"{API}/logout", 1 << 20, {}, 413),
    ],
)
def test_a_body_that_may_not_come_is_refused_at_its_head(
    house: House, method: str, path: str, length: int, headers: dict[str, str], status: int
) -> None:
    client = begin(house, method, path, length, **headers)
    reply = client.reply()
    assert reply.status == status
    assert reply.headers["connection"] == "close"


def test_what_follows_a_refusal_is_thrown_away_and_the_connection_closed_in_the_end(house: House) -> None:
    """A close with unread data would be a reset, and the client might never see the answer."""
    client = begin(house, "POST", f"{API}/nix", 100_000)
    assert client.reply().status == 404
    assert not client.closed
    client.send(b"x" * 99_999)
    assert not client.closed
    client.send(b"x")
    assert client.closed
    assert client.wire.value() == b""


def test_a_client_that_goes_on_sending_after_a_refusal_is_cut_off(house: House) -> None:
    client = begin(house, "POST", f"{API}/nix", 1 << 40)
    client.reply()
    for _ in range(6):
        client.send(b"x" * 1000)
        house.reactor.advance(1)
    assert client.closed


def test_a_call_smuggled_behind_a_refused_body_is_not_answered(house: House) -> None:
    client = begin(house, "POST", f"{API}/nix", 10)
    client.reply()
    client.send(b"0123456789" + client.head("POST", f"{API}/jobs/57/cancel", TOKEN))
    assert client.wire.value() == b""
    assert client.closed


def test_continue_is_said_only_when_the_body_is_wanted(house: House) -> None:
    refused = begin(house, "POST", f"{API}/projects/secret/jobs", 100_000, Expect="100-continue")
    assert refused.wire.value().startswith(b"HTTP/1.1 404")
    body = b'{"spec":{"argv":["x"]}}'
    taken = begin(house, "POST", JOBS, len(body), Expect="100-continue")
    assert taken.wire.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    taken.wire.clear()
    taken.send(body)
    assert taken.reply().json["size"] == 1
    assert not taken.closed


def test_a_body_in_chunks_is_taken_and_bounded(house: House) -> None:
    client = begin(house, "POST", JOBS, "", **{"Transfer-Encoding": "chunked", "Content-Length": ""})
    for piece in (b'{"spec":', b'{"argv":["x"]}}'):
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")
    assert client.reply().status == 200
    assert client.ask("GET", f"{API}/whoami").status == 200
    login = begin(house, "POST", f"{API}/login", "", **{"Transfer-Encoding": "chunked", "Content-Length": ""})
    login.send(b"2001\r\n" + b" " * 0x2001 + b"\r\n")
    assert login.reply().status == 413


def test_a_broken_chunk_ends_the_connection(house: House) -> None:
    client = begin(house, "POST", JOBS, "", **{"Transfer-Encoding": "chunked", "Content-Length": ""})
    client.send(b"zz\r\n")
    assert client.reply().status == 400
    assert client.closed


def test_a_big_table_is_taken_whole(house: House) -> None:
    table = {"columns": ["n"], "rows": [[str(number)] for number in range(50_000)]}
    body = json.dumps({"spec": {"argv": ["x"], "array": 50_000, "table": table}}).encode()
    client = begin(house, "POST", JOBS, len(body))
    client.send(body)
    assert client.reply().json["size"] == 50_000


def test_a_part_of_an_upload_is_given_to_the_service_in_chunks_while_the_client_waits(house: House) -> None:
    data = bytes(range(256)) * (CHUNK // 256) + b"y" * CHUNK
    number = house.announce(data)
    files = house.services.files
    files.gate = Deferred()
    client = begin(house, "PUT", f"{API}/uploads/{number}?offset=0", len(data))
    client.send(data[: CHUNK + 65536])
    assert files.parts == [(0, CHUNK)]
    assert client.wire.producerState == "paused", "nothing more is read while the first chunk is written"
    gate, files.gate = files.gate, None
    gate.callback(None)
    assert client.wire.producerState == "producing"
    client.send(data[CHUNK + 65536 :])
    assert files.parts == [(0, CHUNK), (CHUNK, CHUNK)]
    reply = client.reply()
    assert reply.json["done"]
    assert house.world.files[hashlib.sha256(data).digest()] == data
    assert client.ask("GET", f"{API}/uploads/{number}").json["received"] == len(data)


def test_a_part_that_is_cut_off_keeps_its_whole_chunks_and_nothing_else(house: House) -> None:
    data = b"z" * (2 * CHUNK)
    number = house.announce(data)
    client = begin(house, "PUT", f"{API}/uploads/{number}", len(data))
    client.send(data[: CHUNK + 1000])
    client.lose()
    assert house.services.files.parts == [(0, CHUNK)]
    assert house.ask("GET", f"{API}/uploads/{number}").json["received"] == CHUNK
    rest = house.ask("PUT", f"{API}/uploads/{number}?offset={CHUNK}", raw=data[CHUNK:])
    assert rest.json["done"]


def test_an_offset_within_a_chunk_and_wrong_bytes_are_refused(house: House) -> None:
    number = house.announce(b"abc")
    assert house.ask("PUT", f"{API}/uploads/{number}?offset=5", raw=b"abc").status == 400
    assert house.ask("PUT", f"{API}/uploads/{number}", raw=b"abd").status == 400
    assert house.ask("PUT", f"{API}/uploads/{number}", raw=b"abc").json["done"]


def test_a_slow_disk_is_not_the_clients_fault(house: House) -> None:
    data = b"q" * 100
    number = house.announce(data)
    house.services.files.gate = gate = Deferred()
    client = begin(house, "PUT", f"{API}/uploads/{number}", len(data))
    client.send(data)
    house.reactor.advance(300)
    assert not client.closed
    gate.callback(None)
    assert client.reply().json["done"]


def test_an_announcement_must_be_a_file(house: House) -> None:
    wrong = {"digest": "ab", "size": 1, "chunks": []}
    assert house.ask("POST", f"{API}/projects/villin/uploads", wrong).status == 400
    wrong = {"digest": "ab" * 32, "size": 1, "chunks": []}
    reply = house.ask("POST", f"{API}/projects/villin/uploads", wrong)
    assert (reply.status, reply.json["message"]) == (400, "a file of 1 bytes does not have 0 chunks")
