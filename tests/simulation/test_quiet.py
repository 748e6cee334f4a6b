"""Stories told by hand: what nothing but the promise itself decides, in a world in which nothing goes wrong by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.server.principal import SERVER, Call
from tests.simulation.by_hand import collected, join, runner, state, submit, world
from tests.simulation.databases import Strike
from tests.simulation.plan import ALL
from tests.simulation.world import World

__all__ = ["collected", "world"]


def act(world: World, what: Any) -> Any:
    """A call of an administrator, answered."""
    return world.call(lambda server: what(server, Call(SERVER, f"by hand {world.reactor.steps}")))


def test_a_server_that_stood_still_gives_no_job_away(world: World) -> None:
    """SIGSTOP for five heartbeat times: what it could not hear then is not held against anybody."""
    join(world, "n1", "n2")
    job = submit(world, "ok", "900", "10", need=Amounts(cores=1))
    runner(world)
    world.reactor.advance(100.0)
    world.server_host.freeze()
    world.reactor.advance(300.0)
    world.server_host.thaw()
    world.until(lambda: state(world, job) == "succeeded", within=600.0)
    assert world.attempts(job) == 1


def test_a_database_that_was_away_gives_no_job_away(world: World) -> None:
    join(world, "n1", "n2")
    job = submit(world, "ok", "1200", "10", need=Amounts(cores=1))
    runner(world)
    world.reactor.advance(100.0)
    world.trouble.plan(Strike.AWAY_BEFORE, 0, away_for=600.0)
    # The submission's commit is the one that is struck; the monitor is the first to look when the database is back.
    call = Call(SERVER, "while it goes away")
    assert world.server is not None
    submitted = ensureDeferred(world.server.jobs.submit(call, "p", JobSpec(argv=("run", "ok", "1", "0")), False))
    world.reactor.advance(10.0)
    for link in world.network.links:  # who is cut off meanwhile cannot be let in again
        world.network.cut(link)
    world.until(lambda: state(world, job) == "succeeded", within=1300.0)
    assert submitted.called
    assert world.attempts(job) == 1


def test_two_projects_share_a_worker(world: World) -> None:
    """The one that came later does not wait for all of the other's."""
    join(world, "n1")
    for project in ("p", "q"):
        world.submit(JobSpec(argv=("run", "ok", "20", "10"), array=12, need=Amounts(cores=4)), project)
    world.until(lambda: world.oracle.rows("SELECT count(*) FROM finished")[0][0] >= 10, within=1000.0)
    done = dict(world.oracle.rows("SELECT project, count(*) FROM finished GROUP BY project"))
    assert {done.get(number, 0) for name, number in world.project_numbers.items()} <= {4, 5, 6}


def test_what_matters_more_begins_first(world: World) -> None:
    """Whatever class it is of, and however much later it came."""
    join(world, "n1")
    whole = Amounts(cores=4)
    submit(world, "ok", "60", "10", need=whole)
    runner(world)
    order = {
        submit(world, "ok", "5", "10", need=whole, priority=priority, labels=labels): priority
        for priority, labels in ((0, ()), (-3, ("fast",)), (3, ()), (7, ("fast",)), (0, ("any",)))
    }
    world.until(lambda: all(state(world, job) == "succeeded" for job in order), within=400.0)
    begun = world.oracle.rows("SELECT job FROM attempts ORDER BY started, job")
    assert [order[job] for (job,) in begun if job in order] == [7, 3, 0, 0, -3]


def test_a_draining_worker_gets_nothing_until_it_is_resumed(world: World) -> None:
    join(world, "n1")
    name = world.worker_name("n1")
    act(world, lambda server, call: server.workers.drain(call, name, "repair", True))
    job = submit(world, "ok", "5", "10")
    world.reactor.advance(200.0)
    assert (state(world, job), world.attempts(job)) == ("waiting", 0)
    act(world, lambda server, call: server.workers.resume(call, name))
    world.until(lambda: state(world, job) == "succeeded", within=60.0)


def test_a_cancelled_job_stops_where_it_runs(world: World) -> None:
    """At once, not when its worker happens to talk to the server again."""
    join(world, "n1")
    job = submit(world, "ok", "5000", "10")
    worker = world.workers[runner(world)]
    world.reactor.advance(3.0)
    act(world, lambda server, call: server.jobs.cancel(call, ids.show(job), "enough"))
    world.until(lambda: not worker.processes.running(), within=45.0)
    assert state(world, job) == "cancelled"
    world.until(lambda: worker.quiet, within=10.0)


def test_an_upload_that_is_stuck_holds_no_heartbeat_up(world: World) -> None:
    """Its connection is dead and nobody knows; the session goes on and the lease of the result is kept."""
    join(world, "n1")
    job = submit(world, "ok", "5", "300000")
    worker = world.workers[runner(world)]
    agent = worker.agent
    assert agent is not None
    session = agent.link.session
    assert session is not None
    turns = session.turns
    world.until(lambda: len(world.network.links_of("n1")) == 2)
    world.network.cut(world.network.links_of("n1")[-1], tell=[])
    world.reactor.advance(3 * world.plan.heartbeat_time)
    assert agent.link.session is session
    assert session.turns > turns + 5
    world.until(lambda: state(world, job) == "succeeded", within=400.0)
    assert world.attempts(job) == 1


def test_a_result_that_was_told_to_nobody_survives_its_worker(world: World) -> None:
    """It is sent into a cut network, and then the worker is killed: the next one finds it in the spool."""
    join(world, "n1")
    job = submit(world, "ok", "30", "1000")
    runner(world)
    world.reactor.advance(28.0)
    world.network.partition("n1", "s")
    world.reactor.advance(10.0)
    world.workers["n1"].kill(away=5.0)
    world.network.heal()
    world.until(lambda: state(world, job) == "succeeded", within=200.0)
    assert world.oracle.rows("SELECT accepted FROM finished WHERE id = ?", job) == [(1,)]


def test_a_job_on_its_way_to_a_worker_that_leaves_comes_back_and_counts_against_nobody(world: World) -> None:
    """Word of that worker's end and the job pass each other: the attempt is spent, but nothing has begun."""
    first, second = world.workers["n1"], world.workers["n2"]
    first.kind = replace(ALL, time_left=100.0)
    join(world, "n1")
    job = submit(world, "ok", "200", "10", need=Amounts(cores=1))
    world.until(lambda: first.processes.running())
    join(world, "n2")
    world.until(lambda: world.attempts(job) == 2)
    assert second.agent is not None
    second.agent.leave("SIGTERM")
    first.kind = ALL
    world.until(lambda: state(world, job) == "succeeded", within=600.0)
    told = world.oracle.rows("SELECT outcome, message FROM attempts WHERE job = ? ORDER BY number", job)
    assert [outcome for outcome, _ in told] == ["walltime", "preempted", "ok"]
    assert "SIGTERM" in told[1][1]
    assert world.oracle.rows("SELECT failures, losses FROM finished WHERE id = ?", job) == [(0, 0)]


def test_a_worker_whose_time_is_nearly_over_is_given_nothing_from_that_moment(world: World) -> None:
    """A job that keeps checkpoints may begin where its walltime does not fit, but not to be ended at once."""
    world.workers["n1"].kind = replace(ALL, time_left=110.0)
    join(world, "n1")
    world.reactor.advance(52.0)  # it begins nothing from 50 on; a turn comes each 20 s
    assert world.workers["n1"].agent is not None
    job = submit(world, "ok", "200", "10", need=Amounts(cores=1), checkpoint=("*.cpt",))
    world.workers["n1"].kind = ALL
    world.until(lambda: world.workers["n1"].agent is None)
    assert (state(world, job), world.attempts(job)) == ("waiting", 0)
    world.until(lambda: state(world, job) == "succeeded", within=600.0)
    assert world.attempts(job) == 1
