"""Stories told by hand: one fault each, and what must come of it."""

from __future__ import annotations

import pytest

from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.server.principal import SERVER, Call
from tests.simulation.by_hand import collected, end, join, quiet, runner, state, submit, world
from tests.simulation.versions import Release
from tests.simulation.world import World

__all__ = ["collected", "world"]


def test_a_machine_that_lost_its_power_comes_back_within_a_heartbeat_time(world: World) -> None:
    """Its connection stays open at the server, which nobody has told; the new agent must not wait for its end."""
    join(world, "n1")
    job = submit(world, "ok", "100", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    world.reactor.advance(10.0)
    world.workers["n1"].kill(power=True, away=5.0)
    world.until(lambda: world.joined("n1", life=2), within=world.plan.heartbeat_time + 65.0)
    world.until(lambda: state(world, job) == "succeeded", within=300.0)


def test_a_restart_of_the_server_is_noticed_by_nobody(world: World) -> None:
    """It is away for an hour; what ran goes on, and is handed in."""
    join(world, "n1")
    job = submit(world, "ok", "600", "300000", array=4)
    world.until(lambda: len(world.workers["n1"].processes.running()) == 4)
    world.kill_server("killed", away=3600.0)
    world.until(lambda: world.server is not None and world.server.ready, within=4000.0)
    world.until(lambda: all(state(world, job + index) == "succeeded" for index in range(4)), within=100.0)
    assert [world.attempts(job + index) for index in range(4)] == [1] * 4


def test_a_job_whose_worker_ended_while_the_server_was_away_is_taken_from_it(world: World) -> None:
    """Although no worker at all is connected: the job waits again, and people are told that it does."""
    join(world, "n1")
    job = submit(world, "ok", "600", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    world.kill_server("killed", away=20.0)
    world.workers["n1"].kill(away=9999.0)
    world.until(lambda: state(world, job) == "waiting", within=3 * world.plan.heartbeat_time)
    assert world.oracle.rows("SELECT outcome FROM attempts WHERE job = ?", job) == [("lost",)]


@pytest.mark.parametrize("how", ["frozen", "its database is away", "its disk is full"])
def test_what_happens_to_the_server_costs_nobody_a_job(world: World, how: str) -> None:
    """Longer than a lease; the time does not count against those who could not be heard."""
    join(world, "n1")
    job = submit(world, "ok", "900", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    if how == "frozen":
        world.server_host.freeze()
        world.reactor.advance(300.0)
        world.server_host.thaw()
    elif how == "its database is away":
        world.trouble.away_until = world.now + 300.0
        world.reactor.advance(300.0)
    else:
        world.trouble.full_until = world.now + 300.0
        for link in world.network.links:
            world.network.cut(link)  # it must say hello again, which has to be written down
        world.reactor.advance(300.0)
    world.until(lambda: state(world, job) == "succeeded", within=1500.0)
    assert world.attempts(job) == 1


def test_a_job_that_kills_every_worker_is_stopped(world: World) -> None:
    join(world, "n1", "n2")
    job = submit(world, "poison", "5", max_losses=3)
    world.until(lambda: state(world, job) == "failed", within=3600.0)
    assert world.attempts(job) == 3


def test_a_worker_that_dies_after_a_turn_that_named_nothing_is_lost_with_its_job(world: World) -> None:
    """It was heard later than it had named the job: that it does not have it would count against nobody."""
    join(world, "n1")
    job = submit(world, "ok", "900", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    brief = submit(world, "ok", "4", "10")
    world.until(lambda: state(world, brief) == "succeeded")
    world.workers["n1"].kill(away=9999.0)
    world.until(lambda: state(world, job) == "waiting", within=3 * world.plan.heartbeat_time)
    assert world.oracle.rows("SELECT outcome FROM attempts WHERE job = ?", job) == [("lost",)]


def test_a_lost_worker_costs_what_came_after_the_last_checkpoint(world: World) -> None:
    join(world, "n1", "n2")
    job = submit(world, "steps", "400", checkpoint=("p.cpt",))
    runs = runner(world)
    world.reactor.advance(200.0)
    began = world.now
    world.workers[runs].kill(away=9999.0)
    world.until(lambda: state(world, job) == "succeeded", within=1000.0)
    assert world.now - began < 200 + 45 + 60 + 30, "not from its beginning"


def test_a_frozen_worker_delivers_late_and_once(world: World) -> None:
    """SIGSTOP for longer than its lease: another one gets the job, the first to deliver wins, the other stops."""
    join(world, "n1", "n2")
    job = submit(world, "ok", "300", "10", need=Amounts(cores=1))
    worker = world.workers[runner(world)]
    world.reactor.advance(250.0)
    worker.host.freeze()
    world.until(lambda: world.attempts(job) == 2, within=200.0)
    worker.host.thaw()
    world.until(lambda: state(world, job) == "succeeded", within=400.0)
    world.until(lambda: all(one.quiet for one in world.workers.values()), within=200.0)
    assert world.attempts(job) == 2
    assert world.oracle.rows("SELECT accepted FROM finished WHERE id = ?", job) == [(1,)]


def test_a_repeated_submission_is_one_submission(world: World) -> None:
    spec = JobSpec(argv=("run", "ok", "1", "1"))
    call = Call(SERVER, "the same key", b"1")
    first = world.call(lambda server: server.jobs.submit(call, "p", spec, False))
    world.kill_server("killed", away=1.0)
    world.until(lambda: world.server is not None and world.server.ready)
    again = world.call(lambda server: server.jobs.submit(call, "p", spec, False))
    assert first == again
    assert world.oracle.rows("SELECT count(*) FROM arrays") == [(1,)]


# --- trust ----------------------------------------------------------------------------------------------------------------


def with_field_worker(**fields: object) -> World:
    """n2 came with a bundle of its own, which can be revoked."""
    made = quiet(**fields)
    made.workers["n2"].bundle = made.field
    join(made, "n1", "n2")
    return made


def test_a_bundle_that_is_revoked_in_mid_flight_puts_its_workers_out_at_once() -> None:
    """One of them is just sending a result: it is not taken any more, and another worker does the job."""
    world = with_field_worker()
    job = submit(world, "big", "30", "9000000", labels=(), need=Amounts(cores=4))
    world.until(lambda: world.workers["n1"].processes.running() or world.workers["n2"].processes.running())
    if world.workers["n1"].processes.running():  # let it be the other one
        world.workers["n1"].kill(away=9999.0)
        world.until(lambda: world.workers["n2"].processes.running(), within=200.0)
    assert world.server is not None
    world.until(lambda: world.workers["n2"].agent.desk.deliveries, within=100.0)  # type: ignore[union-attr]
    world.oracle.revoking("field")
    world.call(lambda server: server.bundles.revoke(Call(SERVER), "field"))
    assert state(world, job) in ("waiting", "running")
    assert all(
        one.peer is None or one.peer.name[:5] != "field" or one.closed for one in world.server.listener.connections
    )
    world.until(lambda: world.workers["n2"].agent is None, within=100.0)
    world.workers["n1"].start()
    world.until(lambda: state(world, job) == "succeeded", within=300.0)
    assert world.oracle.rows("SELECT count(*) FROM attempts WHERE outcome = 'ok'") == [(1,)]
    end(world)


@pytest.mark.parametrize("hours", [30, 3000])
def test_a_certificate_that_expires_in_mid_transfer_is_renewed(hours: int) -> None:
    """By the server's clock, which jumps; the session stays, and the files go on."""
    world = quiet(certificate_time=300.0)
    join(world, "n1")
    job = submit(world, "big", "20", "9000000")
    world.until(lambda: world.workers["n1"].agent.desk.deliveries, within=100.0)  # type: ignore[union-attr]
    world.server_host.clock.offset = hours * 3_600_000_000
    for link in world.network.links:
        world.network.cut(link)
    world.until(lambda: state(world, job) == "succeeded", within=300.0)
    assert world.attempts(job) == 1
    end(world)


def test_a_session_lives_longer_than_its_certificate() -> None:
    world = quiet(certificate_time=300.0)
    join(world, "n1")
    world.reactor.advance(4000.0)
    job = submit(world, "big", "1", "9000000")
    world.until(lambda: state(world, job) == "succeeded", within=100.0)
    assert world.workers["n1"].lives == 1
    end(world)


# --- a server that remembers less -------------------------------------------------------------------------------------------


def test_numbers_of_a_lost_life_do_not_match(world: World) -> None:
    """The backup knows the job and not its first attempt; a second first attempt runs when the other's result comes."""
    job = submit(world, "ok", "100", "300000")
    world.back_up()
    join(world, "n1")
    world.until(lambda: world.workers["n1"].processes.running())
    world.network.partition("n1", "s")
    world.reactor.advance(5.0)
    world.restore()
    world.until(lambda: world.server is not None and world.server.ready, within=200.0)
    join(world, "n2")
    world.until(lambda: world.workers["n2"].processes.running(), within=100.0)
    world.until(lambda: world.workers["n1"].agent.desk.deliveries, within=200.0)  # type: ignore[union-attr]
    world.network.heal()
    world.until(lambda: state(world, job) == "succeeded", within=300.0)
    world.until(lambda: world.workers["n1"].quiet, within=200.0)
    assert world.oracle.verdicts["quarantined"] == 1
    assert world.oracle.rows("SELECT number, incarnation, outcome FROM attempts WHERE job = ?", job) == [(1, 2, "ok")]
    assert world.oracle.rows("SELECT count(*) FROM results WHERE job = ? AND number < 0 AND NOT used", job) == [(1,)]


def test_what_a_job_has_done_that_a_restore_has_undone_is_kept_at_its_worker(world: World) -> None:
    """It was submitted after the backup was made; its result comes to a server that has never heard of it."""
    world.back_up()
    submit(world, "ok", "100", "300000")
    join(world, "n1")
    world.until(lambda: world.workers["n1"].processes.running())
    world.network.partition("n1", "s")
    world.restore()
    world.until(lambda: world.server is not None and world.server.ready, within=200.0)
    world.until(lambda: world.workers["n1"].agent.desk.deliveries, within=200.0)  # type: ignore[union-attr]
    world.network.heal()
    world.until(lambda: world.oracle.verdicts["kept aside"], within=300.0)
    world.until(lambda: world.workers["n1"].quiet, within=200.0)
    worker = world.workers["n1"].agent
    assert worker is not None
    assert worker._aside.count() == 1
    assert worker.left_behind == 0
    (told,) = world.oracle.rows("SELECT count(*) FROM events WHERE kind = 'result.unknown'")
    assert told == (1,)


def test_a_restored_server_lets_workers_in_that_it_never_saw(world: World) -> None:
    world.back_up()
    join(world, "n1")
    world.restore()
    job = -1

    def submitted() -> bool:
        return world.server is not None and world.server.ready

    world.until(submitted, within=200.0)
    job = submit(world, "ok", "1", "10")
    world.until(lambda: state(world, job) == "succeeded", within=300.0)


# --- races with the end -----------------------------------------------------------------------------------------------------


def test_a_result_that_comes_after_its_job_was_forgotten_is_gone_and_leaves_nothing(world: World) -> None:
    join(world, "n1", "n2")
    job = submit(world, "ok", "50", "300000")
    name = runner(world)
    world.network.partition(name, "s")
    world.until(lambda: world.workers[name].agent.desk.deliveries, within=100.0)  # type: ignore[union-attr]
    world.oracle.known[job].cancelled.add(job)
    world.oracle.known[job].forgotten = True
    world.call(lambda server: server.jobs.cancel(Call(SERVER, "c"), "1", "enough"))
    world.call(lambda server: server.jobs.forget(Call(SERVER, "f"), "1"))
    world.until(lambda: not world.oracle.rows("SELECT id FROM arrays WHERE id = ?", job), within=100.0)
    world.network.heal()
    world.until(lambda: world.workers[name].quiet, within=200.0)
    assert world.oracle.verdicts["gone"] == 1
    assert world.oracle.rows('SELECT count(*) FROM "references" WHERE kind = 2') == [(0,)]


def test_a_deleted_project_takes_its_running_jobs_with_it(world: World) -> None:
    join(world, "n1")
    job = submit(world, "ok", "500", "10")
    world.until(lambda: world.workers["n1"].processes.running())
    world.oracle.known[job].cancelled.add(job)
    world.oracle.known[job].forgotten = True
    world.call(lambda server: server.projects.delete(Call(SERVER, "d"), "p"))
    world.until(lambda: not world.workers["n1"].processes.running(), within=100.0)
    world.until(lambda: not world.oracle.rows("SELECT id FROM arrays"), within=200.0)
    assert world.oracle.rows("SELECT count(*) FROM attempts") == [(0,)]


# --- workers that come and go -----------------------------------------------------------------------------------------------


def test_a_worker_that_comes_under_a_new_name_does_not_hold_two_jobs_worth_of_room(world: World) -> None:
    """The server counts on the old one until its lease is over; the job then runs once more, and ends once."""
    join(world, "n1")
    job = submit(world, "ok", "100", "10")
    worker = world.workers["n1"]
    world.until(lambda: worker.processes.running())
    worker.kill(away=0.5)
    worker.lose_key()
    world.until(lambda: world.joined("n1", life=2))
    assert world.oracle.rows("SELECT count(*) FROM workers") == [(2,)]
    world.until(lambda: state(world, job) == "succeeded", within=400.0)
    assert world.attempts(job) == 2


def test_an_allocation_that_ends_at_once_again_and_again_blames_no_job(world: World) -> None:
    """Each of its lives ends before the job does; none of them counts as the job's failure."""
    join(world, "n1")
    worker = world.workers["n1"]
    job = submit(world, "ok", "60", "10", max_losses=50)
    worker.flaps_until = world.now + 60.0
    worker.kill(away=1.0)
    world.reactor.advance(60.0)
    assert worker.lives > 5
    assert state(world, job) in ("waiting", "running")
    world.until(lambda: state(world, job) == "succeeded", within=600.0)
    assert world.oracle.rows("SELECT failures FROM finished WHERE id = ?", job) == [(0,)]


def test_a_log_whose_tail_is_zeros_keeps_what_was_safe(world: World) -> None:
    """The file system had noted the length, and the power went before the bytes were there."""
    join(world, "n1")
    first = submit(world, "ok", "1", "10")
    worker = world.workers["n1"]
    world.until(lambda: worker.processes.running())
    world.network.partition("n1", "s")
    world.until(lambda: first in {lease.job for lease in world.oracle.kept()}, within=100.0)
    (log,) = [name for name in worker.platter.names if name.endswith("spool.log")]
    worker.platter.names[log].data += b"\x89CPCs half a frame"
    worker.kill(power=True, away=5.0, zeros=True)
    assert worker.platter.names[log].data.endswith(bytes(16))
    world.network.heal()
    world.until(lambda: state(world, first) == "succeeded", within=300.0)
    assert world.attempts(first) == 1


# --- releases ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [Release.OLDER, Release.NEWER])
def test_workers_of_other_releases_do_their_work(release: Release) -> None:
    world = quiet(mixed=True)
    for worker in world.workers.values():
        worker.release = release
    join(world, "n1", "n2")
    jobs = [submit(world, "ok", "5", "300000", array=4), submit(world, "steps", "100", checkpoint=("p.cpt",))]
    world.until(lambda: all(state(world, job) == "succeeded" for job in jobs), within=400.0)
    running = submit(world, "ok", "500", "10")
    world.until(lambda: state(world, running) == "running")
    world.oracle.known[running].cancelled.add(running)
    world.call(lambda server: server.jobs.cancel(Call(SERVER, "x"), str(3), "enough"))
    world.until(lambda: all(worker.quiet for worker in world.workers.values()), within=100.0)
    assert world.oracle.rows("SELECT outcome FROM attempts WHERE job = ?", running) == [("cancelled",)]
    end(world)
