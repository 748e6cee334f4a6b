"""Work is found where it is nearest, and has no second way while the first one is good; told by hand."""

from __future__ import annotations

from cpc.core.resources import Amounts
from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import end, join, quiet, runs, state, submit
from tests.simulation.federation.plan import DEFAULT, Bond
from tests.simulation.federation.universe import Universe
from tests.simulation.workers import Kind

__all__ = ["collected"]

RING = [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (1, 6)]


def ways(made: Universe) -> set[tuple[int, ...]]:
    """By which the jobs so far went, from home to owner."""
    return {loan.route for loan in made.truth.loans.values()}


def test_a_worker_that_comes_finds_what_is_near_before_what_is_far() -> None:
    """Both ways round lead to 3; and 5 is nearer the other way."""
    made = quiet(RING, (1, 0, 0, 0, 0, 0), {(1, 2): Bond(0, DEFAULT), (1, 6): Bond(0, DEFAULT)})
    near = submit(made, 3, "ok", "5", "10")
    join(made, "s1n1")
    made.until(lambda: state(made, 3, near) == "succeeded", 30.0)
    other = submit(made, 5, "ok", "5", "10")
    made.until(lambda: state(made, 5, other) == "succeeded", 30.0)
    assert ways(made) == {(1, 2, 3), (1, 6, 5)}
    end(made)


def test_an_owner_is_not_asked_by_a_longer_way_too_while_a_shorter_one_is_good() -> None:
    """Peers of the same priority share; but behind the second one is only the same owner once more."""
    made = quiet(RING, (1, 0, 0, 0, 0, 0))
    join(made, "s1n1")
    made.reactor.advance(10.0)
    submit(made, 3, "ok", "15", "10", array=400)
    made.reactor.advance(100.0)
    assert ways(made) == {(1, 2, 3)}
    assert len(runs(made, "s1n1")) == 4
    other = submit(made, 6, "ok", "15", "10", array=8)
    made.until(lambda: all(state(made, 6, other + index) == "succeeded" for index in range(8)), 60.0)
    made.reactor.advance(700.0)
    assert ways(made) == {(1, 2, 3), (1, 6)}, "that one has called all the same, and nothing has come by it from afar"
    end(made)


def test_when_the_shorter_way_is_cut_the_longer_one_is_taken() -> None:
    made = quiet(RING, (1, 0, 0, 0, 0, 0))
    join(made, "s1n1")
    made.reactor.advance(10.0)
    first = submit(made, 3, "ok", "15", "10", array=40)
    made.until(lambda: state(made, 3, first + 3) == "succeeded", 60.0)
    made.sites[2].server_host.freeze()
    made.until(lambda: state(made, 3, first + 39) == "succeeded", 900.0)
    assert (1, 6, 5, 4, 3) in ways(made)
    made.sites[2].server_host.thaw()
    made.until(made.settled, 600.0)
    end(made)


def test_a_call_is_for_those_homes_whose_workers_can_run_what_waits() -> None:
    """Behind the same server is one more idle worker, of one core: its home is not called, and what was promised it stands."""
    made = quiet([(1, 3), (2, 3), (3, 4)], (1, 1, 0, 0))
    made.sites[2].workers["s2n1"].kind = Kind(cores=1)
    join(made, "s1n1", "s2n1")
    made.reactor.advance(10.0)
    before = made.messages.copy()
    large = submit(made, 4, "ok", "5", "10", need=Amounts(cores=4))
    made.until(lambda: state(made, 4, large) == "succeeded", 30.0)
    assert made.messages["demand"] - before["demand"] == 2, "one to the server in between, and from there to the home"
    small = submit(made, 4, "ok", "5", "10", array=5)
    made.until(lambda: all(state(made, 4, small + index) == "succeeded" for index in range(5)), 30.0)
    assert ways(made) == {(1, 3, 4), (2, 3, 4)}
    end(made)
