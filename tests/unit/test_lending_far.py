"""Questions that go far: every server that may be asked is asked in the end, however long others take to answer."""

from __future__ import annotations

from cpc.core.peer import Agreement
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import World

__all__ = ["make"]

FAR = Agreement(lend_on=16)


def trust(world: World, *pairs: str, agreement: Agreement = FAR) -> None:
    """Pairs of servers, each named by a letter, trust each other; they are asked in this order."""
    for one, other in pairs:
        world.net.trust(one, other, agreement, agreement)


def test_a_question_that_may_go_farther_when_it_comes_again_goes_on(make: Make) -> None:
    """`y` is reached first by way of `x` and `z`, with no hop left for `d`; then by way of `w`."""
    world = make(*"abxzwyd")
    world.net.trust("a", "b", Agreement(lend_on=3), FAR)
    trust(world, "bx", "bw", "xz", "zy", "wy", "yd")
    world["d"].submit("sleep")
    worker = world["a"].worker()
    world.run(5)
    assert worker.jobs == ["1 of d"]
    world.run(20)
    assert world.net.messages["y", "d", "ask-work"] == 1, "and is not asked for more than once"


def test_a_peer_that_answers_late_does_not_keep_those_after_it_from_being_asked(make: Make) -> None:
    world = make(*"absd")
    trust(world, "ab", "bs", "bd")
    world.net.silence("b", "s")
    worker = world["a"].worker()
    world["d"].submit("sleep")
    world.run(90)
    assert worker.jobs == ["1 of d"]


def test_a_peer_that_was_late_has_its_place_again_soon(make: Make) -> None:
    """`s` comes before `d`, which has jobs enough for ever."""
    world = make(*"absd")
    trust(world, "ab", "bs", "bd")
    link = world.net._links[frozenset("bs")]
    link.latency = 30.0
    worker = world["a"].worker(cores=1)
    world["d"].submit("sleep", array=200)
    world["s"].submit("sleep", array=200)
    worker.drive(90.0, every=5.0, work=5.0)
    assert worker.jobs[0].endswith("of d")
    link.latency = 0.01
    worker.drive(200.0, every=5.0, work=5.0)
    assert worker.jobs[0].endswith("of s")


def test_whoever_could_not_be_asked_in_time_is_asked_soon(make: Make) -> None:
    """Every server is more than a second away: the time is over after eight of them, when less is left than one needs."""
    names = "cdefghijklmno"
    world = make("a", "b", *names)
    trust(world, "ab", *(f"b{name}" for name in names))
    for name in names:
        world.net._links[frozenset(("b", name))].latency = 0.6
    worker = world["a"].worker()
    world["o"].submit("sleep")
    world.run(150)
    assert worker.jobs == ["1 of o"]


def test_many_homes_that_ask_at_once_by_the_same_way_are_all_called(make: Make) -> None:
    """More than a server answers one peer at a time: those that had no answer have no promise either, and ask again."""
    homes = "cdefghijklmn"
    world = make("o", "b", "z", *homes)
    trust(world, "bo", "oz")
    world.net._links[frozenset("oz")].latency = 1.0
    workers = [world[home].worker(cores=1) for home in homes]
    trust(world, *(f"b{home}" for home in homes))
    world.run(20)
    world["o"].submit("sleep", array=len(homes))
    world.run(90)
    assert [len(worker.jobs) for worker in workers] == [1] * len(homes)
