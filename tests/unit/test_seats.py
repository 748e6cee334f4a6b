"""What the reactor knows of joined workers, found by session and by worker."""

from __future__ import annotations

from typing import Any, cast

from cpc.core.resources import Amounts
from cpc.server.seats import Seat, Seats
from cpc.wire.messages import Hello

HELLO = Hello(boot="b", host="h", release="t", platform="smp", total=Amounts(cores=1))


def seat(session: int, worker: int) -> Seat:
    return Seat(cast(Any, None), session, worker, f"w{worker}", HELLO, 0, 0.0)


def test_a_worker_has_one_seat_and_gets_it_back_from_its_former_session() -> None:
    seats = Seats()
    first, other, second = seat(1, 7), seat(2, 8), seat(3, 7)
    assert seats.take(first) is None
    assert seats.take(other) is None
    assert seats.take(second) is first
    assert seats.get(1) is None
    assert seats.of_worker(7) is second
    assert list(seats) == [other, second]


def test_a_seat_that_is_given_up_is_gone_for_the_worker_too() -> None:
    seats = Seats()
    seats.take(seat(1, 7))
    assert seats.give_up(1) is not None
    assert seats.give_up(1) is None
    assert seats.of_worker(7) is None
    assert len(seats) == 0


def test_the_end_of_a_former_session_does_not_take_the_new_seat() -> None:
    seats = Seats()
    seats.take(seat(1, 7))
    new = seat(2, 7)
    seats.take(new)
    assert seats.give_up(1) is None
    assert seats.of_worker(7) is new
