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
