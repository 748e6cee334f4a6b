"""Lending while things go wrong, and while trust and limits change: nothing is lost, nothing is accepted twice, revoked is
refused."""

from __future__ import annotations

import pytest

from cpc.core import ids
from cpc.core.clock import SECOND
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement, Limits
from cpc.core.views import JobDetail
from cpc.queue.job import State
from cpc.server.principal import SERVER
from cpc.store import workers
from tests.helpers.lending_fixture import Make, chain, make, two
from tests.helpers.lending_world import World

__all__ = ["chain", "make", "two"]


# --- what goes wrong -------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_lost_at_its_home_is_lost_for_the_owner_at_once(two: World) -> None:
    job = two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    worker.beat()
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
    ((lease, task),) = worker.tasks.items()
    worker.finish()
    two.run(1)
    worker.tasks[lease] = task
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


def test_trust_that_ends_between_others_on_the_way_ends_the_work_on_both_sides(chain: World) -> None:
    job = chain["c"].submit("sleep", array=2)
    worker = chain["a"].worker()
    chain.run(1)
    chain.net.revoke("b", "c")
    worker.drive(200)
    assert worker.jobs == []
    assert {reason for _, reason in worker.cancelled} == {"the way to its server is closed: server b does not trust c"}
    assert chain["c"].states(job, 2) == {"waiting": 2}
    assert chain["c"].outcomes(job) == ["preempted"]
    assert chain["a"].queue.index.of_worker(worker.row).free.cores == 2  # type: ignore[union-attr]


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


def test_a_worker_that_was_lost_and_is_back_before_its_owner_could_hear_of_that_goes_on(two: World) -> None:
    job = two["c"].submit("sleep", array=2)
    worker = two["a"].worker(cores=2)
    two.run(1)
    worker.beat()
    two.run(1)
    two.net.silence("a", "c")
    assert worker.connection is not None
    worker.connection.close("the network of the site is down")
    two.run(300)
    first, second = worker.tasks
    del worker.tasks[second]  # this one it has lost meanwhile
    worker.join()
    two.run(5)
    two.net.heal("a", "c")
    worker.drive(150)
    assert two["c"].outcomes(job) == ["runs"]
    assert two["c"].outcomes(job + 1)[0] == "preempted"
    assert first in worker.tasks
    worker.finish(first)
    worker.drive(90, work=10)
    assert two["c"].states(job, 2) == {"succeeded": 2}
    assert two["c"].outcomes(job) == ["ok"]


def test_a_way_that_is_cut_is_suspended_though_its_home_is_heard_of_by_another(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "c")
    world.net.trust("a", "b", ones=Agreement(lend_on=1))
    world.net.trust("b", "c")
    job = world["c"].submit("sleep")
    direct = world["a"].worker(cores=1)
    world.run(1)
    assert direct.jobs == ["1 of c"]
    world.net.cut("a", "c")
    other = world["a"].worker(cores=1)
    world["c"].submit("sleep")
    for _ in range(40):
        world.run(10)
        direct.beat()
        other.beat()
    assert len(other.tasks) == 1  # by way of b
    assert world["c"].outcomes(job) == ["runs"]
    direct.finish()
    world.net.heal("a", "c")
    direct.drive(60)
    assert world["c"].outcomes(job) == ["ok"]


def test_trust_that_ends_on_the_way_ends_what_runs_there_also_after_a_restart(chain: World) -> None:
    job = chain["c"].submit("sleep", array=2)
    chain["a"].worker(cores=2)
    chain.run(1)
    chain["c"].kill()
    chain["c"].start()
    chain["c"].do(lambda tx: chain["c"].lending.revoked(tx, "b", hand_back=True))
    assert chain["c"].states(job, 2) == {"waiting": 2}


def test_a_borrowed_worker_that_is_long_gone_is_forgotten_and_may_come_again(two: World) -> None:
    home, owner = two["a"], two["c"]
    job = owner.submit("sleep", array=2)
    worker = home.worker(cores=1)
    two.run(1)

    def forget(seconds: float) -> int:
        return owner.do(lambda tx: owner.lending.owner.register.forget(tx, tx.now - int(seconds * SECOND), 10))

    def rows() -> list[int]:
        return owner.do(lambda tx: [number for number, _, _ in workers.borrowed(tx)])

    first = rows()
    worker.drive(60)
    assert forget(1) == 0  # it came a minute ago, and runs a job of ours
    worker.finish()
    two.run(1)
    worker.finish()
    two.run(60)
    assert forget(3600) == 0
    assert forget(30) == 1
    assert rows() == []
    assert owner.lending.owner.home_of(first[0]) == ""
    assert owner.outcomes(job) == ["ok"]
    shown = owner.look(owner.jobs.detail(SERVER, ids.show(job, True)))
    assert isinstance(shown, JobDetail)
    assert [(attempt.worker, attempt.outcome) for attempt in shown.history] == [("", "ok")]
    again = owner.submit("sleep")
    two.run(1)
    assert len(worker.tasks) == 1
    assert rows() != first
    owner.kill()
    owner.start()
    worker.finish()
    worker.drive(60)
    assert owner.outcomes(again) == ["ok"]
