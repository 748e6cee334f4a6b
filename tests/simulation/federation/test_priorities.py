"""Whose work comes first among peers, told by hand."""

from __future__ import annotations

import pytest

from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import end, join, quiet, runs, state, submit
from tests.simulation.federation.plan import DEFAULT, Bond

__all__ = ["collected"]


@pytest.mark.parametrize("later", [20.0, 400.0])
def test_work_of_a_higher_priority_that_comes_later_gets_the_next_room(later: float) -> None:
    """Also when the server has promised to call for five minutes only, and the workers have run jobs of another one since."""
    bonds = {(1, 2): Bond(1, DEFAULT), (1, 3): Bond(0, DEFAULT)}
    made = quiet([(1, 2), (1, 3)], (2, 0, 0), bonds)
    join(made, "s1n1", "s1n2")
    last = submit(made, 2, "ok", "15", "10", array=400) + 399
    made.reactor.advance(later)
    first = submit(made, 3, "ok", "15", "10", array=24)
    made.until(lambda: state(made, 3, first + 23) == "succeeded", 3 * 15.0 + 40.0)
    assert state(made, 2, last) == "waiting"
    made.reactor.advance(60.0)
    assert len(runs(made, "s1n1")) == 4, "the other one's go on"
    end(made)


def test_peers_of_the_same_priority_share_what_is_lent() -> None:
    """Both have more than the worker can do: neither waits until the other has nothing left."""
    made = quiet([(1, 2), (1, 3)], (1, 0, 0))
    one = submit(made, 2, "ok", "15", "10", array=100)
    join(made, "s1n1")
    made.until(lambda: len(runs(made, "s1n1")) == 4)
    other = submit(made, 3, "ok", "15", "10", array=100)
    made.reactor.advance(300.0)
    done = [sum(state(made, n, job + i) == "succeeded" for i in range(100)) for n, job in ((2, one), (3, other))]
    assert min(done) > 0.35 * sum(done), done
    end(made)


def test_a_peer_of_the_same_priority_that_promised_to_call_long_ago_is_not_forgotten() -> None:
    """It had promised that for five minutes, and the worker has been busy with the other one's jobs since."""
    made = quiet([(1, 2), (1, 3)], (1, 0, 0))
    submit(made, 2, "ok", "15", "10", array=400)
    join(made, "s1n1")
    made.reactor.advance(700.0)
    other = submit(made, 3, "ok", "15", "10", array=4)
    made.until(lambda: all(state(made, 3, other + index) == "succeeded" for index in range(4)), 60.0)
    end(made)


def test_peers_of_the_same_priority_share_time_and_not_numbers_of_jobs() -> None:
    """A core that is used for a minute counts five times as much as one that is used for twelve seconds."""
    made = quiet([(1, 2), (1, 3)], (1, 0, 0))
    one = submit(made, 2, "ok", "12", "10", array=300)
    other = submit(made, 3, "ok", "60", "10", array=100)
    join(made, "s1n1")
    made.reactor.advance(900.0)
    succeeded = [
        sum(state(made, n, job + i) == "succeeded" for i in range(size))
        for n, job, size in ((2, one, 300), (3, other, 100))
    ]
    used = [seconds * count for seconds, count in zip((12.0, 60.0), succeeded, strict=True)]
    assert min(used) > 0.35 * sum(used), used
    end(made)


GATEWAY = [(1, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize("later", [20.0, 400.0])
def test_the_order_of_a_server_in_between_holds_for_those_behind_it(later: float) -> None:
    """The worker's home knows the gateway's two owners as one neighbour, and has no order among them."""
    made = quiet(GATEWAY, (2, 0, 0, 0), {(2, 3): Bond(1, DEFAULT), (2, 4): Bond(0, DEFAULT)})
    join(made, "s1n1", "s1n2")
    last = submit(made, 3, "ok", "15", "10", array=400) + 399
    made.reactor.advance(later)
    first = submit(made, 4, "ok", "15", "10", array=24)
    made.until(lambda: state(made, 4, first + 23) == "succeeded", 3 * 15.0 + 100.0)
    assert state(made, 3, last) == "waiting"
    made.reactor.advance(60.0)
    assert len(runs(made, "s1n1")) == 4, "the other one's go on"
    end(made)


def test_those_of_the_same_priority_behind_a_server_in_between_share() -> None:
    made = quiet(GATEWAY, (1, 0, 0, 0))
    one = submit(made, 3, "ok", "15", "10", array=150)
    join(made, "s1n1")
    made.until(lambda: len(runs(made, "s1n1")) == 4)
    other = submit(made, 4, "ok", "15", "10", array=150)
    made.reactor.advance(450.0)
    done = [sum(state(made, n, job + i) == "succeeded" for i in range(150)) for n, job in ((3, one), (4, other))]
    assert min(done) > 0.3 * sum(done), done
    end(made)
