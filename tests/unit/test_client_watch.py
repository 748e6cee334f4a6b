"""Streams: nothing is lost and nothing comes twice, also when the connection breaks in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from cpc.client.client import Client
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import Gone, NotFound, NotLoggedIn
from cpc.core.spec import JobSpec
from tests.helpers.small_server import SmallServer


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        running.world.submit("villin", JobSpec(argv=("true",)), "alice")
        yield running


@pytest.fixture
def alice(api: SmallServer) -> Iterator[Client]:
    pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
    client = Client(Transport(api.host, api.port, pin, "alice-token"), "villin")
    yield client
    client.close()


def test_a_broken_stream_goes_on_after_the_last_event(api: SmallServer, alice: Client) -> None:
    for _ in range(9):
        api.world.tell("job.ready", "villin", "57")
    api.faults.cut_stream["/events/stream"] = 4
    watched = alice.watch(after=0)
    assert [event.number for event in islice(watched, 10)] == list(range(1, 11))
    watched.close()
    assert [one.headers.get("last-event-id") for one in api.asked("GET", "/events/stream")] == [None, "4"]


def test_a_watch_begins_now_unless_told_otherwise(api: SmallServer, alice: Client) -> None:
    for _ in range(3000):
        api.world.tell("job.ready", "villin", "57")
    assert alice.last_event() == 3001
    seen = threading.Event()

    def go_on() -> None:
        while not seen.wait(0.05):
            api.world.tell("job.started", "villin", "57")

    news = threading.Thread(target=go_on)
    news.start()
    watched = alice.watch()
    first, second = next(watched), next(watched)
    seen.set()
    news.join()
    watched.close()
    assert first.number > 3001
    assert second.number == first.number + 1


def test_watching_what_is_not_there_or_past_retention_is_refused(api: SmallServer, alice: Client) -> None:
    api.world.forgotten = 1
    alice.transport.patience = 0.0
    stranger = alice.another()
    stranger.transport.token = "wrong"
    with pytest.raises(NotLoggedIn):
        next(stranger.watch(after=5))
    stranger.close()
    with pytest.raises(NotFound):
        next(alice.follow("99"))


def test_a_followed_log_is_whole_whatever_breaks(api: SmallServer, alice: Client) -> None:
    lines = [f"step {number} ⚛\n" for number in range(200)]
    api.world.logs["57", "stdout"] = "".join(lines).encode()
    api.world.end("57")
    api.faults.cut_stream["/logs/follow"] = 77
    assert "".join(part.data for part in alice.follow("57")) == "".join(lines)


def test_events_past_their_retention_are_named(api: SmallServer, alice: Client) -> None:
    api.world.forgotten = 5
    for _ in range(9):
        api.world.tell("job.ready", "villin", "57")
    with pytest.raises(Gone, match="past their retention"):
        next(alice.watch(after=1))
