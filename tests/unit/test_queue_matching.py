"""Which job goes to which worker: on a real queue, driven by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.outcome import Outcome
from cpc.core.resources import GIB, MIB, Amounts
from cpc.core.spec import JobSpec
from cpc.queue import window
from cpc.queue.requirement import grid, misses, of, profile
from cpc.queue.session import Session
from cpc.server import closing, joining, submission
from cpc.store import projects
from cpc.store.jobs import Range
from cpc.wire.messages import Result
from tests.helpers.benches import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def jobs(bench: Bench, session: Session) -> list[int]:
    return [task.lease.job for task in bench.tasks(session)]


def cancel(bench: Bench, array: int) -> None:
    def unit(tx: object) -> None:
        closing.cancel(bench.queue, tx, array, Range.of(array, False), "", "user:test")  # type: ignore[arg-type]
        bench.queue.round(tx)  # type: ignore[arg-type]

    bench.do(unit)


def maintain(bench: Bench, seconds: float = 0.0) -> None:
    """What the monitor does, after so many seconds of its clock."""
    for _ in range(int(seconds)):
        bench.clock.seconds += 1
        bench.queue.lease_clock.tick(bench.clock.monotonic())

    def unit(tx: object) -> None:
        bench.queue.reserve(tx)  # type: ignore[arg-type]
        bench.queue.round(tx)  # type: ignore[arg-type]

    bench.do(unit)


# --- filling a worker -----------------------------------------------------------------------------------------------------


def test_a_big_worker_runs_one_big_job(bench: Bench) -> None:
    worker = bench.worker(cores=24)
    first = bench.submit("a", need=Amounts(cores=24))
    bench.submit("b", need=Amounts(cores=1))
    assert jobs(bench, worker) == [first]
    bench.check()


def test_a_big_worker_runs_one_half_and_many_small_ones(bench: Bench) -> None:
    half = bench.submit("a", need=Amounts(cores=12))
    small = bench.submit("b", array=20, need=Amounts(cores=1))
    worker = bench.worker(cores=24)
    got = jobs(bench, worker)
    assert half in got
    assert got[1:] == [small + index for index in range(12)]
    assert worker.free.cores == 0
    bench.check()


def test_what_does_not_fit_blocks_nothing_behind_it(bench: Bench) -> None:
    bench.submit("big", need=Amounts(cores=8), priority=10)
    small = bench.submit("small")
    worker = bench.worker(cores=4)
    assert jobs(bench, worker) == [small]
    bench.check()


def test_a_new_job_goes_to_the_worker_that_it_fills_best(bench: Bench) -> None:
    large, small = bench.worker("large", cores=16), bench.worker("small", cores=2)
    array = bench.submit(need=Amounts(cores=2))
    assert jobs(bench, small) == [array]
    assert jobs(bench, large) == []


def test_a_job_is_given_what_it_can_use_of_what_is_free(bench: Bench) -> None:
    worker = bench.worker(cores=8)
    bench.submit("x", need=Amounts(cores=2), max_cores=6)
    bench.submit("y", need=Amounts(cores=2), max_cores=6)
    granted = [task.granted.cores for task in bench.tasks(worker)]
    assert granted == [6, 2]


def test_the_owner_of_a_worker_sets_how_many_cores_a_job_gets(bench: Bench) -> None:
    worker = bench.worker(cores=8, cores_per_job=4)
    bench.submit("x", need=Amounts(cores=1), max_cores=16)  # limited to 4
    bench.submit("y", need=Amounts(cores=1))  # never more than it can use
    bench.submit("z", need=Amounts(cores=3), max_cores=3)
    assert [task.granted.cores for task in bench.tasks(worker)] == [4, 1, 3]


# --- order ----------------------------------------------------------------------------------------------------------------


def test_priority_comes_before_the_order_of_submission(bench: Bench) -> None:
    low, high, middle = (bench.submit(priority=priority) for priority in (0, 5, 3))
    worker = bench.worker(cores=1)
    order = jobs(bench, worker)
    for _ in range(2):
        lease = next(iter(worker.leases.values()))
        bench.report(worker, lease)
        order += jobs(bench, worker)
    assert order == [high, middle, low]


def test_equal_jobs_run_in_the_order_of_submission(bench: Bench) -> None:
    array = bench.submit(array=5)
    later = bench.submit()
    worker = bench.worker(cores=3)
    assert jobs(bench, worker) == [array, array + 1, array + 2]
    bench.report(worker, worker.leases[array])
    bench.report(worker, worker.leases[array + 1])
    assert jobs(bench, worker) == [array + 3, array + 4]
    bench.report(worker, worker.leases[array + 2])
    assert jobs(bench, worker) == [later]


def test_projects_of_equal_priority_take_turns(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    mine = bench.submit(array=8)
    theirs = bench.submit(array=8, project=other)
    worker = bench.worker(cores=8)
    got = [ids.array(job) for job in jobs(bench, worker)]
    assert got.count(mine) == got.count(theirs) == 4


def test_a_project_with_twice_the_weight_gets_twice_as_much(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 2.0)).id
    bench.queue.index.shares.load(other, 0.0, bench.queue.now, 2.0)
    bench.submit(array=30)
    theirs = bench.submit(array=30, project=other)
    worker = bench.worker(cores=12)
    got = [ids.array(job) for job in jobs(bench, worker)]
    assert got.count(theirs) == 8


def test_a_project_that_has_used_much_waits_for_the_others(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    bench.do(lambda tx: bench.queue.index.shares.charge(bench.project, 1e6, bench.queue.now))
    mine, theirs = bench.submit(array=2), bench.submit(array=2, project=other)
    worker = bench.worker(cores=3)
    assert jobs(bench, worker) == [theirs, theirs + 1, mine]


# --- what fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "has", "fits"),
    [
        ({"labels": ("gpu-node",)}, {"labels": ("gpu-node", "x")}, True),
        ({"labels": ("gpu-node",)}, {"labels": ("x",)}, False),
        ({"need": Amounts(cores=1, gpus=2)}, {"total": Amounts(cores=4, gpus=2)}, True),
        ({"need": Amounts(cores=1, gpus=2)}, {"total": Amounts(cores=4, gpus=1)}, False),
        ({"need": Amounts(cores=1, memory=GIB)}, {"total": Amounts(cores=4, memory=GIB)}, True),
        ({"need": Amounts(cores=1, memory=GIB + 1)}, {"total": Amounts(cores=4, memory=GIB)}, False),
        ({"need": Amounts(cores=1, other={"lic": 1})}, {"total": Amounts(cores=4, other={"lic": 1})}, True),
        ({"need": Amounts(cores=1, other={"lic": 2})}, {"total": Amounts(cores=4, other={"lic": 1})}, False),
        ({"executable": "g", "versions": ">=2"}, {"programs": (("g", "2.1"),)}, True),
        ({"executable": "g", "versions": ">=2"}, {"programs": (("g", "1.9"),)}, False),
        ({"executable": "g"}, {"programs": (("h", "1"),)}, False),
        ({"walltime": 100.0}, {"time_left": 200.0}, True),
        ({"walltime": 300.0}, {"time_left": 200.0}, False),
        ({"walltime": 300.0, "checkpoint": ("*.cpt",)}, {"time_left": 200.0}, True),
        ({}, {"time_left": 0.0}, False),
        ({}, {"project": "p"}, True),
        ({}, {"project": "q"}, False),
    ],
)  # fmt: skip
def test_a_worker_gets_only_what_it_can_run(bench: Bench, need: dict, has: dict, fits: bool) -> None:  # type: ignore[type-arg]
    bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0))
    array = bench.submit(**need)
    worker = bench.worker(**has)
    assert jobs(bench, worker) == ([array] if fits else [])
    bench.check()


def test_the_newest_version_that_fits_is_taken(bench: Bench) -> None:
    bench.submit("-v", executable="g", versions="<3")
    worker = bench.worker(programs=(("g", "1.9"), ("g", "2.10"), ("g", "2.9"), ("g", "3.0")))
    assert [task.version for task in bench.tasks(worker)] == ["2.10"]


def test_gpus_and_licences_in_use_are_not_given_twice(bench: Bench) -> None:
    array = bench.submit(array=3, need=Amounts(cores=1, gpus=1, other={"lic": 2}))
    worker = bench.worker(total=Amounts(cores=8, gpus=4, other={"lic": 4}))
    assert jobs(bench, worker) == [array, array + 1]
    bench.report(worker, worker.leases[array])
    assert jobs(bench, worker) == [array + 2]


def test_a_class_never_hides_a_job_that_would_fit() -> None:
    for memory in (0, 1, 31, 32, 1000, 10**9, 10**9 + 7, (10 << 30) - 1):
        assert grid(memory) <= memory
        assert memory < 32 or grid(memory) > memory * 15 / 17
    exact = JobSpec(argv=("x",), need=Amounts(cores=1, memory=10**9 + 7))
    assert misses(of(exact), profile((), (), Amounts(cores=1, memory=10**9 + 7))) == []


def test_of_one_class_the_one_that_fits_is_found_behind_one_that_does_not(bench: Bench) -> None:
    total = Amounts(cores=4, memory=1000 * MIB)
    worker = bench.worker(total=total)
    big = bench.submit("big", need=Amounts(cores=1, memory=1001 * MIB))
    fits = bench.submit("fits", need=Amounts(cores=1, memory=999 * MIB))
    assert of(JobSpec(argv=("x",), need=Amounts(cores=1, memory=1001 * MIB))) == of(
        JobSpec(argv=("x",), need=Amounts(cores=1, memory=999 * MIB))
    )
    assert jobs(bench, worker) == [fits], f"{ids.show(big)} can never run here and must not keep others out"


def test_windows_that_are_smaller_than_the_queue_skip_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cpc.queue.window", "cpc.server.queue"):
        monkeypatch.setattr(f"{name}.CAPACITY", 8)
    monkeypatch.setattr(window, "LOW", 3)
    array = bench.submit(array=50)
    worker = bench.worker(cores=3)
    order = jobs(bench, worker)
    while worker.leases:
        bench.report(worker, next(iter(worker.leases.values())))
        order += jobs(bench, worker)
        bench.check()
    assert order == [array + index for index in range(50)]


# --- reservations ---------------------------------------------------------------------------------------------------------


def starve(bench: Bench) -> tuple[Session, int, int]:
    """A worker that is kept busy by small jobs while a big one waits."""
    small = bench.submit("small", array=100)
    worker = bench.worker(cores=4)
    big = bench.submit("big", need=Amounts(cores=4))
    return worker, small, big


def test_a_big_job_does_not_starve(bench: Bench) -> None:
    worker, _, big = starve(bench)
    started: list[int] = []
    for _ in range(60):
        bench.report(worker, next(iter(worker.leases.values())))
        started += jobs(bench, worker)
        maintain(bench, 60)
        if big in started:
            return
    pytest.fail("the big job never ran")


def test_no_worker_is_reserved_before_the_patience_is_over(bench: Bench) -> None:
    worker, _, _ = starve(bench)
    bench.report(worker, next(iter(worker.leases.values())))
    maintain(bench, bench.queue.limits.patience - 10)
    assert worker.reserved == 0
    maintain(bench, 20)
    assert worker.reserved


def test_higher_priorities_pass_a_reservation(bench: Bench) -> None:
    worker, _, big = starve(bench)
    bench.report(worker, next(iter(worker.leases.values())))
    maintain(bench, 700)
    jobs(bench, worker)
    assert worker.reserved == big
    urgent = bench.submit("urgent", priority=9)
    bench.report(worker, next(iter(worker.leases.values())))
    assert jobs(bench, worker) == [urgent]


def test_a_reservation_ends_with_the_job_and_the_worker_goes_on(bench: Bench) -> None:
    worker, _small, big = starve(bench)
    bench.report(worker, next(iter(worker.leases.values())))
    maintain(bench, 700)
    jobs(bench, worker)
    for _ in range(3):
        bench.report(worker, next(iter(worker.leases.values())))
    assert jobs(bench, worker) == []
    assert worker.free.cores == 3
    cancel(bench, big)
    maintain(bench, 10)
    assert worker.reserved == 0
    assert len(jobs(bench, worker)) == 3, "what was kept free is given to those who wait"
    bench.check()


def test_what_is_left_beside_a_reserved_job_is_given_away_at_once(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    worker = bench.worker(cores=4)
    fillers = bench.submit("filler", array=4)
    jobs(bench, worker)
    big = bench.submit("big", need=Amounts(cores=3))
    bench.report(worker, worker.leases[fillers])
    maintain(bench, 700)
    assert worker.reserved == big
    small = bench.submit("small", project=other)
    assert jobs(bench, worker) == []
    left = [Result(lease=worker.leases[fillers + index], outcome=Outcome.OK, exit_code=0) for index in (1, 2, 3)]
    bench.turn(worker, *left)
    assert jobs(bench, worker) == [big, small]


def test_no_worker_is_kept_free_for_a_job_that_it_can_never_run(bench: Bench) -> None:
    worker = bench.worker(total=Amounts(cores=4, memory=1000 * MIB))
    bench.submit("big", need=Amounts(cores=1, memory=1001 * MIB))
    maintain(bench, 700)
    array = bench.submit("other", array=2)
    maintain(bench, 10)
    assert worker.reserved == 0
    assert jobs(bench, worker) == [array, array + 1]


def test_no_worker_is_kept_free_for_a_job_that_outlasts_it(bench: Bench) -> None:
    worker = bench.worker(cores=4, time_left=5000.0)
    bench.submit("long", walltime=9000.0)
    maintain(bench, 700)
    array = bench.submit("other", array=2)
    maintain(bench, 10)
    assert worker.reserved == 0
    assert jobs(bench, worker) == [array, array + 1]


# --- who takes jobs -------------------------------------------------------------------------------------------------------


def test_a_worker_that_wants_none_or_is_drained_gets_none(bench: Bench) -> None:
    unwilling = bench.worker("unwilling", wants=False)
    drained = bench.worker("drained")
    bench.do(lambda tx: joining.drain(bench.queue, tx, joining.find(tx, "drained"), "repair", True, "user:root"))
    array = bench.submit()
    assert jobs(bench, unwilling) == jobs(bench, drained) == []
    bench.turn(unwilling)
    assert jobs(bench, unwilling) == [array]
    second = bench.submit(need=Amounts(cores=4))

    def unit(tx: object) -> None:
        joining.resume(bench.queue, tx, joining.find(tx, "drained"), "user:root")  # type: ignore[arg-type]
        bench.queue.round(tx)  # type: ignore[arg-type]

    bench.do(unit)
    assert jobs(bench, drained) == [second]


def test_a_priority_change_moves_a_job_forward(bench: Bench) -> None:
    _first, second = bench.submit("a"), bench.submit("b")
    bench.do(lambda tx: submission.prioritise(bench.queue, tx, second, Range.of(second, False), 7))
    worker = bench.worker(cores=1)
    assert jobs(bench, worker) == [second]
    bench.check()


def test_a_failed_job_goes_back_to_its_place_in_the_order(bench: Bench) -> None:
    array = bench.submit(array=3, max_failures=3)
    worker = bench.worker(cores=1)
    assert jobs(bench, worker) == [array]
    bench.report(worker, worker.leases[array], Outcome.FAILED)
    assert jobs(bench, worker) == [array]
    bench.check()
