"""Where two readers could disagree on where a request ends, the door answers once and closes: nothing rides behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.http_wire import Client, House, parse

HIDDEN = b"GET /api/v1/whoami HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alice-token\r\n\r\n"
HEAD = b"POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def answers(client: Client) -> list[int]:
    found, rest = [], client.wire.value()
    while rest:
        reply, rest = parse(rest)
        found.append(reply.status)
    return found


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 80\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: -2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: 2_0\r\n",
        b"Content-Length: 2 0\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length:\r\n",
        b"Content-Length : 2\r\n",
        b"Content-Length: 18446744073709551618\r\n",
    ],
)
def test_a_length_that_can_be_read_in_two_ways_ends_the_connection(house: House, headers: bytes) -> None:
    client = house.client()
    client.send(HEAD + headers + b"\r\n{}" + HIDDEN)
    house.reactor.advance(100)
    assert [status for status in answers(client) if status < 400] == [], "what was hidden has been answered"
    assert len(answers(client)) <= 1
    assert client.closed


@pytest.mark.parametrize(
    "body",
    [
        b"2;" + b"x" * 40_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"\xb2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
)
def test_chunks_that_are_none_end_the_connection(house: House, body: bytes) -> None:
    client = house.client()
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + HIDDEN)
    house.reactor.advance(100)
    assert 200 not in answers(client), "what was hidden has been answered"
    assert client.closed


def test_chunks_that_never_end_are_cut_off(house: House) -> None:
    """One byte now and then, or as fast as it goes."""
    slow, fast = house.client("10.0.0.1"), house.client("10.0.0.2")
    for client in (slow, fast):
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        if not slow.closed:
            slow.send(b"1\r\n \r\n")
        house.reactor.advance(1)
    assert slow.closed
    for _ in range(100):
        if not fast.closed:
            fast.send(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
    house.reactor.advance(10)
    assert fast.closed
    assert answers(fast) in ([413], [])


def test_a_body_that_ends_early_is_no_call(house: House) -> None:
    client = house.client()
    client.send(HEAD + b"Content-Length: 50\r\n\r\n{}")
    client.lose()
    assert client.wire.value() == b""
    house.reactor.advance(1000)
    assert not [call for call in house.reactor.getDelayedCalls() if call.active()]
