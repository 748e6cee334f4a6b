"""Calls over a real connection: answers, refusals, lost replies, a server that is away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client.client import Client
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import BadInput, Conflict, Denied, NotFound, NotLoggedIn, Unavailable
from cpc.core.spec import JobSpec
from cpc.core.views import ArrayView, JobDetail
from tests.helpers.small_server import SmallServer


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


def connect(api: SmallServer, token: str = "alice-token") -> Client:
    pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
    return Client(Transport(api.host, api.port, pin, token), "villin")


@pytest.fixture
def alice(api: SmallServer) -> Iterator[Client]:
    client = connect(api)
    yield client
    client.close()


@pytest.fixture
def admin(api: SmallServer) -> Iterator[Client]:
    client = connect(api, "admin-token")
    yield client
    client.close()


def test_calls_share_one_connection(api: SmallServer, alice: Client) -> None:
    for _ in range(5):
        alice.whoami()
    assert len({one.connection for one in api.calls}) == 1


def test_a_connection_that_the_server_has_closed_is_replaced(api: SmallServer, alice: Client) -> None:
    alice.whoami()
    api.faults.lose_request["whoami"] = 1
    assert alice.whoami().name == "alice"


def test_a_submission_whose_reply_is_lost_is_stored_once(api: SmallServer, alice: Client) -> None:
    api.faults.lose_reply["/jobs"] = 2
    done = alice.submit_spec(JobSpec(argv=("true",)))
    assert done.id == "57"
    assert list(api.world.specs) == ["57"]
    keys = {one.headers["idempotency-key"] for one in api.asked("POST", ".*/jobs")}
    assert len(api.asked("POST", ".*/jobs")) == 3
    assert len(keys) == 1


def test_two_submissions_have_two_keys(api: SmallServer, alice: Client) -> None:
    assert alice.submit_spec(JobSpec(argv=("true",))).id != alice.submit_spec(JobSpec(argv=("true",))).id


def test_a_server_that_is_restarting_is_waited_for(api: SmallServer, alice: Client) -> None:
    api.faults.busy["whoami"] = 3
    assert alice.whoami().name == "alice"
    assert len(api.calls) == 4


def test_patience_ends(api: SmallServer, alice: Client) -> None:
    alice.transport.patience = 0.0
    api.faults.busy["whoami"] = 1
    with pytest.raises(Unavailable, match="the server is stopping"):
        alice.whoami()


def test_a_dead_server_is_named_with_likely_causes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    transport = Transport("127.0.0.1", port, Pin(server="srv-1"), "t")
    transport.patience = 0.0
    with pytest.raises(Unavailable) as caught:
        Client(transport).whoami()
    assert f"127.0.0.1 port {port}" in caught.value.message
    assert "refused" in caught.value.message.lower()
    assert "port" in caught.value.hint


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(Unavailable, match=r"'no-such-host\.invalid'"):
        Client(Transport("no-such-host.invalid", 14807, Pin(server="srv-1"), "t")).whoami()


def test_a_refusal_arrives_as_what_it_is(api: SmallServer, alice: Client, admin: Client) -> None:
    with pytest.raises(Denied, match="not a super user"):
        alice.add_user("bob", "pw")
    with pytest.raises(NotFound, match="nosuch"):
        alice.get_project("nosuch")
    with pytest.raises(Conflict, match="villin"):
        admin.create_project("villin")
    with pytest.raises(NotLoggedIn):
        connect(api, "wrong").whoami()
    with pytest.raises(BadInput, match="no project selected"):
        Client(alice.transport).jobs()


def test_a_login_gives_a_token_that_logout_ends(api: SmallServer) -> None:
    client = connect(api, "")
    assert client.login("alice", "pw1").user == "alice"
    assert client.whoami().name == "alice"
    client.logout()
    with pytest.raises(NotLoggedIn):
        client.whoami()
    client.close()


def test_a_wrong_password_is_tried_once(api: SmallServer) -> None:
    client = connect(api, "")
    with pytest.raises(NotLoggedIn, match="wrong user name or password"):
        client.login("alice", "nope")
    client.close()
    assert len(api.asked("POST", "/login")) == 1


def test_long_lists_are_read_to_the_end(api: SmallServer, alice: Client) -> None:
    api.world.submit("villin", JobSpec(argv=("true",), array=2500), "alice")
    assert len(alice.jobs(limit=10_000)) == 2500
    assert len(alice.jobs(limit=1200)) == 1200
    assert [one.id for one in alice.jobs(limit=2)] == ["57[2499]", "57[2498]"]


def test_names_are_quoted_in_paths(api: SmallServer, alice: Client) -> None:
    api.world.submit("villin", JobSpec(argv=("true",), array=2), "alice")
    found = alice.job("57[1]")
    assert isinstance(found, JobDetail)
    assert found.id == "57[1]"
    assert isinstance(alice.job("57"), ArrayView)
    api.world.add_project("a b/c?d", "alice")
    assert alice.get_project("a b/c?d").name == "a b/c?d"


def test_every_call_of_the_api_has_a_method(api: SmallServer, alice: Client, admin: Client) -> None:
    api.world.submit("villin", JobSpec(argv=("true",)), "alice")
    api.world.start("57")
    assert alice.server_info().name == "lab"
    assert alice.status().workers == 1
    assert [one.name for one in alice.users()] == ["cpc-admin", "alice"]
    admin.add_user("bob", "pw", super_user=False)
    assert admin.change_user("bob", super_user=True).super_user
    admin.delete_user("bob")
    assert alice.change_user("alice", password="pw2", old_password="pw1").name == "alice"
    assert alice.make_token("ci")[0] == "secret-ci"
    assert [one.name for one in alice.tokens()] == ["ci"]
    alice.delete_token("ci")
    alice.create_project("trp-cage")
    assert {one.name for one in alice.projects()} == {"villin", "trp-cage"}
    assert admin.change_project("villin", quota=5).quota == 5
    assert alice.grant("cpc-admin", "viewer").role == "viewer"
    alice.revoke("cpc-admin")
    alice.delete_project("trp-cage")
    assert [one.id for one in alice.all_jobs(states="running")] == ["57"]
    assert alice.heartbeats()[0].job == "57"
    alice.fail_attempt("57")
    alice.prioritise("57", 5)
    assert alice.why("57").reasons[0].kind == "version"
    assert alice.cancel("57", "enough") == 1
    assert alice.retry("57").size == 1
    alice.cancel("57")
    alice.forget("57")
    assert alice.arrays() == []
    assert alice.workers()[0].name == "w1"
    assert admin.drain("w1", "new disk", finish=False).state == "draining"
    assert admin.resume("w1").state == "idle"
    assert admin.worker("w1").name == "w1"
    assert admin.make_bundle("lab", "worker")[1].role == "worker"
    admin.revoke_bundle("lab")
    assert admin.bundles()[0].revoked
    assert [one.kind for one in alice.events()][:1] == ["job.submitted"]
    assert admin.audit() == []
    assert admin.set_setting("heartbeat_time", "60").value == "60"
    assert admin.settings()[0].name == "heartbeat_time"
    admin.reload()
    admin.stop_server()
    assert api.world.stopped


def test_an_answer_of_a_newer_server_is_still_read(
    api: SmallServer, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.world, "users", {"alice": {
        "name": "alice", "super_user": False, "disabled": False, "created": 0, "shoe_size": 43,
    }})  # fmt: skip
    assert alice.whoami().name == "alice"


def test_an_empty_name_is_refused_before_anybody_is_asked(api: SmallServer, alice: Client) -> None:
    """A variable of a script that is empty must not make of `peer $other` a call for something else."""
    asked = len(api.calls)
    for call in (
        alice.peers().get,
        alice.peers().revoke,
        alice.peers().ping,
        alice.peers().drop,
        alice.worker,
        alice.why,
    ):
        with pytest.raises(BadInput, match="an empty name names nothing"):
            call("")
    assert len(api.calls) == asked
