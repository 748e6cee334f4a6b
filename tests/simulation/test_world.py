"""The whole network under faults, by seed. A failure prints its seed and its story."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.server.principal import SERVER, Call
from tests.simulation import logs
from tests.simulation.network import Faults
from tests.simulation.world import Plan, World, run

BATCH = 10
SEEDS = 180

QUIET = Plan(span=1e9, workers=2, clients=0, mean=1e12, lost_replies=0.0, faults=Faults())


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_acknowledged_is_lost_whatever_happens(first: int) -> None:
    for seed in range(first, first + BATCH):
        world = run(seed)
        if world.broken:
            pytest.fail(world.report(), pytrace=False)
        logs.listen()
        del world
    logs.sweep()


@pytest.mark.parametrize("seed", [3, 8, 31])
def test_the_same_seed_tells_the_same_story(seed: int) -> None:
    one, two = run(seed), run(seed)
    assert one.story.lines == two.story.lines
    assert one.story.digest == two.story.digest
    assert one.reactor.steps == two.reactor.steps


def test_another_seed_tells_another_story() -> None:
    assert run(3).story.digest != run(4).story.digest


# --- stories told by hand -------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> Iterator[World]:
    """A server and two workers; nothing goes wrong by itself."""
    made = World(1, QUIET)
    made.start_server()
    made.until(lambda: made.server is not None and made.server.ready)
    yield made
    made.check()
    heard = list(logs.heard)
    made.close()
    assert made.broken == [] == heard


def submit(world: World, *argv: str, **fields: object) -> int:
    """Submit and be told."""
    spec = JobSpec(argv=("run", *argv), **fields)  # type: ignore[arg-type]
    return world.submit(spec)


def join(world: World, *names: str) -> None:
    for name in names:
        world.workers[name].start()
    world.until(lambda: all(world.joined(name) for name in names))


def runner(world: World) -> str:
    """Where a program runs, as soon as one does."""
    busy: list[str] = []

    def runs() -> bool:
        busy.extend(name for name, worker in world.workers.items() if worker.agent and worker.processes.running())
        return bool(busy)

    world.until(runs)
    return busy[0]


def state(world: World, job: int) -> str:
    return world.state(job).label


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


def test_a_job_that_kills_every_worker_is_stopped(world: World) -> None:
    join(world, "n1", "n2")
    job = submit(world, "poison", "5", max_losses=3)
    world.until(lambda: state(world, job) == "failed", within=3600.0)
    assert world.attempts(job) == 3


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


def test_a_repeated_submission_is_one_submission(world: World) -> None:
    spec = JobSpec(argv=("run", "ok", "1", "1"))
    call = Call(SERVER, "the same key", b"1")
    first = world.call(lambda server: server.jobs.submit(call, "p", spec, False))
    world.kill_server("killed", away=1.0)
    world.until(lambda: world.server is not None and world.server.ready)
    again = world.call(lambda server: server.jobs.submit(call, "p", spec, False))
    assert first == again
    assert world.oracle.rows("SELECT count(*) FROM arrays") == [(1,)]
