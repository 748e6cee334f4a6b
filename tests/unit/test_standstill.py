"""A process that stood still does not take what has come meanwhile for missing: timers come before what is to be read."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from cpc.core.alarm import AGAIN, Alarm
from cpc.core.errors import Unavailable
from cpc.wire import channel
from cpc.wire.connection import Connection
from cpc.wire.messages import Message, Turn
from tests.helpers.two_sides import Two
from tests.helpers.wires import Wires
from tests.simulation.clock import Clock, VirtualReactor

LATE = 1000.0


@pytest.mark.parametrize(("jump", "rings"), [(0.0, 30.0), (0.9, 30.0), (LATE, 30.0 + AGAIN), (-20.0, 50.0)])
def test_an_alarm_rings_in_time_but_for_a_process_that_stood_still_or_a_clock_that_was_set(
    jump: float, rings: float
) -> None:
    """`jump`: how much farther the clock is than the reactor, when that is where it is due."""
    reactor, rung = VirtualReactor(), list[float]()
    clock = Clock(reactor)
    alarm = Alarm(reactor, clock, 30.0, lambda: rung.append(reactor.seconds()))
    reactor.advance(29.0)
    clock.uptime += jump
    reactor.advance(rings - 29.0 - 0.01)
    assert (rung, bool(alarm.active())) == ([], True)
    reactor.advance(100.0)
    assert rung == [pytest.approx(rings)]
    assert not alarm.active()


def test_an_alarm_that_is_cancelled_holds_nothing_and_one_that_stood_still_twice_waits_twice() -> None:
    reactor, rung = VirtualReactor(), list[float]()
    clock = Clock(reactor)
    Alarm(reactor, clock, 30.0, lambda: rung.append(1.0)).cancel()
    Alarm(reactor, clock, 2.0, lambda: rung.append(reactor.seconds()))
    for _ in range(2):
        reactor.advance(1.0)
        clock.uptime += LATE
        reactor.advance(1.0)
    reactor.advance(100.0)
    assert rung == [6.0]


@pytest.mark.parametrize("stands", [True, False])
def test_an_answer_is_not_late_because_whoever_has_asked_stood_still(stands: bool) -> None:
    waits: Deferred[None] = Deferred()

    async def slow(_: Connection, turn: Turn) -> Message:
        await waits
        return turn

    two = Two(turn=(Turn, slow))
    done = two.calling("turn", Turn(number=1), Turn, timeout=20.0)
    two.reactor.advance(19.0)
    if stands:
        two.wires.w.clock.uptime += LATE
    two.reactor.advance(2.0)
    waits.callback(None)
    two.reactor.advance(1.0)
    if stands:
        assert done == [Turn(number=1)]
    else:
        assert isinstance(done[0], Unavailable)


@pytest.mark.parametrize("stands", [True, False])
def test_a_connection_is_not_idle_because_this_side_stood_still(stands: bool) -> None:
    wires = Wires()
    wires.listen(idle=100.0)
    here = wires.connect()
    wires.reactor.advance(99.0)
    if stands:
        wires.s.clock.uptime += LATE
    wires.reactor.advance(2.0)
    assert wires.taken[0].closed is not stands
    here.tell("turn", Turn(number=1))
    wires.reactor.advance(90.0)
    assert wires.taken[0].closed is not stands
    wires.reactor.advance(30.0)
    assert wires.taken[0].closed, "nothing has come since"


@pytest.mark.parametrize("stands", [True, False])
def test_the_other_side_is_not_cut_off_for_not_reading_while_this_one_stood_still(stands: bool) -> None:
    two = Two()
    two.there.channel.pauseProducing()
    two.reactor.advance(channel.STALL - 1.0)
    if stands:
        two.wires.s.clock.uptime += LATE
    two.reactor.advance(2.0)
    assert two.there.closed is not stands
    two.there.channel.resumeProducing()
    two.reactor.advance(channel.STALL)
    assert two.there.closed is not stands
