"""The SDK's connection: whom it trusts, what it repeats, what it says when nothing helps."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client import transport, trust
from cpc.client.client import Client
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import Conflict, CopernicusError, Damaged, NotFound, RateLimited, Refused, Unavailable
from cpc.core.views import Page
from cpc.wire import bundle
from cpc.wire.identity import Role, fingerprint_of, show_fingerprint
from tests.helpers import sample_views as sample
from tests.helpers.fake_api import SERVER_ID, Cut, FakeApi, Raw, Turns, authority, fake_api, identity

OTHER = "0" * 8 + "-0000-4000-8000-00000000000f"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with fake_api(tmp_path) as running:
        yield running


def test_a_lost_reply_is_asked_for_again_with_the_same_key(api: FakeApi) -> None:
    api.on("POST", "/projects", Turns(Cut, Cut, sample.project()))
    with api.client() as client:
        assert client.create_project("villin").name == "villin"
    keys = {call.headers["idempotency-key"] for call in api.asked("POST", "/projects")}
    assert len(api.asked("POST", "/projects")) == 3
    assert len(keys) == 1


def test_two_calls_have_two_keys(api: FakeApi) -> None:
    api.on("POST", "/projects", sample.project())
    with api.client() as client:
        client.create_project("a")
        client.create_project("a")
    first, second = api.asked("POST", "/projects")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_an_answer_that_breaks_off_is_asked_for_again(api: FakeApi) -> None:
    api.on("GET", "/whoami", Turns(Raw(b'{"name": "al', cut=5), sample.user()))
    with api.client() as client:
        assert client.whoami().name == "alice"


def test_a_server_that_is_stopping_is_asked_again(api: FakeApi) -> None:
    api.on("GET", "/whoami", Turns(Unavailable("stopping"), sample.user()))
    with api.client() as client:
        assert client.whoami().name == "alice"


def test_retry_after_is_heeded(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    busy = Raw(b'{"code":"unavailable","message":"full"}', 503, {"Retry-After": "4"})
    api.on("GET", "/whoami", Turns(busy, sample.user()))
    with api.client() as client:
        client.whoami()
    assert slept == [4.0]


def test_a_server_that_stays_away_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE", 0.05)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = Client(Transport("127.0.0.1", held.getsockname()[1], None, "t"))
        with pytest.raises(Unavailable, match="cannot reach the server at 127"):
            client.whoami()


def test_a_host_that_does_not_exist_is_not_tried_for_long() -> None:
    client = Client(Transport("no-such-host.invalid", 1, None, "t"))
    with pytest.raises(Unavailable, match="host name"):
        client.whoami()


def test_a_port_without_tls_is_told_in_words() -> None:
    import threading

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def plain() -> None:
            peer, _ = door.accept()
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=plain)
        thread.start()
        with pytest.raises(Unavailable, match="does not speak TLS"):
            Client(Transport("127.0.0.1", door.getsockname()[1], None)).server_info()
        thread.join(5)


@pytest.mark.parametrize(
    "error", [Conflict("taken", "choose another"), NotFound("no such project"), RateLimited("wait")]
)
def test_a_refusal_keeps_its_kind_words_and_hint_and_is_not_repeated(api: FakeApi, error: CopernicusError) -> None:
    api.on("POST", "/projects", error)
    with api.client() as client, pytest.raises(type(error)) as raised:
        client.create_project("x")
    assert (raised.value.message, raised.value.hint) == (error.message, error.hint)
    assert len(api.asked("POST", "/projects")) == 1


def test_what_is_not_our_json_is_told_in_words(api: FakeApi) -> None:
    api.on("GET", "/whoami", Raw(b"<html>welcome</html>"))
    with api.client() as client, pytest.raises(Damaged, match="does not speak"):
        client.whoami()
    api.on("GET", "/whoami", Raw(b"<html>no</html>", 404))
    with api.client() as client, pytest.raises(NotFound, match="does not know this call"):
        client.whoami()
    api.on("GET", "/whoami", Raw(b'{"name": 5}'))
    with api.client() as client, pytest.raises(Damaged, match="not understood"):
        client.whoami()


def test_fields_of_a_newer_server_are_left_out(api: FakeApi) -> None:
    api.on("GET", "/whoami", Raw(b'{"name":"a","super_user":false,"disabled":false,"created":1,"shoe_size":45}'))
    with api.client() as client:
        assert client.whoami().name == "a"


def test_pages_are_joined(api: FakeApi) -> None:
    api.on("GET", "/users", Turns(Page(items=(sample.user("a"),), next="a"), Page(items=(sample.user("b"),))))
    with api.client() as client:
        assert [user.name for user in client.users()] == ["a", "b"]
    assert [call.query.get("after") for call in api.asked("GET", "/users")] == [None, "a"]


def test_the_token_is_only_sent_to_the_server_that_was_pinned(tmp_path: Path) -> None:
    with fake_api(tmp_path, identity(server=OTHER)) as stranger:
        client = stranger.client()
        with pytest.raises(Refused, match="not the one that was added"):
            client.whoami()
        assert stranger.calls == []


def test_a_worker_of_the_same_authority_is_not_taken_for_the_server(tmp_path: Path) -> None:
    with fake_api(tmp_path, identity(Role.WORKER, "mallory")) as stranger:
        with pytest.raises(Refused):
            stranger.client().whoami()
        assert stranger.calls == []


def test_a_new_connection_is_checked_like_the_first(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    check = trust.check

    def noted(connection: ssl.SSLSocket, pin: Pin) -> None:
        checked.append(pin.server)
        check(connection, pin)

    monkeypatch.setattr(trust, "check", noted)
    api.on(
        "GET",
        "/whoami",
        Raw(b'{"name":"a","super_user":false,"disabled":false,"created":1}', 200, {"Connection": "close"}),
    )
    with api.client() as client:
        client.whoami()
        client.whoami()
    assert checked == [SERVER_ID, SERVER_ID]


def test_meeting_shows_the_fingerprint_that_the_server_printed(api: FakeApi) -> None:
    client, pin = Client.meet("127.0.0.1", api.port)
    client.close()
    assert pin.fingerprint == fingerprint_of(authority().certificate_pem) == api.info.fingerprint
    assert trust.show(pin.fingerprint) == show_fingerprint(pin.fingerprint)
    assert pin.server == SERVER_ID


def test_a_server_that_names_another_ones_key_is_not_met(tmp_path: Path) -> None:
    with (
        fake_api(tmp_path, identity(server=OTHER)) as thief,
        pytest.raises(Refused, match="cannot prove that it is lab"),
    ):
        Client.meet("127.0.0.1", thief.port)


def test_something_else_is_not_met(api: FakeApi) -> None:
    api.on("GET", "/server", Raw(b"hello"))
    with pytest.raises(Damaged, match="is not a Copernicus server"):
        Client.meet("127.0.0.1", api.port)


def test_a_client_bundle_is_enough(api: FakeApi, tmp_path: Path) -> None:
    api.on("GET", "/whoami", sample.user())
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        places = (("127.0.0.1", dead.getsockname()[1]), ("127.0.0.1", api.port))
        made = bundle.Bundle(
            role="client", name="b", server=SERVER_ID, server_name="lab", client_addresses=places,
            authority=api.pin.authority, token="from-bundle",
        )  # fmt: skip
        bundle.write(made, tmp_path / "b.cnx")
        with Client.from_bundle(tmp_path / "b.cnx") as client:
            client.whoami()
    assert api.asked("GET", "/whoami")[0].headers["authorization"] == "Bearer from-bundle"


@pytest.mark.parametrize("newest", [0, 1, 300, 70_000, (1 << 52) + 12_345])
def test_the_end_of_the_event_log_is_found(api: FakeApi, newest: int) -> None:
    first = (1 << 52) + 1 if newest > 1 << 52 else 1

    def page(call: object) -> Page:
        after = max(first - 1, int(call.query["after"]))  # type: ignore[attr-defined]
        if after >= newest:
            return Page(items=())
        return Page(items=(sample.event(after + 1),), next=str(after + 1) if after + 1 < newest else "")

    api.on("GET", "/events", page)
    with api.client() as client:
        assert client.last_event() == newest
    assert len(api.asked("GET", "/events")) < 60
