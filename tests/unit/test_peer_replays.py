"""Somebody on the way between two servers keeps what he has seen, or holds it back, and lets it come when it suits him."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError, Refused
from cpc.core.peer import Address
from cpc.core.peer_views import PeerAnswer, PeerRequest
from cpc.server.federation import fresh, requests
from cpc.server.federation.fresh import Fresh
from cpc.wire.connection import SERVER, Connection, connect
from cpc.wire.messages import Message
from cpc.wire.peer_messages import Withdrawn
from cpc.wire.tls import ClientTls, Refuse
from tests.helpers.members import Member, Members
from tests.helpers.sites import PORT
from tests.helpers.stores import ManualClock
from tests.simulation.link import Side


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("ab")
    yield made
    made.close()


class Kept:
    """The requests that have come to a server, as they were."""

    def __init__(self, lab: Members, at: Member) -> None:
        self.requests: list[PeerRequest] = []
        self._lab = lab
        self._at = at
        self._really = at.federation.requests.take
        at.federation.requests.take = self._take  # type: ignore[method-assign]

    async def _take(self, request: PeerRequest, address: str, signed: bytes = b"") -> PeerAnswer:
        self.requests.append(request)
        return await self._really(request, address, signed)

    def again(self, number: int = -1) -> None:
        """One of them comes once more, from elsewhere. It is refused, and changes nothing that anybody can see."""
        before = [self._at.view(other) for other in (self._lab["a"], self._lab["b"])]
        answer = self._lab.outcome(self._really(self.requests[number], "203.0.113.9"))
        assert isinstance(answer, Refused), answer
        assert "not a fresh one" in answer.message
        assert [self._at.view(other) for other in (self._lab["a"], self._lab["b"])] == before


# --- requests, over the people's door ---------------------------------------------------------------------------------------


def test_a_request_that_was_kept_is_good_for_nothing_whatever_has_become_of_the_two(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    kept = Kept(lab, b)
    a.connect_server(b)
    kept.again()  # it waits for b's operator
    b.refuse_server(a)
    kept.again()
    a.connect_server(b)
    a.refuse_server(b)
    lab.reactor.advance(1)
    assert b.state(a) == ""
    for number in range(3):
        kept.again(number)  # taken back: nobody makes it come again
    a.connect_server(b)
    b.trust(a)
    lab.until(lambda: lab.connected("ab"), 120)
    kept.again()
    lab.reactor.advance(5)
    assert lab.connected("ab")
    a.revoke(b)
    lab.until(lambda: b.state(a) == "withdrawn", 5)
    kept.again()  # who has ended the trust does not seem to ask for a new one
    a.refuse_server(b)
    b.revoke(a)
    kept.again()


def test_who_took_a_request_back_once_can_ask_again(lab: Members) -> None:
    """Else whoever has seen that could take back every later one, for ever."""
    a, b = lab["a"], lab["b"]
    kept = Kept(lab, b)
    a.connect_server(b)
    a.refuse_server(b)
    lab.reactor.advance(1)
    (withdrawn,) = (number for number, request in enumerate(kept.requests) if request.withdrawn)
    a.connect_server(b)
    kept.again(withdrawn)
    assert b.state(a) == "received"
    lab.reactor.advance(fresh.GOOD_FOR + 1)
    kept.again(withdrawn)
    assert b.state(a) == "received"


def test_an_old_request_brings_no_old_address_back(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    kept = Kept(lab, b)
    a.connect_server(b)
    a.calls_itself = "a-has-moved"
    a.restart()
    a.connect_server(b)
    kept.again(0)
    shown = b.view(a)
    assert shown is not None
    assert [address.host for address in shown.addresses] == ["a-has-moved"]


def test_a_request_for_one_server_is_none_for_another(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    request = b.trusting.request(a.id, b.federation.requests.word())  # its own word, meant for another
    assert isinstance(lab.outcome(a.federation.requests.take(request, "10.1.1.1")), Refused)
    assert a.state(b) == ""


def test_a_request_without_a_word_of_this_life_is_refused_and_asking_again_helps(lab: Members) -> None:
    a, b = lab["a"], lab["b"]
    word = Fresh(b.host.clock, SeededChance(99)).word()
    for each in (word, "", "ab" * 40, b.federation.requests.word().upper(), f" {b.federation.requests.word()}"):
        answer = lab.outcome(b.federation.requests.take(a.trusting.request(b.id, each), "10.1.1.1"))
        assert isinstance(answer, Refused), each
        assert answer.hint.startswith("ask again")
    a.connect_server(b)
    assert b.state(a) == "received"


def test_a_word_is_good_once_and_for_a_while_and_those_that_are_not_used_cost_nothing() -> None:
    clock = ManualClock()
    words = Fresh(clock, SeededChance(1))
    one, two, late = words.word(), words.word(), words.word()
    words.use(one)
    with pytest.raises(Refused):
        words.use(one)
    clock.seconds += fresh.GOOD_FOR - 1
    words.use(two)
    clock.seconds += 2
    for each in (one, two, late):
        with pytest.raises(Refused):
            words.use(each)
    for _ in range(1000):
        words.word()
    words.use(words.word())
    assert len(words._used) == 1
    assert requests.MAX_OF_ALL < 1000, "what is used in a while is bounded by what is taken"


# --- between machines ---------------------------------------------------------------------------------------------------------


def apart(lab: Members, act: Callable[[], object]) -> None:
    """Do this while the two do not hear each other."""
    lab.network.partition("a", "b")
    act()
    lab.reactor.advance(100)
    lab.network.heal()


def test_an_end_that_was_held_back_at_the_door_ends_no_later_trust(lab: Members) -> None:
    """b has revoked a and dials it to say so; its connection is held up until the two trust each other again."""
    a, b = lab["a"], lab["b"]
    lab.befriend("ab")
    held = lab.network.host("held-up")
    tls = ClientTls(b.identity, a.authority.certificate_pem, a.id)
    apart(lab, lambda: (b.revoke(a), b.trust(a)))
    made: Connection = lab.finish(connect(held.connect("a", PORT), tls, held.reactor, held.clock, greeting=SERVER))
    lab.until(lambda: lab.connected("ab"), 50)
    lab.outcome(made.call("withdrawn", Withdrawn(hand_back=True), Message, 5.0))
    lab.reactor.advance(5)
    assert (a.state(b), b.state(a)) == ("trusted", "trusted")
    assert lab.connected("ab")
    assert a.ended == []


def test_a_refusal_that_was_held_back_ends_no_later_trust(lab: Members) -> None:
    """a dials b, which has revoked it; the answer is held up until the two trust each other again."""
    a, b = lab["a"], lab["b"]
    lab.befriend("ab")
    answers: list[Deferred[None]] = []
    really = a.links._connect

    async def slowly(server: str, address: Address, refuse: Refuse) -> Connection:
        try:
            return await really(server, address, refuse)
        except CopernicusError:
            answers.append(Deferred())
            await answers[-1]
            raise

    lab.network.partition("a", "b")
    b.revoke(a)
    lab.reactor.advance(100)
    a.links._connect = slowly  # type: ignore[method-assign]
    lab.network.heal()
    b.links._parting.told(a.id)  # it does not come by itself
    lab.until(lambda: answers, 200)
    b.trust(a)
    lab.until(lambda: lab.connected("ab"), 100)
    answers[0].callback(None)
    lab.reactor.advance(5)
    assert (a.state(b), b.state(a)) == ("trusted", "trusted")
    assert a.ended == []


class Recorded(Protocol):
    """Says again what was said before."""

    def __init__(self, said: list[bytes]) -> None:
        self._said = said
        self.answers = 0

    def connectionMade(self) -> None:
        for data in self._said:
            self.transport.write(data)  # type: ignore[union-attr, call-arg, misc]

    def dataReceived(self, data: bytes) -> None:
        self.answers += 1


def test_the_bytes_of_a_connection_open_no_second_one(lab: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hello with another host name, and the end of trust, as they were on the wire, at the door once more."""
    a, b = lab["a"], lab["b"]
    said: dict[Any, list[bytes]] = {}
    really = Side.write

    def write(side: Side, data: bytes) -> None:
        if side.role == "client":
            said.setdefault(side.link, []).append(bytes(data))
        really(side, data)

    monkeypatch.setattr(Side, "write", write)
    lab.befriend("ab")
    a.calls_itself = "a-was-there"
    a.restart()
    lab.until(lambda: lab.connected("ab"), 120)
    a.revoke(b)
    lab.until(lambda: b.state(a) == "withdrawn", 5)
    a.calls_itself = "a"
    a.restart()
    a.trust(b)
    b.trust(a)
    lab.until(lambda: lab.connected("ab"), 120)
    before = {name: lab[name].view(lab[other]) for name, other in ("ab", "ba")}
    monkeypatch.undo()
    mallory, heard = lab.network.host("mallory"), 0
    for name in "ab":
        for link, data in said.items():
            if link.sides[1].host.name == name:
                protocol = Recorded(data)
                factory = Factory()
                factory.buildProtocol = lambda _, protocol=protocol: protocol  # type: ignore[method-assign, misc]
                ensureDeferred(mallory.connect(name, PORT).connect(factory))
                lab.reactor.advance(15)
                heard += protocol.answers
    assert heard
    assert {name: lab[name].view(lab[other]) for name, other in ("ab", "ba")} == before
    assert lab.connected("ab")
