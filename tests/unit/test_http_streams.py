"""Streams of events and logs: resumable, alive, bounded, ended when they must be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.server.http.door import Limits
from tests.helpers.http_wire import Client, House, parse

API = "/api/v1"
TOKEN = {"Authorization": "Bearer alice-token"}


@pytest.fixture
def house() -> Iterator[House]:
    house = House(Limits(streams_per_user=2))
    yield house
    house.close()


def watch(house: House, path: str = "/events/stream", **headers: str) -> Client:
    client = house.client()
    client.send(
        client.head("GET", API + path, TOKEN | {name.replace("_", "-"): text for name, text in headers.items()})
    )
    return client


def received(client: Client) -> list[tuple[str, str, object]]:
    """(id, event, data) of every message so far; comments left out."""
    reply, _ = parse(client.wire.value())
    assert reply.headers["content-type"] == "text/event-stream"
    found = []
    for message in reply.body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in message.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


def test_events_come_as_they_happen_and_again_after_the_last_that_was_seen(house: House) -> None:
    for number in range(3):
        house.world.tell("job.submitted", "villin", str(number))
    client = watch(house)
    assert [id for id, _, _ in received(client)] == ["1", "2", "3"]
    house.world.tell("job.started", "villin", "57", attempt=1)
    id, kind, data = received(client)[-1]
    assert (id, kind) == ("4", "job.started")
    assert isinstance(data, dict)
    assert (data["number"], data["subject"], data["details"]) == (4, "57", {"attempt": 1})
    client.lose()
    house.world.tell("job.succeeded", "villin", "57")
    again = watch(house, Last_Event_ID="3")
    assert [id for id, _, _ in received(again)] == ["4", "5"]
    later = watch(house, "/events/stream?after=4&kind=job.succeeded")
    assert [id for id, _, _ in received(later)] == ["5"]


def test_a_watcher_who_leaves_is_forgotten(house: House) -> None:
    client = watch(house)
    assert house.services.events.open == 1
    client.lose()
    assert house.services.events.open == 0
    house.world.tell("job.started")
    house.reactor.advance(100)


def test_a_stream_that_is_refused_is_refused_with_a_status(house: House) -> None:
    house.services.events.oldest = 10
    for path, status in (("/events/stream?after=3", 410), ("/events/stream?project=secret&after=11", 404)):
        reply = watch(house, path).reply()
        assert reply.status == status
        assert reply.headers["content-type"] == "application/json"
    assert watch(house, Last_Event_ID="x").reply().status == 400
    assert watch(house, "/jobs/99/logs/follow").reply().status == 404


def test_a_quiet_stream_shows_that_it_is_alive(house: House) -> None:
    client = watch(house)
    before = client.wire.value().count(b": still here")
    house.reactor.advance(15)
    house.reactor.advance(15)
    assert client.wire.value().count(b": still here") == before + 2


def test_a_revoked_token_ends_its_streams(house: House) -> None:
    client = watch(house)
    del house.world.tokens["alice-token"]
    house.reactor.advance(15)
    _, kind, data = received(client)[-1]
    assert (kind, isinstance(data, dict) and data["code"]) == ("error", "not-logged-in")
    assert client.wire.value().endswith(b"0\r\n\r\n")
    assert house.services.events.open == 0


def test_a_user_has_so_many_streams_and_no_more(house: House) -> None:
    first, _second, third = watch(house), watch(house), watch(house)
    assert third.reply().json["code"] == "rate-limited"
    first.lose()
    assert received(watch(house)) == []


def test_a_slow_watcher_costs_no_memory_is_cut_off_and_may_resume(house: House) -> None:
    client = house.client()
    client.wire.full_after = 1000
    client.send(client.head("GET", f"{API}/events/stream", TOKEN))
    for _ in range(100):
        house.world.tell("job.submitted", "villin", "x" * 100)
    house.reactor.advance(15)
    assert len(client.wire.value()) < 2000, "the rest waits in the log of events, not here"
    client.wire.drain()
    assert 1000 < len(client.wire.value()) < 4000
    seen = len(received_so_far(client))
    house.reactor.advance(61)
    assert client.wire.aborted
    client.lose()
    again = watch(house, Last_Event_ID=str(seen))
    assert [id for id, _, _ in received(again)] == [str(number) for number in range(seen + 1, 101)]


def received_so_far(client: Client) -> list[bytes]:
    return [line for line in client.wire.value().split(b"\n") if line.startswith(b"id: ")]


def test_logs_are_followed_to_their_end_and_resumed_where_they_stopped(house: House) -> None:
    house.world.logs["57"] = "abcdé€xyz".encode()
    messages = received(watch(house, "/jobs/57/logs/follow"))
    assert [(id, kind) for id, kind, _ in messages] == [("5", "log"), ("10", "log"), ("12", "log"), ("", "end")]
    rest = received(watch(house, "/jobs/57/logs/follow", Last_Event_ID="10"))
    assert [(id, kind) for id, kind, _ in rest] == [("12", "log"), ("", "end")]
    client = watch(house, "/jobs/57/logs/follow?offset=12")
    assert [kind for _, kind, _ in received(client)] == ["end"]
    client.reply()
    assert client.ask("GET", f"{API}/whoami").status == 200, "the connection can be used again"


def test_head_of_a_stream_does_not_stream(house: House) -> None:
    reply = house.ask("HEAD", f"{API}/events/stream")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert house.services.events.open == 0


def test_closing_ends_streams(house: House) -> None:
    client = watch(house)
    ensureDeferred(house.door.close())
    assert client.wire.value().endswith(b"0\r\n\r\n")
    assert client.closed
    assert house.services.events.open == 0
