"""How often servers hear of jobs that they have lent; told by hand."""

from __future__ import annotations

from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import end, join, quiet, state, submit

__all__ = ["collected"]


def test_a_heartbeat_time_that_is_made_shorter_loses_nothing_that_is_lent() -> None:
    """The home of the worker reports by the former one until it has been told."""
    made = quiet([(1, 2)], (1, 0))
    job = submit(made, 2, "ok", "600", "10")
    join(made, "s1n1")
    made.until(lambda: state(made, 2, job) == "running", 60.0)
    made.reactor.advance(3.0)
    owner = made.sites[2].peers
    assert owner is not None
    owner.queue.limits.heartbeat_time = 4.0
    owner.machines.set_beat(4.0, 4)
    made.until(lambda: state(made, 2, job) == "succeeded", 700.0)
    assert made.sites[2].oracle.rows("SELECT count(*) FROM attempts") == [(1,)]
    end(made)
