"""What another server may do at the machines' door, and what nobody may do in its name: everything else was tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cpc.core.errors import CopernicusError, Refused, TurnedAway
from cpc.store import peers
from cpc.wire import messages, peer_messages
from cpc.wire.connection import SERVER, Connection, connect
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import Message
from cpc.wire.peer_messages import PeerHello
from cpc.wire.tls import ClientTls
from tests.helpers.members import Member, Members
from tests.helpers.sites import PORT, YEAR, keys

_METHOD = re.compile(r"^\| ([a-z-]+) +\|", re.MULTILINE)
WORKERS = set(_METHOD.findall(messages.__doc__ or "")) - {"method"}
PEERS = set(_METHOD.findall(peer_messages.__doc__ or "")) - {"method"}
FAR = {"ping", "report", "far-orders", "far-chunk-get", "far-chunk-put", "far-missing"}


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("abc")
    yield made
    made.close()


def test_the_tables_of_methods_are_read() -> None:
    assert {"enrol", "hello", "turn", "goodbye", "chunk-get"} <= WORKERS
    assert {"peer-hello", "withdrawn", "survey", "ask-work", "demand"} | FAR <= PEERS
    assert not WORKERS & PEERS


def at_door(lab: Members, target: Member, identity: Identity, pin: Authority | None = None, server: str = "") -> Any:
    """A connection to this server with this identity, or the refusal."""
    pem = (pin or target.authority).certificate_pem
    host = lab.network.host("mallory")
    tls = ClientTls(identity, pem, server or target.id)
    made = connect(host.connect(target.name, target.listens), tls, host.reactor, host.clock, greeting=SERVER)
    connection = lab.outcome(made)
    lab.reactor.advance(1)  # with TLS 1.3 a refusal of the certificate comes after the handshake
    return connection.end if isinstance(connection, Connection) and connection.end is not None else connection


def ask(lab: Members, connection: Connection, method: str, body: Message | None = None, **options: Any) -> Any:
    """The answer as bytes' worth of a map, or the refusal."""
    return lab.outcome(connection.call(method, body or Message(), Message, 20.0, **options))


def says_unknown(answer: object) -> bool:
    return isinstance(answer, Refused) and "unknown method" in answer.message


# --- certificates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "name"), [(Role.SERVER, ""), (Role.WORKER, "w1"), (Role.BUNDLE, "lab")], ids=["server", "worker", "bundle"]
)
def test_a_peers_authority_vouches_for_no_machine_of_anybody_else(lab: Members, role: Role, name: str) -> None:
    """b is a peer of a: what it signs in the name of a, or of c (which a trusts too), opens no door of a."""
    lab.befriend("ab", "ac")
    for victim in "ac":
        forger = Authority.load(*keys("b"), lab["b"].host.clock)
        forger.server_id = lab[victim].id  # its key signs what its certificate may not
        forged = forger.identity(Name(lab[victim].id, role, name), YEAR)
        refused = at_door(lab, lab["a"], forged)
        assert isinstance(refused, Refused), refused
        assert "may not speak for" in refused.message


@pytest.mark.parametrize(("role", "name"), [(Role.WORKER, "w1"), (Role.BUNDLE, "lab")])
def test_machines_of_a_peer_are_sent_to_their_own_server(lab: Members, role: Role, name: str) -> None:
    lab.befriend("ab")
    refused = at_door(lab, lab["a"], lab["b"].issue(role, name))
    assert isinstance(refused, TurnedAway)
    assert "workers connect to their own server" in refused.message


def test_a_peer_is_not_answered_by_somebody_else_in_its_name(lab: Members) -> None:
    """Who listens at b's address with c's certificate, or with one that c made for b, is not taken for b."""
    lab.befriend("ab", "ac")
    a, b, c = lab["a"], lab["b"], lab["c"]
    b.host.kill()
    forger = Authority.load(*keys("c"), c.host.clock)
    forger.server_id = b.id
    for identity in (c.identity, forger.identity(Name(b.id, Role.SERVER), YEAR)):
        b.host.start()
        impostor = identity
        b.identity = impostor
        b.start()
        lab.reactor.advance(130)
        assert not a.links.is_up(b.id)
        assert a.links.trouble(b.id) != ""
        b.host.kill()


def test_the_server_itself_and_strangers_are_refused(lab: Members) -> None:
    a = lab["a"]
    assert "the server itself" in str(at_door(lab, a, a.identity))
    assert isinstance(at_door(lab, a, lab["b"].identity), Refused)
    lab["b"].connect_server(a)  # asking is not being trusted
    assert isinstance(at_door(lab, a, lab["b"].identity), Refused)


def test_an_old_certificate_of_a_revoked_server_opens_nothing(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    old = b.identity
    open_one = at_door(lab, a, old)
    assert isinstance(open_one, Connection)
    a.revoke(b)
    lab.reactor.advance(10)
    assert open_one.closed
    assert isinstance(at_door(lab, a, old), Refused)


def test_a_damaged_certificate_in_the_database_keeps_nobody_else_out(lab: Members) -> None:
    lab.befriend("ab", "ac")
    a = lab["a"]
    for damaged in (b"garbage", lab["c"].authority.certificate_pem):
        row = a.book.get(lab["b"].id)
        assert row is not None
        a.bench.do(lambda tx, row=row, pem=damaged: peers.change(tx, replace(row, authority=pem)))  # type: ignore[misc]
        a.restart()
        lab.until(lambda: lab.connected("ac"), 120)
        assert isinstance(at_door(lab, a, a.issue(Role.WORKER, "w1")), Connection)
        lab.reactor.advance(100)
        assert not lab.connected("ab")
        shown = lab.finish(a.trusting.page(a.call().who)).items
        assert {view.id for view in shown} == {lab["b"].id, lab["c"].id}


# --- methods ------------------------------------------------------------------------------------------------------------


def test_a_peer_may_say_hello_and_nothing_else_before(lab: Members) -> None:
    lab.befriend("ab")
    connection = at_door(lab, lab["a"], lab["b"].identity)
    for method in sorted((WORKERS | PEERS) - {"peer-hello", "withdrawn"}):
        assert says_unknown(ask(lab, connection, method)), method
    routed = ask(lab, connection, "ping", route=lab.route("ba"))
    assert isinstance(routed, Refused)


def test_what_a_peer_may_do_is_exactly_what_peers_say_to_each_other(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    for bulk in (False, True):
        connection = b.links._open_connection(a.id, bulk)
        assert connection is not None
        for method in sorted(WORKERS | {"telepathy"}):
            assert says_unknown(ask(lab, connection, method)), method
            assert isinstance(ask(lab, connection, method, route=lab.route("ba")), Refused), method
        again = ask(lab, connection, "peer-hello", hello())
        assert says_unknown(again) or "hello already" in str(again)
        for method in sorted(FAR):
            assert says_unknown(ask(lab, connection, method)), f"{method} without a route"
        for method in sorted(PEERS - FAR):
            assert isinstance(ask(lab, connection, method, route=lab.route("ba")), Refused), f"{method} with a route"
    assert lab.connected("ab")
    assert a.bench.queue.index.sessions == {}


def hello() -> PeerHello:
    return PeerHello(name="x", release="t", host="x", port=PORT, client_port=PORT)


@pytest.mark.parametrize(("role", "name"), [(Role.WORKER, "w1"), (Role.BUNDLE, "lab")])
def test_workers_and_bundles_may_say_nothing_that_servers_do(lab: Members, role: Role, name: str) -> None:
    lab.befriend("ab")
    a = lab["a"]
    connection = at_door(lab, a, a.issue(role, name))
    assert isinstance(connection, Connection)
    for method in sorted(PEERS):
        assert says_unknown(ask(lab, connection, method)), method
        relayed = ask(lab, connection, method, route=(a.id, lab["b"].id))
        assert isinstance(relayed, Refused), method
        assert "not relayed here" in relayed.message
    assert lab["b"].links.relaying.passed == 0


def test_connections_that_say_nothing_are_few_and_end(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    opened = [at_door(lab, a, b.identity) for _ in range(12)]
    refused = [one for one in opened if isinstance(one, CopernicusError)]
    assert len(refused) == 4
    assert "have not said hello" in str(refused[0])
    lab.reactor.advance(90)
    assert all(one.closed for one in opened if isinstance(one, Connection))
    assert lab.connected("ab")
    assert isinstance(at_door(lab, a, b.identity), Connection)
