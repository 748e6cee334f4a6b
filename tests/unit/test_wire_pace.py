"""Connections are taken at a pace: what has begun comes to its end before more is begun."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock as FakeReactor

from cpc.wire.connection import Connection
from cpc.wire.pace import FRESH, MOST, Pace
from tests.helpers.stores import ManualClock
from tests.helpers.wires import Wires


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
        pacing.pace.began(handshake)
    assert not pacing.port.takes
    pacing.pace.ended(1)
    assert pacing.port.takes
    pacing.pace.ended(1)  # told twice
    pacing.pace.began("next")
    assert not pacing.port.takes


def test_silent_ones_hold_nobody_up_for_long() -> None:
    pacing = Pacing()
    for handshake in range(3):
        pacing.pace.began(handshake)
    pacing.pass_time(FRESH / 2)
    assert not pacing.port.takes
    pacing.pass_time(FRESH)
    assert pacing.port.takes
    assert not pacing.reactor.getDelayedCalls(), "nobody waits, so nothing is due"


def test_whether_somebody_had_to_wait_is_told_once_and_for_all_the_time_since() -> None:
    pacing = Pacing()
    assert not pacing.pace.crowded()
    for handshake in range(3):
        pacing.pace.began(handshake)
    assert pacing.pace.crowded()
    assert pacing.pace.crowded(), "still"
    pacing.pace.ended(1)
    assert pacing.pace.crowded(), "until a moment ago"
    assert not pacing.pace.crowded()


def test_a_listener_that_stops_leaves_nothing_behind() -> None:
    pacing = Pacing()
    for handshake in range(3):
        pacing.pace.began(handshake)
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
