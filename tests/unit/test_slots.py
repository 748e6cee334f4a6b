"""Who has a worker's cores, and who is next: in order, never more than there are."""

from __future__ import annotations

import pytest

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.worker import slots as module
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

        self.next: dict[int, int] = {}  # who is next, beside how many

    def take(self, number: int, cores: int = 1, by_name: bool = False) -> None:
        asked = self.slots.take(lease(number), Amounts(cores=cores), by_name)
        asked.addCallbacks(lambda _: self._granted(number), lambda _: self.gave_up.append(number))

    def _granted(self, number: int) -> None:
        if self.slots.beside:
            self.next[number] = self.slots.beside
        else:
            self.got.append(number)


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


def test_those_who_wait_for_what_anyone_leaves_are_next_and_have_it_without_another_word() -> None:
    here = Seen(cores=5)
    for number in range(1, 6):
        here.take(number, cores=2)
    assert (here.got, here.next) == ([1, 2], {3: 2, 4: 2, 5: 2})
    here.slots.give(lease(2))
    assert here.slots.free.cores == 1
    assert here.slots.waiting() == [lease(4), lease(5)]
    for number in (1, 3, 4, 5):
        here.slots.give(lease(number))
    assert here.slots.free.cores == 5
    assert not here.slots.crowded


def test_who_gives_up_being_next_leaves_everything_to_those_behind() -> None:
    here = Seen(cores=1)
    for number in (1, 2, 3):
        here.take(number)
    here.slots.give(lease(2))
    here.slots.give(lease(1))
    assert here.slots.waiting() == []
    assert here.slots.free.cores == 0
    here.slots.give(lease(3))
    assert here.slots.free.cores == 1


def test_nobody_is_next_whose_need_is_another_or_whose_things_have_names() -> None:
    here = Seen(cores=4)
    for number, cores in ((1, 2), (2, 2), (3, 1), (4, 2)):
        here.take(number, cores)
    assert here.next == {}  # the third has another need, and the fourth does not overtake it
    here.slots.give(lease(1))
    assert (here.got, here.next) == ([1, 2, 3], {})  # two needs run: whoever ends may leave too little
    here.slots.give(lease(2))
    assert here.got == [1, 2, 3, 4]
    named = Seen(cores=1)
    named.take(1, by_name=True)
    named.take(2, by_name=True)
    assert (named.got, named.next) == ([1], {})
    named.slots.give(lease(1))
    assert named.got == [1, 2]


def test_one_need_after_another_lets_some_be_next_again() -> None:
    here = Seen(cores=2)
    for number, cores in ((1, 1), (2, 1), (3, 2), (4, 2)):
        here.take(number, cores)
    assert here.next == {}
    here.slots.give(lease(1))
    here.slots.give(lease(2))
    assert (here.got, here.next) == ([1, 2, 3], {4: 1})


def test_only_some_are_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE", 2)
    here = Seen(cores=1)
    for number in range(1, 6):
        here.take(number)
    assert here.next == {2: 1, 3: 1}
    here.slots.give(lease(1))
    assert here.next == {2: 1, 3: 1, 4: 1}
