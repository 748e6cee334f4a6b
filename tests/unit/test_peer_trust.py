"""Trust between servers: asked for, given, taken back, with everything between the operators' words and the links real."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec
import pytest

from cpc.core.chance import SeededChance
from cpc.core.clock import DAY
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound, RateLimited, Refused, Unavailable
from cpc.core.peer import Agreement, Limits, PeerState
from cpc.core.peer_views import PeerRequest
from cpc.server.federation import peering, requests
from cpc.server.federation.book import NOTHING
from cpc.server.federation.peering import Event
from cpc.store import peers, projects
from cpc.wire.identity import Authority
from tests.helpers.members import Member, Members
from tests.helpers.sites import server_id


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("abc")
    yield made
    made.close()


def both(lab: Members, pair: str) -> tuple[str, str]:
    return lab[pair[0]].state(lab[pair[1]]), lab[pair[1]].state(lab[pair[0]])


def test_a_request_and_the_other_sides_trust_connect_two_servers(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    for _ in range(2):
        a.connect_server(b)
        lab.reactor.advance(30)
        assert both(lab, "ab") == ("sent", "received")
        assert a.links.up() == b.links.up() == ()
    shown = b.view(a)
    assert shown is not None
    assert (shown.name, shown.fingerprint, shown.origin) == ("a", a.authority.fingerprint, "10.0.0.97")
    b.trust(a)
    lab.until(lambda: lab.connected("ab"), 120)
    assert both(lab, "ab") == ("trusted", "trusted")
    assert len(lab.finish(a.trusting.page(a.call().who)).items) == 1
    again = a.connect_server(b)
    assert isinstance(again, Conflict)
    assert "b (bbbbbbbb) is trusted already" in str(again)


def test_two_servers_that_ask_each_other_need_no_further_word(lab: Members) -> None:
    lab["a"].connect_server(lab["b"])
    lab["b"].connect_server(lab["a"])
    lab.until(lambda: lab.connected("ab"), 120)
    assert both(lab, "ab") == ("trusted", "trusted")


def test_asking_oneself_or_nobody_is_said(lab: Members) -> None:
    a = lab["a"]
    itself = a.connect_server(a)
    assert isinstance(itself, BadInput)
    assert "this server itself" in str(itself)
    assert isinstance(a.connect_server(lab["b"], host="nowhere"), Unavailable)
    assert isinstance(a.connect_server(lab["b"], host="no where"), BadInput)
    assert a.view(lab["b"]) is None


def test_the_side_that_cannot_be_reached_dials(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    a.calls_itself = "behind-a-firewall"
    a.restart()
    lab.befriend("ab")
    assert both(lab, "ab") == ("trusted", "trusted")
    for end in (a, b):
        end.restart()
        lab.until(lambda: lab.connected("ab"), 120)


def test_an_address_that_works_stays_whatever_the_server_calls_itself(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    b.calls_itself = "its-own-idea"
    b.restart()
    lab.befriend("ab")
    lab.network.partition("a", "b")
    lab.reactor.advance(100)
    lab.network.heal()
    lab.until(lambda: lab.connected("ab"), 120)
    shown = a.view(b)
    assert shown is not None
    assert [address.host for address in shown.addresses] == ["b", "its-own-idea"]


def test_a_changed_port_is_announced_and_adopted_once_it_was_verified(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]

    def ports() -> list[int]:
        shown = a.view(b)
        assert shown is not None
        return [address.port for address in shown.addresses]

    assert ports() == [13807]
    b.listens = 23807
    b.restart()
    lab.until(lambda: lab.connected("ab"), 120)
    assert ports() == [13807, 23807]
    a.restart()
    lab.until(lambda: lab.connected("ab"), 120)
    assert ports() == [23807, 13807]


def test_an_address_where_somebody_else_answers_is_not_adopted(lab: Members) -> None:
    """b says that it is at c's address, and is not reached any more where it was."""
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    b.calls_itself = "c"
    b.restart()
    lab.until(lambda: lab.connected("ab"), 120)
    b.host.kill()
    lab.until(lambda: "c port 13807: another server answers there" in a.links.trouble(b.id), 300)
    shown = a.view(b)
    assert shown is not None
    assert not shown.connected
    assert [address.host for address in shown.addresses] == ["b", "c"]
    b.restart()
    lab.until(lambda: lab.connected("ab"), 300)


def test_revoking_ends_it_at_once_on_both_sides(lab: Members) -> None:
    lab.befriend("ab", "bc")
    a, b = lab["a"], lab["b"]
    b.revoke(a, hand_back=True)
    lab.until(lambda: a.state(b) == "withdrawn", 5)
    assert both(lab, "ab") == ("withdrawn", "revoked")
    assert (a.ended, b.ended) == ([("b", True)], [("a", True)])
    assert (a.changes[-1], b.changes[-1]) == (("b", False), ("a", False))
    assert a.links.agreement(b.id) == b.links.agreement(a.id) == NOTHING
    shown = a.view(b)
    assert shown is not None
    assert "has ended the trust" in shown.note
    lab.reactor.advance(6)
    assert not [link for link in lab.network.links if set(link.hosts) == {"a", "b"}]
    lab.reactor.advance(200)
    assert lab.connected("bc")
    assert not lab.connected("ab")


def test_trust_outlives_a_restart_and_so_does_its_end(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    a.restart()
    b.restart()
    lab.until(lambda: lab.connected("ab"), 120)
    b.revoke(a)
    lab.reactor.advance(10)
    a.restart()
    b.restart()
    lab.reactor.advance(100)
    assert both(lab, "ab") == ("withdrawn", "revoked")
    assert a.links.up() == b.links.up() == ()


def test_a_request_can_be_taken_back_and_refused(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    a.connect_server(b)
    a.refuse_server(b)
    lab.reactor.advance(10)
    assert both(lab, "ab") == ("", "")
    a.connect_server(b)
    b.refuse_server(a)
    assert both(lab, "ab") == ("sent", "")
    a.connect_server(b)
    b.revoke(a)
    assert isinstance(a.connect_server(b), Refused)
    assert both(lab, "ab") == ("sent", "revoked")
    b.refuse_server(a)
    a.connect_server(b)
    assert both(lab, "ab") == ("sent", "received")


def test_what_cannot_be_done_in_a_state_is_refused(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    assert isinstance(a.trust(b), NotFound)
    assert isinstance(a.revoke(b), NotFound)
    assert isinstance(a.refuse_server(b), NotFound)
    a.connect_server(b)
    early = a.trust(b)
    assert isinstance(early, Conflict)
    assert "has not trusted this server yet" in str(early)
    wrong = lab.outcome(b.trusting.trust(b.call(), a.id, b.authority.fingerprint))
    assert isinstance(wrong, Conflict)
    assert both(lab, "ab") == ("sent", "received")
    b.trust(a)
    assert isinstance(b.refuse_server(a), Conflict)
    b.trust(a)
    assert b.state(a) == "trusted"


def test_the_table_has_an_answer_to_everything() -> None:
    for state in (None, *PeerState):
        for event in Event:
            if peering.can(state, event):
                after, effects = peering.after(state, event)
                assert (after is None) is (peering.Effect.FORGET in effects)
                assert (peering.Effect.CUT in effects) is (state is PeerState.TRUSTED and peering.ended(after))
                assert (peering.Effect.DIAL in effects) <= peering.pinned(after)
    assert not peering.can(PeerState.REVOKED, Event.MET)
    assert not peering.can(PeerState.RECEIVED, Event.MET)
    assert not peering.can(PeerState.REVOKED, Event.REQUESTED)
    for agreed in (PeerState.SENT, PeerState.RECEIVED, PeerState.REVOKED):  # who has agreed anew hears of no former end
        assert not peering.can(agreed, Event.WITHDREW)


def test_who_is_asked_first_can_be_changed(lab: Members) -> None:
    lab.befriend("ab")
    lab.befriend("ac")
    a = lab["a"]
    assert [lab.name(peer) for peer in a.links.up()] == ["b", "c"]
    lab.finish(a.trusting.change(a.call(), "c", priority=0))
    assert [lab.name(peer) for peer in a.links.up()] == ["c", "b"]
    lab.finish(a.trusting.change(a.call(), lab["c"].id[:6], priority=99))
    assert [lab.name(peer) for peer in a.links.up()] == ["b", "c"]
    assert [row.priority for row in a.bench.do(peers.every)] == [0, 1]


def test_servers_may_have_the_same_priority_and_a_new_one_comes_after_all() -> None:
    lab = Members("abcdef")

    def order() -> dict[str, int]:
        return {row.name: row.priority for row in a.bench.do(peers.every) if row.state is PeerState.TRUSTED}

    for other in "bcde":
        lab.befriend("a" + other)
    a = lab["a"]
    lab.finish(a.trusting.change(a.call(), "d", priority=1, share=True))
    assert order() == {"b": 0, "c": 1, "d": 1, "e": 2}
    lab.finish(a.trusting.change(a.call(), "b", priority=1))
    assert order() == {"c": 0, "d": 0, "b": 1, "e": 2}, "those that share stay together"
    lab.finish(a.trusting.change(a.call(), "e", priority=0, share=True))
    assert order() == {"c": 0, "d": 0, "e": 0, "b": 1}
    lab.finish(a.trusting.change(a.call(), "d", priority=99, share=True))
    assert order() == {"c": 0, "e": 0, "b": 1, "d": 2}
    lab.finish(a.trusting.revoke(a.call(), "c", False))
    lab.befriend("af")
    assert order() == {"e": 0, "b": 1, "d": 2, "f": 3}, "shares with nobody unless somebody has said so"
    lab.close()


def test_limits_are_kept_and_told(lab: Members) -> None:
    lab.befriend("ab", "ac")
    a, b, c = lab["a"], lab["b"], lab["c"]
    told: list[str] = []
    a.trusting.on_agreed.append(told.append)
    far = server_id("f")
    agreed = Agreement(lent=Limits(cores=4), accepted=Limits(off=True, projects=("p",)), lend_on=2, denied=(far, c.id))
    named = msgspec.structs.replace(agreed, denied=(far, "c", c.id[:5]))
    lab.finish(a.trusting.change(a.call(), "b", agreement=named))
    assert a.links.agreement(b.id) == agreed
    assert told == [b.id]
    a.restart()
    assert a.links.agreement(b.id) == agreed
    for wrong in (
        Agreement(lend_on=17),
        Agreement(lent=Limits(cores=-1)),
        Agreement(denied=("",)),
        Agreement(denied=("x",)),
        Agreement(denied=(b.id,)),  # nothing at all could pass
        Agreement(denied=(a.id,)),
    ):
        assert isinstance(lab.outcome(a.trusting.change(a.call(), "b", agreement=wrong)), BadInput)


def test_a_misspelt_project_is_no_limit_that_holds_silently(lab: Members) -> None:
    lab.befriend("ab")
    a = lab["a"]
    limited = Agreement(accepted=Limits(projects=("p", "water")))
    refused = lab.outcome(a.trusting.change(a.call(), "b", agreement=limited))
    assert str(refused) == "there is no project 'water' (see `cpcc projects`)"
    water = a.bench.do(lambda tx: projects.add(tx, "water", 1, 0, 1.0))
    lab.finish(a.trusting.change(a.call(), "b", agreement=limited))
    a.bench.do(lambda tx: projects.delete(tx, water.id))
    for agreed in (msgspec.structs.replace(limited, lend_on=1), limited):  # what was set once does not stand in the way
        assert lab.finish(a.trusting.change(a.call(), "b", agreement=agreed)).agreement == agreed


def test_who_asks_a_trusted_server_that_is_away_hears_what_to_do_if_it_has_ended_the_trust(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]
    assert "cpcc revoke" not in str(a.connect_server(b))
    a.links.cut(b.id, Unavailable("cut"))
    assert f"if it knows this server no more: cpcc revoke {b.id}, and ask it again" in str(a.connect_server(b))


# --- requests of strangers ----------------------------------------------------------------------------------------------


def sign(authority: Authority, request: PeerRequest) -> PeerRequest:
    signature = base64.b64encode(authority.sign(request.signed)).decode()
    return msgspec.structs.replace(request, signature=signature)


def request_of(authority: Authority, to: Member, **changes: object) -> PeerRequest:
    plain = PeerRequest(
        to=to.id, authority=authority.certificate_pem.decode(), name="x", release="3", host="x", port=1, client_port=2,
        word=to.federation.requests.word(),
    )  # fmt: skip
    return sign(authority, msgspec.structs.replace(plain, **changes))


def take(lab: Members, to: Member, request: PeerRequest, address: str = "10.1.1.1") -> object:
    return lab.outcome(to.federation.requests.take(request, address))


def test_nobody_can_ask_in_the_name_of_another(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    mallory = Authority.create("mallory", chance=SeededChance(1))
    real = request_of(a.authority, b)
    assert isinstance(take(lab, b, msgspec.structs.replace(real, host="mallory")), Refused)
    assert isinstance(take(lab, b, msgspec.structs.replace(real, signature="")), Refused)
    assert isinstance(take(lab, b, msgspec.structs.replace(real, signature="!")), Refused)
    stolen = sign(mallory, msgspec.structs.replace(real, signature=""))
    assert isinstance(take(lab, b, stolen), Refused)
    assert isinstance(take(lab, b, request_of(a.authority, lab["c"])), Refused)  # meant for another server
    assert isinstance(take(lab, b, request_of(b.authority, b)), BadInput)
    for pem in ("", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "A" * 20_000):
        assert isinstance(take(lab, b, msgspec.structs.replace(real, authority=pem)), CopernicusError)
    leaf = a.identity.certificate_pem.decode()
    assert isinstance(take(lab, b, msgspec.structs.replace(real, authority=leaf)), CopernicusError)
    assert b.state(a) == ""


def test_an_id_that_somebody_else_has_asked_under_is_not_taken_over(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    false_a = Authority.create(server_id("a"), chance=SeededChance(99))
    take(lab, b, request_of(false_a, b))
    assert b.state(a) == "received"
    refused = a.connect_server(b)
    assert isinstance(refused, Conflict)
    assert "another server has asked here under the id" in str(refused)
    assert isinstance(b.trust(a), Conflict)  # it is not the fingerprint that was compared
    b.refuse_server(a)
    a.connect_server(b)
    b.trust(a)
    lab.until(lambda: lab.connected("ab"), 120)
    assert isinstance(take(lab, b, request_of(false_a, b)), Conflict)
    assert isinstance(take(lab, b, request_of(false_a, b, withdrawn=True)), Conflict)
    assert lab.connected("ab")


def test_one_address_does_not_fill_the_list_of_requests(lab: Members) -> None:
    b = lab["b"]
    count = requests.MAX_OF_ADDRESS
    strangers = [Authority.create(f"s{number}", chance=SeededChance(number)) for number in range(count + 2)]
    for number, stranger in enumerate(strangers[:count]):
        assert not isinstance(take(lab, b, request_of(stranger, b), f"2001:db8::{number}"), CopernicusError)
    refused = take(lab, b, request_of(strangers[count], b), "2001:db8::ffff")
    assert isinstance(refused, RateLimited)
    assert "from this address" in refused.message
    assert not isinstance(take(lab, b, request_of(strangers[0], b), "2001:db8::1"), CopernicusError)  # it has a place
    assert not isinstance(take(lab, b, request_of(strangers[count + 1], b), "2001:db8:0:1::1"), CopernicusError)
    take(lab, b, request_of(strangers[0], b, withdrawn=True), "2001:db8::1")
    assert not isinstance(take(lab, b, request_of(strangers[count], b), "2001:db8::ffff"), CopernicusError)


def test_requests_are_few_and_rare(lab: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    b = lab["b"]
    monkeypatch.setattr(requests, "MAX_WAITING", 5)
    strangers = [Authority.create(f"s{number}", chance=SeededChance(number)) for number in range(7)]
    for number, stranger in enumerate(strangers[:5]):
        take(lab, b, request_of(stranger, b), f"10.0.0.{number}")
    full = take(lab, b, request_of(strangers[5], b), "10.0.0.6")
    assert isinstance(full, RateLimited)
    assert not isinstance(take(lab, b, request_of(strangers[0], b), "10.0.0.7"), CopernicusError)  # it has a place
    b.bench.clock.seconds += 91 * DAY / 1_000_000
    assert not isinstance(take(lab, b, request_of(strangers[5], b), "10.0.0.8"), CopernicusError)
    for _ in range(requests.MAX_OF_ONE):
        take(lab, b, request_of(strangers[5], b), "2001:db8::1")
    limited = take(lab, b, request_of(strangers[5], b), "2001:db8::2")
    assert isinstance(limited, RateLimited)
    assert "try again in" in str(limited)
    lab.reactor.advance(requests.WINDOW + 1)
    assert not isinstance(take(lab, b, request_of(strangers[5], b), "2001:db8::2"), CopernicusError)
