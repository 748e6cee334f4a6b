"""Who is let in: the production TLS over the network in memory, on virtual time."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from cpc.core.clock import SECOND
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused, TurnedAway, Unavailable
from cpc.wire import identity
from cpc.wire.connection import Connection, connect
from cpc.wire.frames import Greeting
from cpc.wire.identity import Identity, Name, Role
from cpc.wire.messages import Enrol, Enrolled, Goodbye, Message
from cpc.wire.negotiation import NoCommonProtocol
from cpc.wire.tls import ClientTls, PeopleTls, ServerTls
from tests.helpers.wires import HERE, PORT, YEAR, Wires
from tests.simulation.link import Side

HOUR = 3600 * SECOND


def test_each_side_knows_who_the_other_is() -> None:
    wires = Wires()
    wires.listen()
    worker = wires.worker("w1")
    connection = wires.connect(worker)
    (taken,) = wires.taken
    assert connection.peer == Name(HERE, Role.SERVER)
    assert taken.peer == Name(HERE, Role.WORKER, "w1")
    assert taken.peer_fingerprint == worker.fingerprint
    assert taken.peer_not_after == worker.not_after
    assert (connection.protocol, taken.protocol) == (1, 1)
    assert connection.release == taken.release != ""
    assert connection.remote == f"s:{PORT}" == taken.local


def test_a_pinned_peer_server_may_connect_and_is_called_by_its_own_id() -> None:
    wires = Wires()
    wires.pinned["server-b"] = wires.other.certificate_pem
    wires.listen()
    wires.connect(wires.other.identity(Name("server-b", Role.SERVER), YEAR))
    assert wires.taken[0].peer == Name("server-b", Role.SERVER)


def refused(
    wires: Wires, says: str, who: Identity | None = None, server: str = HERE, kind: type[Refused] = Refused
) -> None:  # fmt: skip
    """The connection is refused in these words, and the server has not let anybody in."""
    before = len(wires.taken)
    with pytest.raises(Refused, match=re.escape(says)) as raised:
        wires.connect(who, server=server)
    assert raised.type is kind
    wires.reactor.advance(60)
    assert len(wires.taken) == before
    assert wires.network.links == ()


def test_an_authority_that_is_not_pinned_is_refused_and_trust_can_be_withdrawn() -> None:
    wires = Wires()
    wires.listen()
    stranger = wires.other.identity(Name("server-b", Role.WORKER, "w"), YEAR)
    refused(wires, "does not know the authority", stranger)
    wires.pinned["server-b"] = wires.other.certificate_pem
    wires.connect(stranger).close()
    wires.reactor.advance(60)
    del wires.pinned["server-b"]
    refused(wires, "does not know the authority", stranger)


def test_an_authority_vouches_for_its_own_id_and_nothing_else() -> None:
    """Server B is trusted; its authority signs a certificate that says it is a machine of A."""
    wires = Wires()
    wires.pinned["server-b"] = wires.other.certificate_pem
    wires.listen()
    wires.other.server_id = HERE  # what a hostile server would do to its own issuing
    for name in (Name(HERE, Role.SERVER), Name(HERE, Role.WORKER, "w1")):
        refused(wires, "may not speak for server server-a", wires.other.identity(name, YEAR))


def test_a_machine_of_a_third_server_is_not_vouched_for_by_a_peer() -> None:
    wires = Wires()
    wires.pinned["server-b"] = wires.other.certificate_pem
    wires.listen()
    wires.other.server_id = "server-c"
    refused(wires, "may not speak for server server-c", wires.other.identity(Name("server-c", Role.WORKER, "w"), YEAR))


def test_a_peer_may_not_make_authorities_below_its_own() -> None:
    """A worker's key signs a certificate for somebody else."""
    wires = Wires()
    wires.listen()
    worker = wires.worker()
    forger = identity.Authority.load(wires.authority.key_pem, wires.authority.certificate_pem, wires.s.clock)
    forger._key = identity._read_key(worker.key_pem)
    refused(wires, "our certificate", forger.identity(Name(HERE, Role.WORKER, "w2"), YEAR))


def test_a_worker_certificate_is_not_taken_for_a_server() -> None:
    wires = Wires()
    for claimed in (wires.worker(), wires.authority.identity(Name(HERE, Role.BUNDLE, "b"), YEAR)):
        wires.server_tls.renew(claimed)
        wires.listen()
        refused(wires, "not the server in the bundle")
        wires.s.kill()
        wires.s.start()


def test_a_worker_whose_certificate_would_do_for_tls_is_still_no_server() -> None:
    """The same with a certificate that has the TLS purpose: the role in the URI decides."""
    wires = Wires()
    name = Name(HERE, Role.SERVER)
    certificate = wires.authority.issue(identity.public_of(wires.worker().key_pem), name, YEAR)
    assert identity.name_of(identity.read_certificate(certificate)) == name
    tls = ClientTls(wires.worker(), wires.authority.certificate_pem, HERE)
    tls.wants_roles = frozenset((Role.WORKER,))  # the other way round: a server where a worker is wanted
    wires.listen()
    with pytest.raises(Refused, match="has the role of a server; that of a worker is needed"):
        wires.reactor.finish(connect(wires.w.connect("s", PORT), tls, wires.w.reactor, wires.w.clock))


def test_another_server_at_the_address_is_not_the_one_in_the_bundle() -> None:
    wires = Wires()
    wires.listen()
    with pytest.raises(Refused, match="not the server in the bundle"):
        wires.connect(authority=wires.other.certificate_pem, server="server-b")
    with pytest.raises(Refused, match="cannot be pinned for server server-b"):
        wires.connect(server="server-b")


def test_nobody_comes_in_without_a_certificate() -> None:
    wires = Wires()
    wires.listen()
    tls = ClientTls(None, wires.authority.certificate_pem, HERE)
    with pytest.raises(Refused, match="asks for a certificate"):
        wires.reactor.finish(connect(wires.w.connect("s", PORT), tls, wires.w.reactor, wires.w.clock))
    wires.reactor.advance(60)
    assert wires.taken == []


def test_dates_are_checked_by_the_clock_that_was_handed_in() -> None:
    wires = Wires()
    wires.listen()
    worker = wires.worker(valid_for=3600.0)
    wires.s.clock.offset = HOUR + 4 * 60 * SECOND  # within the slack of 5 minutes
    wires.connect(worker).close()
    wires.s.clock.offset = HOUR + 6 * 60 * SECOND
    refused(wires, "expired on", worker, kind=TurnedAway)
    wires.s.clock.offset = -HOUR
    refused(wires, "is not valid yet", worker)
    wires.s.clock.offset = 0
    wires.w.clock.offset = int(2 * YEAR) * SECOND
    with pytest.raises(Refused, match=r"certificate of cpc://server-a/server expired") as raised:
        wires.connect(worker)
    assert raised.type is Refused  # a server renews its own


def test_a_revoked_identity_is_told_why_and_others_come_in() -> None:
    revoked: dict[str, str] = {}
    wires = Wires(refuse=lambda name, fingerprint: revoked.get(fingerprint))
    wires.listen()
    worker, other = wires.worker("w1"), wires.worker("w2")
    wires.connect(worker).close()
    revoked[worker.fingerprint] = "revoked by anna"
    refused(wires, "cpc://server-a/worker/w1 is refused: revoked by anna", worker, kind=TurnedAway)
    assert wires.connect(other).peer is not None


def test_a_server_shows_its_renewed_certificate_to_the_next_connection() -> None:
    wires = Wires()
    wires.listen()
    first = wires.connect()
    wires.s.clock.offset = wires.w.clock.offset = 30 * 24 * HOUR
    renewed = wires.authority.identity(Name(HERE, Role.SERVER), YEAR)
    wires.server_tls.renew(renewed)
    second = wires.connect()
    assert second.peer_not_after == renewed.not_after > first.peer_not_after
    assert not first.closed


# --- versions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "speaks", "upgrade"),
    [(Greeting(3, 1, "3.0"), "1 to 3", "this worker"), (Greeting(7, 7, "11.0"), "7", "the server"),
     (Greeting(0, 0, "0.9"), "0", "this worker")],
)  # fmt: skip
def test_versions_without_overlap_are_refused_in_words_on_both_sides(
    theirs: Greeting, speaks: str, upgrade: str
) -> None:
    wires = Wires()
    heard: list[CopernicusError] = []
    refuse = Connection.refuse

    def note(self: Connection, error: CopernicusError | None) -> None:
        if error is not None and isinstance(self._security, ServerTls):
            heard.append(error)
        refuse(self, error)

    wires.listen(greeting=Greeting(5, 4, "9.0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "refuse", note)
        with pytest.raises(NoCommonProtocol, match="no common protocol") as caught:
            wires.connect(greeting=theirs)
        wires.reactor.advance(60)
    assert caught.value.hint == f"upgrade {upgrade}"
    assert f"this worker has release {theirs.release} and speaks {speaks}, " in caught.value.message
    assert "the server has release 9.0 and speaks 4 to 5" in caught.value.message
    (told,) = heard
    assert f"worker w1 has release {theirs.release} and speaks {speaks}" in told.message
    assert told.hint == f"upgrade {upgrade}".replace("this worker", "worker w1")
    assert wires.taken == []


@pytest.mark.parametrize(("newest", "oldest", "agreed"), [(5, 4, 5), (4, 1, 4), (9, 5, 5)])
def test_the_newest_common_protocol_is_spoken(newest: int, oldest: int, agreed: int) -> None:
    wires = Wires()
    wires.listen(greeting=Greeting(5, 4, "9.0"))
    assert wires.connect(greeting=Greeting(newest, oldest, "x")).protocol == agreed
    assert wires.taken[0].protocol == agreed


# --- strangers ------------------------------------------------------------------------------------------------------------


class Raw(Protocol):
    """Writes what it likes, and remembers how it ended."""

    def __init__(self) -> None:
        self.ended: Deferred[object] = Deferred()
        self.heard = b""

    def say(self, data: bytes) -> None:
        assert isinstance(self.transport, Side | TLSMemoryBIOProtocol)
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended.callback(reason.value)


class RawFactory(Factory):
    noisy = False
    protocol = Raw


def raw(wires: Wires, secure: bool, who: Identity | None = None) -> Raw:
    """A bare connection to the server, with or without TLS."""
    factory: object = RawFactory()
    if secure:
        tls = ClientTls(who or wires.worker(), wires.authority.certificate_pem, HERE)
        factory = TLSMemoryBIOFactory(tls, True, factory, wires.w.reactor)  # type: ignore[arg-type]
    made = wires.reactor.finish(wires.w.connect("s", PORT).connect(factory))
    talker: Raw = made.wrappedProtocol if secure else made
    wires.reactor.advance(1)
    return talker


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01"]
)
def test_garbage_instead_of_tls_is_dropped(garbage: bytes) -> None:
    wires = Wires()
    wires.listen()
    talker = raw(wires, secure=False)
    talker.say(garbage)
    wires.reactor.advance(21)
    assert talker.ended.called
    assert wires.taken == []
    assert wires.connect().peer is not None


def test_a_stranger_that_says_nothing_or_little_by_little_is_dropped() -> None:
    wires = Wires()
    wires.listen()
    silent, secured = raw(wires, secure=False), raw(wires, secure=True)
    slow = raw(wires, secure=True)
    for _ in range(100):  # slow loris: a byte now and then of a greeting that never ends
        if not slow.ended.called:
            slow.say(b"\0")
        wires.reactor.advance(0.3)
    assert silent.ended.called
    assert secured.ended.called
    assert slow.ended.called
    assert wires.taken == []
    assert wires.network.links == ()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (struct.pack(">I", 1 << 20), b"limit is 16384"),
        (struct.pack(">I", 0xFFFFFFFF), b"limit is 16384"),
        (struct.pack(">I", 3) + b"\x81\xa1p", b"not a frame"),
        (struct.pack(">I", 6000) + b"\x81\xa1x" + b"\x91" * 5996 + b"\x01", b"not a frame"),
        (struct.pack(">I", 4) + b"\x81\xa1m\xa0", b"not a frame"),
        (struct.pack(">I", 6) + b"\x81\xa1m\xa2hi", b"first frame is a greeting"),
    ],
)
def test_what_is_not_a_greeting_is_refused_in_words(said: bytes, says: bytes) -> None:
    wires = Wires()
    wires.listen()
    talker = raw(wires, secure=True)
    talker.say(said)
    wires.reactor.advance(1)
    assert says in talker.heard
    assert talker.ended.called
    assert wires.taken == []


def test_strangers_beyond_the_limit_are_turned_away_and_known_machines_stay() -> None:
    wires = Wires()
    wires.listen(max_strangers=3)
    known = wires.connect()
    waiting = [raw(wires, secure=False) for _ in range(3)]
    with pytest.raises(Unavailable):
        wires.connect()
    assert not known.closed
    wires.reactor.advance(20)
    assert all(talker.ended.called for talker in waiting)
    assert wires.connect().peer is not None


def test_a_bundle_gets_small_frames_only() -> None:
    wires = Wires()

    async def enrol(_: Connection, asked: Enrol) -> Message:
        return Enrolled(certificate=asked.request, name="w", valid_for=1.0)

    wires.on_connection = lambda connection: connection.serve("enrol", Enrol, enrol)
    wires.listen()
    connection = wires.connect(wires.authority.identity(Name(HERE, Role.BUNDLE, "b"), YEAR))
    small = wires.reactor.finish(connection.call("enrol", Enrol(request=b"x" * 10_000), Enrolled))
    assert len(small.certificate) == 10_000
    with pytest.raises(Refused, match="the limit is 262144"):
        wires.reactor.finish(connection.call("enrol", Enrol(request=b"x" * 300_000), Enrolled))
    assert connection.closed


def test_a_connection_on_which_nothing_is_heard_is_dropped() -> None:
    wires = Wires()
    wires.listen(idle=100.0)
    connection = wires.connect()
    ends: list[str] = []
    connection.on_closed(ends.append)
    for _ in range(5):
        wires.reactor.advance(80)
        connection.tell("goodbye", Goodbye())
    assert ends == []
    wires.reactor.advance(105)
    assert ends == ["nothing was heard for 100 s"]
    assert wires.listener is not None
    assert wires.listener.connections == ()


def test_a_listener_that_stops_tells_why() -> None:
    wires = Wires()
    listener = wires.listen()
    connection = wires.connect()
    ends: list[str] = []
    connection.on_closed(ends.append)
    wires.reactor.finish(listener.stop("the server is restarting"))
    wires.reactor.advance(1)
    assert ends == ["the server is restarting"]
    with pytest.raises(Unavailable, match="nothing listens there"):
        wires.connect()


# --- the people's door ----------------------------------------------------------------------------------------------------


def names_shown(tls: PeopleTls) -> str:
    """The common name of the certificate that the next connection would see."""
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client.set_alpn_protos([b"h2", b"http/1.1"])
    client.set_connect_state()
    server = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(1 << 16))
    assert client.get_alpn_proto_negotiated() == b"http/1.1"
    shown = client.get_peer_certificate(as_cryptography=True)
    assert shown is not None
    return shown.subject.rfc4514_string()


def test_a_site_certificate_is_exchanged_without_a_restart(tmp_path: Path) -> None:
    wires = Wires()
    own = wires.authority.identity(Name(HERE, Role.SERVER), YEAR)
    assert names_shown(PeopleTls(own)) == f"CN=server {HERE}"
    crt, key = tmp_path / "site.crt", tmp_path / "site.key"
    first, second = wires.worker("first"), wires.worker("second", valid_for=YEAR / 2)
    crt.write_bytes(first.certificate_pem)
    key.write_bytes(first.key_pem)
    tls = PeopleTls(own, crt, key)
    assert names_shown(tls) == "CN=first"
    assert tls.not_after == first.not_after
    crt.write_bytes(second.certificate_pem)
    with pytest.raises(BadInput, match=r"site\.crt"):
        tls.reload()
    assert names_shown(tls) == "CN=first"
    assert tls.not_after == first.not_after
    key.write_bytes(second.key_pem)
    tls.reload()
    assert names_shown(tls) == "CN=second"
    assert tls.not_after == second.not_after
    crt.unlink()
    with pytest.raises(BadInput, match=r"site\.crt"):
        tls.reload()
    assert names_shown(tls) == "CN=second"


def test_half_a_site_certificate_is_bad_input(tmp_path: Path) -> None:
    own = Wires().worker()
    with pytest.raises(BadInput, match="needs both files"):
        PeopleTls(own, tmp_path / "site.crt", None)


def test_a_key_that_does_not_fit_is_damage() -> None:
    wires = Wires()
    mixed = Identity(wires.worker().name, wires.worker().key_pem, wires.worker().certificate_pem, b"")
    with pytest.raises(Damaged, match="do not go together"):
        ClientTls(mixed, wires.authority.certificate_pem, HERE)
    with pytest.raises(Refused, match="cannot be pinned"):
        ServerTls(wires.worker(), lambda: {"server-b": wires.authority.certificate_pem}).serverConnectionForTLS(
            None  # type: ignore[arg-type]
        )
