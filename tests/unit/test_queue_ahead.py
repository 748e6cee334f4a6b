"""Brief jobs go to workers ahead of their room; nothing of higher rank, no idle worker and no long job pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.chance import SeededChance
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.core.views import JobDetail
from cpc.queue.job import State
from cpc.queue.match import AHEAD, FARTHEST
from cpc.queue.pace import KEPT, Pace
from cpc.queue.session import Session
from cpc.server import joining, settling
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.principal import SERVER
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.worker.agent import PATIENCE
from tests.helpers.benches import Bench
from tests.helpers.disks import FakeDisk
from tests.helpers.stores import InlineThreads, result


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.check()
    made.close()


def brief(bench: Bench, worker: Session, seconds: float = 0.1, size: int = 100, **fields: object) -> int:
    """A submission of which two jobs have run so long; the worker has been told of nothing since."""
    array = bench.submit(array=size, **fields)
    for lease in list(worker.leases.values())[:2]:
        bench.report(worker, lease, wall_seconds=seconds)
    bench.tasks(worker)
    return array


def begun(worker: Session) -> list[int]:
    return [ids.index(job) for job in worker.leases if job not in worker.ahead]


def ahead(worker: Session) -> list[int]:
    return [ids.index(job) for job in worker.ahead]


def test_a_full_worker_is_given_half_a_second_of_brief_jobs_ahead(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    brief(bench, worker, seconds=0.1)
    assert begun(worker) == [2, 3]
    assert ahead(worker) == list(range(4, 4 + int(2 * AHEAD / 0.1)))
    assert worker.free.cores == 0


@pytest.mark.parametrize(
    ("way", "seconds"), [(0.0, AHEAD), (0.1, AHEAD), (0.3, 0.85), (9.0, FARTHEST), (1e12, FARTHEST)]
)
def test_who_is_far_away_is_given_what_it_does_until_more_can_come(bench: Bench, way: float, seconds: float) -> None:
    worker = bench.worker(cores=2, ahead=50)
    worker.way = way
    brief(bench, worker, seconds=0.1)
    assert len(ahead(worker)) == round(2 * seconds / 0.1)


def test_a_job_given_ahead_does_not_wait_until_its_worker_gives_it_back() -> None:
    assert FARTHEST < PATIENCE


def test_what_the_slots_that_long_jobs_have_cannot_do_is_not_counted_on(bench: Bench) -> None:
    worker = bench.worker(cores=8, ahead=50)
    bench.submit("long", array=7, priority=5)
    array = bench.submit(array=100)
    for _ in range(2):
        lease = next(
            lease for job, lease in worker.leases.items() if ids.array(job) == array and job not in worker.ahead
        )
        bench.report(worker, lease, wall_seconds=0.1)
    assert len(ahead(worker)) == int(1 * AHEAD / 0.1)


def test_a_worker_that_does_not_ask_for_it_is_given_nothing_ahead(bench: Bench) -> None:
    worker = bench.worker(cores=2)
    brief(bench, worker)
    assert (len(begun(worker)), ahead(worker)) == (2, [])


def test_never_more_than_the_worker_takes(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=3)
    brief(bench, worker, seconds=0.001)
    assert len(ahead(worker)) == 3


@pytest.mark.parametrize("seconds", [0.0, AHEAD * 1.1, 3600.0])
def test_jobs_of_unknown_or_long_duration_are_not_given_ahead(bench: Bench, seconds: float) -> None:
    worker = bench.worker(cores=2, ahead=50)
    brief(bench, worker, seconds=seconds)
    assert ahead(worker) == []


def test_when_one_ends_the_next_begins_as_at_the_worker(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    array = brief(bench, worker)
    bench.report(worker, worker.leases[array + 3], wall_seconds=0.1)
    assert begun(worker) == [2, 4]
    assert [task.lease.job - array for task in bench.tasks(worker)] == [14]  # as many ahead as before


def test_what_is_ahead_begins_in_order_also_when_a_later_one_would_fit(bench: Bench) -> None:
    worker = bench.worker(cores=4, ahead=50)
    small = brief(bench, worker, size=4, need=Amounts(cores=1))
    for lease in list(worker.leases.values()):
        bench.report(worker, lease, wall_seconds=0.1)
    big = bench.submit(array=8, need=Amounts(cores=3))
    bench.report(worker, worker.leases[big], wall_seconds=0.1)
    assert begun(worker) == [1]
    more = bench.submit("more")
    assert not bench.tasks(worker)[-1:] or more not in worker.leases  # one core is free, and kept for what is ahead
    assert bench.state(small) is State.SUCCEEDED


def test_a_worker_with_room_is_given_the_job_before_another_has_it_ahead(bench: Bench) -> None:
    busy = bench.worker("busy", cores=2, ahead=50)
    brief(bench, busy, size=8)
    idle = bench.worker("idle", cores=4)
    bench.report(busy, next(iter(busy.leases.values())), wall_seconds=0.1)
    assert len(busy.leases) + len(idle.leases) == 5
    other = bench.submit(array=3)
    assert all(other + index in idle.leases for index in range(2))


def test_nothing_is_given_ahead_of_a_job_that_should_have_the_room(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    array = brief(bench, worker)
    urgent = bench.submit("long", priority=5)
    waiting = len(ahead(worker))
    for _ in range(waiting + 2):
        lease = next(lease for job, lease in worker.leases.items() if job not in worker.ahead)
        bench.report(worker, lease, wall_seconds=0.1)
        if urgent in worker.leases:
            break
    assert urgent in worker.leases
    assert urgent not in worker.ahead
    assert bench.state(array + 99) is State.WAITING


def test_a_job_that_can_never_run_there_holds_nobody_up(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    bench.submit("big", priority=5, need=Amounts(cores=8))
    brief(bench, worker)
    assert len(ahead(worker)) == 10


def test_a_drained_or_reserved_worker_is_given_nothing_ahead(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    array = brief(bench, worker, seconds=0.1, size=12)
    assert len(ahead(worker)) == 8
    for job in list(worker.ahead):
        bench.report(worker, worker.leases[job], Outcome.PREEMPTED)
    assert ahead(worker) == []  # it found no room in time: the submission is not thought brief any more
    bench.do(lambda tx: joining.drain(bench.queue, tx, joining.find(tx, "w"), "repair", True, "user:t"))
    bench.report(worker, worker.leases[array + 2], wall_seconds=0.1)
    assert (begun(worker), ahead(worker)) == ([3], [])


def test_one_that_never_began_is_no_loss_of_the_job(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    array = brief(bench, worker, max_losses=1)
    runs = list(bench.queue.each_running())
    bench.do(lambda tx: settling.lost(bench.queue, tx, runs, "silent"))
    assert [bench.state(array + index).label for index in (2, 3, 4, 13)] == ["failed", "failed", "waiting", "waiting"]


def test_after_a_restart_the_worker_still_has_them_ahead(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    brief(bench, worker)
    leases = tuple(worker.leases.values())
    bench.restart()
    worker = bench.worker(cores=2, ahead=50, holds=leases)
    assert bench.dropped == ()
    assert (begun(worker), len(ahead(worker))) == ([2, 3], 10)
    assert worker.free.cores == 0


def test_only_time_that_a_program_ran_is_charged(bench: Bench) -> None:
    worker = bench.worker(cores=2, ahead=50)
    brief(bench, worker, size=12)
    bench.clock.seconds += 100
    while worker.leases:
        bench.report(worker, next(iter(worker.leases.values())), wall_seconds=0.1)
    assert 0 < bench.queue.index.shares.usage(bench.project, bench.queue.now) <= 10 * 0.1 + 1e-6


def test_pace_believes_long_times_at_once_and_short_ones_slowly() -> None:
    pace = Pace()
    assert pace.of(1) is None
    pace.note(1, 0.1)
    pace.note(1, 10.0)
    assert pace.of(1) == 10.0
    pace.note(1, 0.1)
    assert 7.0 < (pace.of(1) or 0) < 8.0
    for _ in range(20):
        pace.note(1, 0.1)
    assert (pace.of(1) or 1) < AHEAD
    for array in range(2, KEPT + 3):
        pace.note(array, 1.0)
    assert pace.of(1) is None


# --- what people see of it ---


def people(bench: Bench) -> Jobs:
    gate = Gate(bench.store, Seal(b"key", SeededChance(1)))
    storage = Storage(FakeDisk(bench.clock.now), InlineThreads(), bench.reactor, lambda: 0)
    return Jobs(bench.store, gate, bench.queue, storage, lambda array: None)


def shown(bench: Bench, job: int) -> JobDetail:
    found = result(ensureDeferred(as_coroutine(people(bench).detail(SERVER, ids.show(job, True)))))
    assert isinstance(found, JobDetail)
    return found


async def as_coroutine(awaitable: Any) -> Any:
    return await awaitable


def test_a_job_that_waits_at_its_worker_says_so(bench: Bench) -> None:
    worker = bench.worker("w", cores=2, ahead=50)
    array = brief(bench, worker)
    begins, waits = array + 2, next(iter(worker.ahead))
    assert [(shown(bench, job).state, shown(bench, job).waits_for_room) for job in (begins, waits)] == [
        ("running", False), ("running", True),
    ]  # fmt: skip
    page = result(ensureDeferred(as_coroutine(
        people(bench).page(SERVER, None, states=("running",), name="", array="", since=0, after="", limit=100)
    )))  # fmt: skip
    assert {view.id for view in page.items if view.waits_for_room} == {ids.show(job, True) for job in worker.ahead}
    why = [
        result(ensureDeferred(as_coroutine(people(bench).why(SERVER, ids.show(job, True))))) for job in (begins, waits)
    ]
    assert [one.reasons[0].kind for one in why] == ["running", "placed"]
    assert "worker w, and waits for room there" in why[1].reasons[0].text
    bench.report(worker, worker.leases[begins], wall_seconds=0.1)
    assert not shown(bench, waits).waits_for_room


def test_the_time_of_a_job_is_what_its_program_ran_however_long_the_server_was_away(bench: Bench) -> None:
    worker = bench.worker("w", cores=1)
    job = bench.submit(array=1)
    assert shown(bench, job).wall_seconds is None
    bench.clock.seconds += 600
    bench.report(worker, worker.leases[job], wall_seconds=2.5)
    found = shown(bench, job)
    assert found.wall_seconds == 2.5
    assert found.ended is not None
    assert found.started is not None
    assert found.ended - found.started >= 600_000_000
