"""Questions that go far: every server that may be asked is asked in the end, however long others take to answer."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("cut", ["", "sx", "rs"])
@pytest.mark.parametrize("owner", "xp")
def test_when_the_way_of_a_question_is_cut_its_home_is_called_by_another_one(make: Make, owner: str, cut: str) -> None:
    """`r` asks `s`, and then `t`: `x` has had the question by then, and calls `s`. When that is away, it calls `t` at once, so
    that the home asks by that; when it is `r` that `s` does not reach, it does some seconds later if the work is its own."""
    world = make(*"hrstxp", monitored=False)
    trust(world, "hr", "rs", "rt", "sx", "tx", "xp")
    worker = world["h"].worker()
    world.run(10)
    if cut:
        world.net.cut(*cut)
    world.run(100)
    assert world.net.messages["x", "t", "demand"] == (cut == "sx")
    world[owner].submit("sleep")
    world.run({"": 1, "sx": 1, "rs": 7 if owner == "x" else 300}[cut])
    assert worker.jobs == [f"1 of {owner}"]
    before = world.net.count("demand")
    world.run(20)
    assert world.net.count("demand") == before, "and no way is called without need"


def test_a_call_goes_by_the_way_of_the_last_question_and_not_by_one_of_before(make: Make) -> None:
    """`s` was the first to ask, for one core. When there is room for two, `t` is, and `s` passes no call on any more."""
    world = make(*"hrtsp", monitored=False)
    trust(world, "hr", "rt", "rs", "sp")
    world["h"].submit("own")
    worker = world["h"].worker(cores=2)
    world.run(10)
    trust(world, "tp")
    world.run(10)
    assert world.net.messages["t", "p", "ask-work"] == 1
    worker.finish()
    world.run(10)
    assert worker.jobs == []
    world["p"].submit("sleep")
    world.run(1)
    assert worker.jobs == ["1 of p"]
