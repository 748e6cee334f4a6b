"""A worker of one server runs jobs of another: nothing is lost, nothing runs twice, and own work comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement, Limits
from cpc.queue.job import State
from cpc.server import closing
from cpc.store.jobs import Range
from cpc.wire.messages import Tail
from tests.helpers.lending_world import House, World

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[World] = []

    def build(*names: str) -> World:
        made.append(World(tmp_path, *names))
        return made[-1]

    yield build
    for world in made:
        world.close()


@pytest.fixture
def two(make: Make) -> World:
    """The worker's server `a`, and `c` with the jobs."""
    world = make("a", "c")
    world.net.trust("a", "c")
    return world


@pytest.fixture
def chain(make: Make) -> World:
    """a – b – c, where a lets those behind b use its workers."""
    world = make("a", "b", "c")
    world.net.trust("a", "b", ones=Agreement(lend_on=1))
    world.net.trust("b", "c")
    return world


def cancel(house: House, job: int) -> None:
    def unit(tx: object) -> None:
        closing.cancel(house.queue, tx, ids.array(job), Range(job, job + 1), "not wanted", "user:test")  # type: ignore[arg-type]

    house.do(unit)


# --- the way of the work ---------------------------------------------------------------------------------------------------


def test_an_idle_worker_runs_the_jobs_of_a_peer(two: World) -> None:
    job = two["c"].submit("sleep", array=5)
    worker = two["a"].worker(cores=2)
    two.run(1)
    assert worker.jobs == ["1 of c", "1[1] of c"]
    assert two["c"].states(job, 5) == {"running": 2, "waiting": 3}
    for _ in range(3):
        worker.finish()
        two.run(1)
    assert two["c"].states(job, 5) == {"succeeded": 5}
    assert set(worker.verdicts.values()) == {"accepted"}


def test_a_job_that_comes_later_calls_the_idle_worker(two: World) -> None:
    worker = two["a"].worker()
    two.run(1)
    asked = two.net.count("ask-work")
    two["c"].submit("sleep")
    two.run(1)
    assert worker.jobs == ["1 of c"]
    assert (two.net.count("demand"), two.net.count("ask-work")) == (1, asked + 1)


def test_a_worker_at_one_end_of_a_chain_runs_the_jobs_of_the_other_end(chain: World) -> None:
    worker = chain["a"].worker()
    chain.run(1)
    job = chain["c"].submit("sleep", array=4)
    chain.run(1)
    assert worker.jobs == ["1 of c", "1[1] of c"]
    assert {lease.path for lease in worker.tasks} == {"b/c"}
    worker.finish()
    chain.run(1)
    worker.finish()
    chain.run(1)
    assert chain["c"].states(job, 4) == {"succeeded": 4}


def test_nobody_beyond_the_peer_is_asked_unless_that_is_agreed(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b")
    world.net.trust("b", "c")
    worker = world["a"].worker()
    world["c"].submit("sleep")
    world.run(400)
    assert worker.jobs == []
    assert world.net.messages["b", "c", "ask-work"] == 0


def test_own_work_comes_first_and_a_partly_filled_worker_is_topped_up(two: World) -> None:
    own = two["a"].submit("sleep", array=3)
    theirs = two["c"].submit("sleep", array=3)
    worker = two["a"].worker(cores=4)
    two.run(1)
    assert worker.jobs == ["1", "1 of c", "1[1]", "1[2]"]
    worker.finish(*[lease for lease in worker.tasks if lease.path])
    two["a"].submit("more", array=2)
    two.run(1)
    assert worker.jobs == ["1", "1[1]", "1[2]", "2"]
    worker.finish()
    two.run(1)
    assert worker.jobs == ["1[1] of c", "1[2] of c", "2[1]"]
    worker.finish()
    two.run(1)
    assert two["a"].states(own, 3) == two["c"].states(theirs, 3) == {"succeeded": 3}


def test_peers_are_asked_in_their_order_and_one_that_has_asked_for_help_before_comes_before_the_next_in_line(
    make: Make,
) -> None:
    world = make("a", "c", "d")
    world.net.trust("a", "c")
    world.net.trust("a", "d")
    low = world["d"].submit("sleep", array=9)
    worker = world["a"].worker(cores=1)
    world.run(1)
    assert worker.jobs == ["1 of d"]
    world["c"].submit("sleep")
    world.run(1)
    worker.finish()
    world.run(1)
    assert worker.jobs == ["1 of c"]
    worker.finish()
    world.run(1)
    assert worker.jobs == ["1[1] of d"]
    assert world["d"].states(low, 9)["succeeded"] == 1


def test_a_cancel_reaches_the_worker_over_all_hops(chain: World) -> None:
    job = chain["c"].submit("sleep", array=2)
    worker = chain["a"].worker()
    chain.run(1)
    cancel(chain["c"], job)
    chain.run(1)
    assert [reason for _, reason in worker.cancelled] == ["not wanted"]
    assert worker.jobs == ["1[1] of c"]


def test_live_output_is_followed_over_all_hops(chain: World) -> None:
    job = chain["c"].submit("sleep")
    worker = chain["a"].worker()
    chain.run(1)
    run = chain["c"].queue.index.running[job]
    tails = chain["c"].machines.tails
    tails.follow(run.lease)
    chain.run(1)
    (lease,) = worker.followed
    worker.beat(tails=(Tail(lease=lease, stream="stdout", offset=0, data=b"step 1\n"),))
    chain.run(1)
    assert tails.read(run.lease, "stdout", 0, 100) == (0, b"step 1\n")


# --- what goes wrong -------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_lost_at_its_home_is_lost_for_the_owner_at_once(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    worker.kill()
    two.run(130)
    assert two["c"].state(job) is State.WAITING
    assert two["c"].outcomes(job) == ["lost"]


def test_a_worker_that_comes_back_under_another_boot_has_lost_its_jobs(two: World) -> None:
    job = two["c"].submit("sleep", max_losses=2)
    worker = two["a"].worker()
    two.run(1)
    worker.kill()
    worker.boot = "another"
    worker.join()
    two.run(2)
    assert two["c"].outcomes(job) == ["lost", "runs"]
    assert worker.jobs == ["1 of c"]


def test_a_partition_suspends_the_leases_and_its_end_lets_everything_go_on(chain: World) -> None:
    job = chain["c"].submit("sleep", array=2)
    worker = chain["a"].worker()
    chain.run(1)
    chain.net.silence("b", "c")
    worker.drive(1800)
    assert chain["c"].states(job, 2) == {"running": 2}
    worker.finish()
    chain.run(60)
    assert worker.retried, "the worker keeps what the owner cannot take"
    chain.net.heal("b", "c")
    worker.drive(60)
    assert chain["c"].states(job, 2) == {"succeeded": 2}
    assert chain["c"].outcomes(job) == ["ok"]


def test_after_peer_grace_jobs_run_elsewhere_and_the_late_success_is_accepted_once(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    two.net.cut("a", "c")
    worker.drive(3500)
    assert two["c"].state(job) is State.RUNNING
    worker.drive(300)
    assert two["c"].state(job) is State.WAITING
    other = two["c"].worker()
    two.run(1)
    assert other.jobs == ["1"]
    worker.finish()
    two.net.heal("a", "c")
    worker.drive(60)
    assert two["c"].state(job) is State.SUCCEEDED
    assert set(worker.verdicts.values()) == {"accepted late"}
    assert len(other.cancelled) == 1


def test_the_home_restarts_and_nobody_notices(two: World) -> None:
    job = two["c"].submit("sleep", array=3)
    worker = two["a"].worker(cores=2)
    two.run(1)
    two["a"].kill()
    two.run(20)
    two["a"].start()
    worker.busy = False
    worker.join()
    assert two["a"].queue.index.of_worker(worker.row).free.cores == 0  # type: ignore[union-attr]
    worker.drive(300)
    assert two["c"].states(job, 3) == {"running": 2, "waiting": 1}
    worker.finish()
    two.run(1)
    worker.finish()
    two.run(1)
    assert two["c"].states(job, 3) == {"succeeded": 3}
    assert two["c"].outcomes(job) == ["ok"]


def test_the_owner_restarts_and_nobody_notices(chain: World) -> None:
    job = chain["c"].submit("sleep", array=3)
    worker = chain["a"].worker(cores=2)
    chain.run(1)
    chain["c"].kill()
    worker.drive(100)
    chain["c"].start()
    worker.drive(300)
    assert chain["c"].states(job, 3) == {"running": 2, "waiting": 1}
    worker.finish()
    chain.run(1)
    worker.finish()
    chain.run(1)
    assert chain["c"].states(job, 3) == {"succeeded": 3}
    assert chain["c"].outcomes(job) == ["ok"]


def test_a_relay_restarts_and_nobody_notices(chain: World) -> None:
    job = chain["c"].submit("sleep", array=3)
    worker = chain["a"].worker(cores=2)
    chain.run(1)
    chain["b"].kill()
    worker.finish()
    chain.run(5)
    assert worker.retried
    chain["b"].start()
    worker.drive(60, every=5)
    assert chain["c"].states(job, 3) == {"succeeded": 2, "running": 1}
    worker.finish()
    chain.run(1)
    assert chain["c"].states(job, 3) == {"succeeded": 3}


def test_a_result_that_is_handed_in_twice_is_known(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    (lease,) = worker.tasks
    worker.finish()
    two.run(1)
    worker.tasks[lease] = None  # type: ignore[assignment]
    worker.verdicts.clear()
    worker.finish()
    two.run(1)
    assert worker.verdicts == {lease: "known"}
    assert two["c"].outcomes(job) == ["ok"]


def test_a_failure_is_the_jobs_own_also_far_from_home(two: World) -> None:
    job = two["c"].submit("false", max_failures=2)
    worker = two["a"].worker()
    two.run(1)
    worker.finish(outcome=Outcome.FAILED)
    two.run(1)
    worker.finish(outcome=Outcome.FAILED)
    two.run(1)
    assert two["c"].state(job) is State.FAILED


# --- trust and limits ------------------------------------------------------------------------------------------------------


def test_revoked_trust_ends_the_work_at_once_on_both_sides(two: World) -> None:
    job = two["c"].submit("sleep", array=2)
    worker = two["a"].worker()
    two.run(1)
    two.net.revoke("a", "c")
    two.run(1)
    assert worker.jobs == []
    assert [reason for _, reason in worker.cancelled] == ["the trust in server c has ended"] * 2
    assert two["c"].states(job, 2) == {"waiting": 2}
    assert two["a"].queue.index.of_worker(worker.row).free.cores == 2  # type: ignore[union-attr]
    assert two["c"].queue.index.sessions == {}


def test_a_result_for_a_revoked_server_is_settled_and_goes_nowhere(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    tasks = dict(worker.tasks)
    two.net.revoke("a", "c")
    two.run(1)
    worker.tasks.update(tasks)
    worker.finish()
    two.run(1)
    assert set(worker.verdicts.values()) == {"gone"}
    assert two["c"].state(job) is State.WAITING


@pytest.mark.parametrize(
    ("home", "owner", "expected"),
    [
        (Limits(cores=3), Limits(), 3),
        (Limits(), Limits(cores=2), 2),
        (Limits(off=True), Limits(), 0),
        (Limits(), Limits(off=True), 0),
        (Limits(), Limits(projects=("other",)), 0),
        (Limits(), Limits(projects=("p",)), 8),
        (Limits(executables=("gromacs/mdrun",)), Limits(), 0),
        (Limits(), Limits(executables=("gromacs/mdrun",)), 0),
    ],
)
def test_limits_hold_on_both_sides(make: Make, home: Limits, owner: Limits, expected: int) -> None:
    world = make("a", "c")
    world.net.trust("a", "c", Agreement(lent=home), Agreement(accepted=owner))
    job = world["c"].submit("sleep", array=10)
    workers = [world["a"].worker(cores=4), world["a"].worker(cores=4)]
    world.run(10)
    assert sum(len(worker.jobs) for worker in workers) == expected
    for _ in range(2):
        for worker in workers:
            if worker.jobs:
                worker.finish()
            world.run(1)
        assert sum(len(worker.jobs) for worker in workers) <= expected
    assert world["c"].states(job, 10).get("succeeded", 0) <= 2 * expected


def test_a_program_that_is_named_in_the_limits_is_lent(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c", Agreement(lent=Limits(executables=("gromacs/mdrun",))))
    world["c"].submit("md", executable="gromacs/mdrun")
    world["c"].submit("plain")
    worker = world["a"].worker(cores=4, programs=(("gromacs/mdrun", "2022.5"), ("other", "1")))
    world.run(1)
    assert worker.jobs == ["1 of c"]


def test_a_denied_server_gets_nothing_by_any_way(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b", Agreement(lend_on=1, denied=("c",)))
    world.net.trust("b", "c")
    world["c"].submit("sleep")
    worker = world["a"].worker()
    world.run(10)
    assert worker.jobs == []


def test_a_worker_that_does_not_know_paths_is_not_lent(two: World) -> None:
    two["c"].submit("sleep")
    worker = two["a"].worker(paths=False)
    two.run(1)
    assert worker.jobs == []
