"""Trust that ends while the two servers are not connected: heard on the first contact, by nobody's word but the other's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product

import pytest
from twisted.internet.defer import Deferred

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError, Refused, TrustEndedNow
from cpc.core.peer import Address
from cpc.server.federation.ways import Caller
from cpc.wire.connection import SERVER, Connection, Listener, connect
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import Message
from cpc.wire.peer_messages import Ping, Pong, Withdrawn
from cpc.wire.tls import ClientTls, Refuse, ServerTls
from tests.helpers.members import Member, Members
from tests.helpers.sites import PORT, YEAR, Lab, Site, keys, server_id


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("abc")
    yield made
    made.close()


def both(lab: Members) -> tuple[str, str]:
    return lab["a"].state(lab["b"]), lab["b"].state(lab["a"])


def apart(lab: Members, act: Callable[[], object]) -> None:
    """Do this while a and b do not hear each other; then they do again."""
    lab.network.partition("a", "b")
    act()
    lab.reactor.advance(100)
    lab.network.heal()


# --- it is heard -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hand_back", [False, True], ids=["finish", "hand back"])
@pytest.mark.parametrize("dials", "ab")
def test_who_was_away_hears_of_the_end_when_the_two_meet_whoever_dials(
    lab: Members, dials: str, hand_back: bool
) -> None:
    a, b = lab["a"], lab["b"]
    hidden = lab[dials]
    hidden.calls_itself = "behind-a-firewall"
    hidden.restart()
    lab.befriend("ab" if dials == "a" else "ba")
    apart(lab, lambda: b.revoke(a, hand_back))
    assert both(lab) == ("trusted", "revoked")
    lab.until(lambda: a.state(b) == "withdrawn", 100)
    assert (a.ended, b.ended) == ([("b", hand_back)], [("a", hand_back)])
    shown = a.view(b)
    assert shown is not None
    assert shown.note == "it has ended the trust"
    lab.reactor.advance(200)
    assert both(lab) == ("withdrawn", "revoked")
    happened = len(lab.network.trace)
    lab.reactor.advance(600)
    assert len(lab.network.trace) == happened, "nobody dials any more"


def test_it_is_heard_after_restarts_of_both_too(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]

    def end() -> None:
        b.revoke(a)
        a.restart()
        b.restart()

    apart(lab, end)
    lab.until(lambda: a.state(b) == "withdrawn", 100)
    assert a.ended == [("b", False)]


def test_whose_connections_were_cut_is_not_taken_for_told(lab: Members) -> None:
    """It had come to our door, by a way that is broken, and cannot come again."""
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]

    def end() -> None:
        b.revoke(a)
        lab.finish(b.listener.stop())

    apart(lab, end)
    lab.until(lambda: a.state(b) == "withdrawn", 200)


def test_a_revoked_server_can_do_nothing_but_be_told(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    a.host.kill()
    b.revoke(a)
    host = lab.network.host("a2")
    tls = ClientTls(a.identity, b.authority.certificate_pem, b.id)
    refused = lab.outcome(connect(host.connect("b", PORT), tls, host.reactor, host.clock, greeting=SERVER))
    assert str(refused) == ("its administrator has revoked this server (agree with them; then both say: cpcc trust)")
    assert b.listener.connections == (), "it was never let in"


def test_a_server_that_was_forgotten_is_one_that_nobody_knows(lab: Members) -> None:
    """As the manual says: whoever forgets a server cannot tell it anything."""
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    apart(lab, lambda: (b.revoke(a), b.refuse_server(a)))
    lab.reactor.advance(200)
    assert both(lab) == ("trusted", "")
    shown = a.view(b)
    assert shown is not None
    assert "does not trust this server" in shown.trouble


# --- trust anew -------------------------------------------------------------------------------------------------------------


def agree(one: Member, other: Member, how: str) -> None:
    """What its operator does: by `trust`, or `connect-server` and, when that is refused, `trust`."""
    if one.state(other) not in ("trusted", "sent"):
        done = one.trust(other) if how == "trust" else one.connect_server(other)
        if isinstance(done, Refused):
            done = one.trust(other)
        assert not isinstance(done, CopernicusError), done


def test_trust_is_given_anew_from_either_side_in_every_order(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    lab.befriend("ab")
    ends: dict[str, Callable[[], object]] = {
        "heard": lambda: b.revoke(a),
        "not heard": lambda: apart(lab, lambda: b.revoke(a)),
        "by both": lambda: apart(lab, lambda: (b.revoke(a), a.revoke(b))),
    }
    for end, first, hows in product(ends, "ab", product(("trust", "ask"), repeat=2)):
        ends[end]()
        lab.reactor.advance(0 if end == "not heard" else 5)
        one, other = (a, b) if first == "a" else (b, a)
        agree(one, other, hows[0])
        if end != "not heard":
            lab.reactor.advance(100)
            assert not lab.connected("ab"), (end, first, hows)
        agree(other, one, hows[1])
        lab.reactor.advance(150)
        assert lab.connected("ab"), (end, first, hows, both(lab))


def test_who_has_agreed_anew_waits_and_is_told_nothing_again(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    b.revoke(a)
    lab.until(lambda: a.state(b) == "withdrawn", 5)
    a.trust(b)
    lab.reactor.advance(300)
    assert both(lab) == ("sent", "revoked")
    shown = a.view(b)
    assert shown is not None
    assert "its administrator has revoked this server" in shown.trouble
    assert shown.note == ""
    a.refuse_server(b)
    assert both(lab) == ("", "revoked")


def test_an_end_is_not_said_any_more_when_trust_was_given_anew_while_the_other_was_looked_for(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    lab.befriend("ab")
    looked_for: list[Deferred[None]] = []
    really = b.links._parting._connect

    async def slowly(server: str, address: Address, refuse: Refuse) -> Connection:
        looked_for.append(Deferred())
        await looked_for[-1]
        return await really(server, address, refuse)

    b.links._parting._connect = slowly
    apart(lab, lambda: (b.revoke(a), lab.reactor.advance(5), b.trust(a)))
    lab.until(lambda: lab.connected("ab"), 200)
    looked_for[0].callback(None)
    lab.reactor.advance(100)
    assert both(lab) == ("trusted", "trusted")
    assert lab.connected("ab")


# --- nobody else ends anything --------------------------------------------------------------------------------------------------


class Ends:
    """What a site was told of."""

    def __init__(self, site: Site) -> None:
        self.told: list[str] = []
        self._site = site
        site.links.ended = self._ended

    async def _ended(self, server: str, _said: Withdrawn) -> None:
        self.told.append(self._site.lab.name(server))


def _impostors(lab: Lab) -> dict[str, Identity]:
    forger = Authority.load(*keys("c"), lab["c"].host.clock)
    forger.server_id = lab["b"].id  # its key signs what its certificate may not
    strange = Authority.create(server_id("b"), chance=SeededChance(77))
    return {
        "another peer": lab["c"].identity,
        "a worker of b": lab["b"].issue(Role.WORKER, "w"),
        "a bundle of b": lab["b"].issue(Role.BUNDLE, "w"),
        "in b's name, signed by another peer": forger.identity(Name(server_id("b"), Role.SERVER), YEAR),
        "in b's name, by an authority of its own": strange.identity(Name(server_id("b"), Role.SERVER), YEAR),
    }


def test_who_answers_at_a_peers_address_ends_nothing_unless_it_is_the_peer() -> None:
    lab = Lab("abc")
    a, ends = lab["a"], Ends(lab["a"])
    lab["b"].host.kill()
    for who, identity in {**_impostors(lab), "b": lab["b"].identity}.items():
        said: list[str] = []

        def says(_name: Name, _fingerprint: str, said: list[str] = said) -> TrustEndedNow:
            said.append("it")
            return TrustEndedNow("its administrator has revoked this server")

        lab["b"].host.start()
        host = lab["b"].host
        door = ServerTls(identity, lambda: {a.id: a.authority.certificate_pem}, says)
        listener = Listener(host.reactor, door, lambda _: None, host.clock, greeting=SERVER)
        lab.finish(listener.listen(host.listen(PORT)))
        a.knows(lab["b"])
        lab.reactor.advance(130)
        assert ends.told[:1] == (["b"] if who == "b" else []), who
        assert said or who != "b"
        lab["b"].host.kill()


def test_who_comes_ends_nothing_but_its_own_trust() -> None:
    lab = Lab("abc")
    a, ends = lab["a"], Ends(lab["a"])
    a.knows(lab["b"], address=False)
    a.knows(lab["c"], address=False)

    def say(identity: Identity) -> None:
        host = lab.network.host("x")
        tls = ClientTls(identity, a.authority.certificate_pem, a.id)
        made: list[Connection] = []

        async def talk() -> None:
            made.append(await connect(host.connect("a", PORT), tls, host.reactor, host.clock, greeting=SERVER))
            await made[0].call("withdrawn", Withdrawn(hand_back=True), Message, 5.0)

        with suppress(CopernicusError):
            lab.finish(talk())
        for connection in made:
            connection.close()

    for who, identity in _impostors(lab).items():
        say(identity)
        assert ends.told == (["c"] if who == "another peer" else []), who
        ends.told.clear()
    say(lab["b"].identity)
    assert ends.told == ["b"]


def test_words_of_an_end_that_a_peer_brings_from_elsewhere_end_nothing() -> None:
    """An answer says what it likes: only who refuses the connection itself speaks of the trust between the two."""
    lab = Lab("abc")
    lab.trust("ab", "bc")
    lab.until(lambda: lab.connected("ab") and lab.connected("bc"))
    ends = {name: Ends(site) for name, site in lab.sites.items()}

    async def lies(_caller: Caller, _: Ping) -> Pong:
        raise TrustEndedNow("its administrator has revoked this server")

    for name in "bc":
        lab[name].links.serve("ping", Ping, lies, far=True)
    for route in ("ab", "abc"):
        with pytest.raises(TrustEndedNow):
            lab.finish(lab["a"].links.ask_far(lab.route(route), "ping", Ping(), Pong, 20.0))
    lab.reactor.advance(60)
    assert lab.connected("ab")
    assert [each.told for each in ends.values()] == [[], [], []]
