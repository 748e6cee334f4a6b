"""Who has a worker's cores: in order, never more than there are."""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.worker.slots import Slots
from tests.helpers.stores import ManualClock


def lease(number: int) -> Lease:
    return Lease(number, 1, 1)


class Seen:
    """Takes slots and remembers who got them."""

    def __init__(self, cores: int) -> None:
        self.clock = ManualClock()
        self.slots = Slots(Amounts(cores=cores), self.clock)
        self.got: list[int] = []
        self.gave_up: list[int] = []

    def take(self, number: int, cores: int = 1) -> None:
        asked = self.slots.take(lease(number), Amounts(cores=cores))
        asked.addCallbacks(lambda _: self.got.append(number), lambda _: self.gave_up.append(number))


def test_the_oldest_is_first_and_nobody_is_overtaken() -> None:
    here = Seen(cores=4)
    for number, cores in ((1, 2), (2, 4), (3, 1), (4, 1)):
        here.take(number, cores)
    assert here.got == [1]
    assert here.slots.free.cores == 2  # kept for the second: what is small must not keep it waiting for ever
    here.slots.give(lease(1))
    assert here.got == [1, 2]
    here.slots.give(lease(2))
    assert here.got == [1, 2, 3, 4]
    assert here.slots.free.cores == 2


def test_whoever_gives_up_waiting_makes_way() -> None:
    here = Seen(cores=2)
    for number, cores in ((1, 1), (2, 2), (3, 1)):
        here.take(number, cores)
    here.slots.give(lease(2))
    assert (here.got, here.gave_up) == ([1, 3], [2])
    here.slots.give(lease(2))  # twice is once
    assert here.slots.free.cores == 0


def test_those_who_have_waited_long_are_known() -> None:
    here = Seen(cores=1)
    here.take(1)
    here.take(2)
    here.clock.seconds += 3
    here.take(3)
    assert here.slots.waiting() == [lease(2), lease(3)]
    assert here.slots.waiting(2.0) == [lease(2)]
