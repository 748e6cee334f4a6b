"""Heartbeats that bring nothing but renewals: what they hold up, and what they do not wait for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred

from cpc.core.spec import JobSpec
from cpc.store.transaction import Tx
from cpc.wire.pace import FRESH, MOST
from tests.simulation.by_hand import QUIET, collected, join, state, submit, world
from tests.simulation.world import World

__all__ = ["collected", "world"]

T = TypeVar("T")


def test_workers_stay_while_the_database_is_away(world: World) -> None:
    """Longer than a worker waits for an answer: nobody takes the server for lost, so nobody comes back in a crowd."""
    join(world, "n1", "n2")
    job = submit(world, "ok", "900", "10")
    world.until(lambda: state(world, job) == "running")
    world.reactor.advance(QUIET.heartbeat_time)
    server = world.server
    assert server is not None
    joined = server.queue.tallies.joined
    world.trouble.away_until = world.now + 2 * QUIET.heartbeat_time
    world.reactor.advance(4 * QUIET.heartbeat_time)
    assert server.queue.tallies.joined == joined
    world.until(lambda: state(world, job) == "succeeded", within=900.0)
    assert world.attempts(job) == 1


def test_a_heartbeat_time_that_is_made_shorter_loses_nothing(world: World) -> None:
    """Workers that have said something a moment ago would be silent for long, by the new one, until their next beat."""
    join(world, "n1", "n2")
    jobs = submit(world, "ok", "900", "10", array=4)
    world.until(lambda: state(world, jobs + 3) == "running")
    server = world.server
    assert server is not None
    world.reactor.advance(QUIET.heartbeat_time / 12)
    for worker in world.workers.values():
        worker.host.freeze()  # for a moment they do not hear it
    server.queue.limits.heartbeat_time = QUIET.heartbeat_time / 15
    server.machines.set_beat(QUIET.heartbeat_time / 15, 3)
    world.reactor.advance(QUIET.heartbeat_time / 4)
    for worker in world.workers.values():
        worker.host.thaw()
    world.reactor.advance(QUIET.heartbeat_time)
    assert [world.attempts(jobs + index) for index in range(4)] == [1] * 4
    world.workers["n1"].kill(away=500.0)
    world.workers["n2"].kill(away=500.0)
    gone = QUIET.heartbeat_time / 15 + 5.0
    world.until(lambda: all(state(world, jobs + index) == "waiting" for index in range(4)), within=gone)


def test_a_renewal_does_not_bring_back_a_lease_that_is_over(world: World) -> None:
    """The worker holds on to a cancelled job's lease in its turns until it has been told."""
    join(world, "n1")
    job = world.submit(JobSpec(argv=("run", "ok", "900", "10")))
    world.until(lambda: state(world, job) == "running")
    world.reactor.advance(QUIET.heartbeat_time)
    server = world.server
    assert server is not None
    run = server.queue.index.running[job]
    world.reactor.advance(QUIET.heartbeat_time)
    assert server.queue.now - run.renewed < QUIET.heartbeat_time, "renewed by turns that bring nothing else"
    worker = world.workers["n1"]
    worker.host.freeze()
    world.until(lambda: state(world, job) == "waiting", within=3 * QUIET.heartbeat_time)
    worker.host.thaw()
    world.until(lambda: state(world, job) == "succeeded", within=2000.0)


def test_leases_wait_while_workers_stand_in_a_crowd_at_the_door(world: World) -> None:
    """After an outage thousands come back; whoever is not let in for longer than a heartbeat time loses nothing."""
    join(world, "n1")
    job = submit(world, "ok", "900", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    world.kill_server("killed", away=30.0)
    world.until(lambda: world.server is not None and world.server.ready)
    server = world.server
    assert server is not None
    pace, end = server.listener._pace, world.now + 3 * QUIET.heartbeat_time
    while world.now < end:
        for number in range(MOST):
            pace.began(object(), f"10.0.0.{number}")  # machines that take their time
        world.reactor.advance(FRESH / 2)
    assert not server.machines.seats.of_worker(next(iter(server.queue.index.running.values())).worker)
    assert state(world, job) == "running"
    world.until(lambda: state(world, job) == "succeeded", within=1000.0)
    assert world.attempts(job) == 1


@pytest.mark.parametrize("heartbeat_time", [10.0, 30.0, 120.0])
def test_after_an_outage_workers_are_back_within_a_heartbeat_time(heartbeat_time: float) -> None:
    """However short it is: pauses between tries grow while the server is away, but leases run from its return."""
    made = World(5, dataclasses.replace(QUIET, workers=8, heartbeat_time=heartbeat_time))
    try:
        made.start_server()
        made.until(lambda: made.server is not None and made.server.ready)
        join(made, *(name for name, worker in made.workers.items() if not worker.kind.time_left))
        jobs = [submit(made, "ok", "700", "10") for _ in range(8)]
        made.until(lambda: sum(len(one.processes.running()) for one in made.workers.values() if one.agent) == 8)
        made.kill_server("killed", away=600.0)
        made.until(lambda: made.server is not None and made.server.ready, within=700.0)
        made.until(lambda: all(state(made, job) == "succeeded" for job in jobs), within=700.0)
        assert [made.attempts(job) for job in jobs] == [1] * 8
        made.check()
        assert made.broken == []
    finally:
        made.close()


def test_a_worker_that_has_just_said_hello_is_not_silent(world: World) -> None:
    """The monitor may look in the very batch in which it comes: what the reactor knows of it comes after the commit."""
    server = world.server
    assert server is not None
    world.reactor.advance(3 * QUIET.heartbeat_time)
    write = server.store.write

    def and_look(unit: Callable[[Tx], T]) -> Deferred[T]:
        def both(tx: Tx) -> T:
            answer = unit(tx)
            server.monitor.expire(tx)
            return answer

        return write(both)

    server.store.write = and_look  # type: ignore[method-assign]
    join(world, "n1")
    world.reactor.advance(1.0)
    server.store.write = write  # type: ignore[method-assign]
    assert world.oracle.rows("SELECT count(*) FROM events WHERE kind = 'worker.lost'") == [(0,)]
    assert server.queue.tallies.joined == 1
    world.workers["n1"].host.freeze()
    world.until(lambda: not server.queue.index.sessions, within=2 * QUIET.heartbeat_time)
