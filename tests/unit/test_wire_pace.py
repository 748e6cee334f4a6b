"""Connections are taken at a pace: what has begun comes to its end before more is begun."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock as FakeReactor

from cpc.wire.connection import Connection
from cpc.wire.pace import FRESH, KEPT, MOST, PART, PROMPT, REMEMBERED, Pace
from tests.helpers.stores import ManualClock
from tests.helpers.wires import PORT, Wires


class Port:
    """Whether it takes connections."""

    def __init__(self) -> None:
        self.takes = True

    def pauseProducing(self) -> None:
        self.takes = False

    def resumeProducing(self) -> None:
        self.takes = True


class Pacing:
    def __init__(self, most: int = 3) -> None:
        self.reactor = FakeReactor()
        self.clock = ManualClock()
        self.port = Port()
        ports: list[Any] = [self.port, object()]
        self.pace = Pace(self.reactor, self.clock, lambda: ports, most)

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.reactor.advance(seconds)


def test_the_port_is_held_while_enough_handshakes_are_under_way() -> None:
    pacing = Pacing()
    for handshake in range(3):
        assert pacing.port.takes
        pacing.pace.began(handshake, f"10.0.0.{handshake}")
    assert not pacing.port.takes
    pacing.pace.ended(1)
    assert pacing.port.takes
    pacing.pace.ended(1)  # told twice
    pacing.pace.began("next", "10.0.0.9")
    assert not pacing.port.takes


def test_silent_ones_hold_nobody_up_for_long() -> None:
    pacing = Pacing()
    for handshake in range(3):
        pacing.pace.began(handshake, f"10.0.0.{handshake}")
    for _ in range(int(FRESH / PROMPT) - 1):
        pacing.pass_time(PROMPT)
        assert not pacing.port.takes
    pacing.pass_time(PROMPT)
    assert pacing.port.takes
    assert not pacing.reactor.getDelayedCalls(), "nobody waits, so nothing is due"


def test_whether_somebody_had_to_wait_is_told_once_and_for_all_the_time_since() -> None:
    pacing = Pacing()
    assert not pacing.pace.crowded()
    for handshake in range(3):
        pacing.pace.began(handshake, f"10.0.0.{handshake}")
    assert pacing.pace.crowded()
    assert pacing.pace.crowded(), "still"
    pacing.pace.ended(1)
    assert pacing.pace.crowded(), "until a moment ago"
    assert not pacing.pace.crowded()


def test_one_address_whose_handshakes_come_to_no_end_holds_nobody_up_for_longer_than_a_moment() -> None:
    """Neither with those that are there, nor with new ones in their place."""
    pacing = Pacing(most=20)
    held = 0.0
    for tick in range(600):
        pacing.pace.began(tick, "10.0.0.1" if tick % 2 else "2001:db8::1")
        pacing.pass_time(0.1)
        held += 0.0 if pacing.port.takes else 0.1
    assert held < 3 * PROMPT, "a minute of a flood of two addresses"
    pacing.pass_time(FRESH)
    pacing.pace.crowded()
    for tick in range(30):
        pacing.pace.began(("again", tick), f"2001:db8::{tick}")
    assert not pacing.pace.crowded(), "its whole network is one address"
    for tick in range(20 - 20 // PART):
        assert pacing.port.takes
        pacing.pace.began(("other", tick), f"10.1.0.{tick}")
    assert not pacing.port.takes, "others count as ever"


def test_a_crowd_behind_one_address_is_taken_at_its_pace() -> None:
    pacing = Pacing(most=20)
    under_way: list[int] = []
    for number in range(1000):
        while not pacing.port.takes:
            pacing.pace.ended(under_way.pop(0), well=True)
            pacing.pass_time(0.01)
        pacing.pace.began(number, "10.0.0.1")
        under_way.append(number)
        assert len(under_way) <= 20
    for number in under_way:
        pacing.pace.ended(number, well=True)
    pacing.pass_time(REMEMBERED)
    for number in range(20):
        pacing.pace.began(number, "10.0.0.1")
    assert not pacing.port.takes, "and again after a while in which nobody came"


def test_addresses_are_not_remembered_without_end() -> None:
    pacing = Pacing()
    for number in range(2 * KEPT):
        pacing.pace.began(number, f"10.0.{number >> 8}.{number & 255}")
        pacing.pace.ended(number)
    assert len(pacing.pace._idle) == KEPT
    assert not pacing.pace._origins


def test_a_listener_that_stops_leaves_nothing_behind() -> None:
    pacing = Pacing()
    for handshake in range(3):
        pacing.pace.began(handshake, f"10.0.0.{handshake}")
    pacing.pace.stop()
    assert not pacing.reactor.getDelayedCalls()


def test_everybody_who_comes_back_at_once_gets_in_and_nobody_is_turned_away() -> None:
    """Twice as many as are taken at a time, and more than may be strangers at once."""
    wires = Wires()
    listener = wires.listen(max_strangers=MOST + 50)
    identity = wires.worker()
    opened: list[Connection] = []
    for _ in range(2 * MOST):
        wires.begin(identity).addCallback(opened.append)
    most = 0
    while len(opened) < 2 * MOST:
        wires.reactor.advance(0.01)
        most = max(most, len(listener._strangers))
        assert wires.reactor.seconds() < 30.0
    assert most <= MOST


class Silent(Protocol):
    """Connects, and says nothing."""


def test_machines_get_in_while_one_address_floods_the_door_with_handshakes() -> None:
    """Three hundred connections a second from one host; those of others wait for none of them, and nothing is
    taken for an outage."""
    wires = Wires()
    listener = wires.listen()
    attacker, identity = wires.network.host("attacker"), wires.worker()
    held: list[Any] = []
    waited, outage = [], 0
    for second in range(10):
        for _ in range(10):
            wires.reactor.advance(0.1)
            for _ in range(30):
                made = attacker.connect("s", PORT).connect(Factory.forProtocol(Silent))
                made.addCallbacks(held.append, lambda failure: None)
            for silent in held[:15]:
                silent.transport.loseConnection()
            del held[:15]
        outage += listener.crowded()
        if second % 2:
            began = wires.reactor.seconds()
            connection = wires.reactor.finish(wires.begin(identity), 30.0)
            waited.append(wires.reactor.seconds() - began)
            connection.close()
    assert max(waited) < 0.5
    assert outage <= 2, "seconds in which machines may have been kept waiting"
