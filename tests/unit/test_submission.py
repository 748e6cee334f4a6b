"""What people do to the queue: submit, make jobs wait for others, cancel, retry, re-prioritise. On both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cpc.core import ids
from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.core.spec import Dependency, JobSpec
from cpc.server import closing, settling, submission
from cpc.store import arrays, dependencies, jobs, projects, schema
from cpc.store.jobs import Range
from cpc.wire.messages import Result
from tests.helpers.benches import Bench
from tests.helpers.stores import result


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    made = Bench(url=database_url)
    yield made
    made.close()


def act(bench: Bench, unit: Callable[[Any], Any]) -> Any:
    """One unit, with the round that follows it."""

    def whole(tx: Any) -> Any:
        value = unit(tx)
        bench.queue.round(tx)
        return value

    value = bench.do(whole)
    bench.check()
    return value


def cancel(bench: Bench, number: int, element: bool = False, reason: str = "") -> int:
    which = Range.of(number, element)
    return act(bench, lambda tx: closing.cancel(bench.queue, tx, ids.array(number), which, reason, "user:t"))  # type: ignore[no-any-return]


def retry(bench: Bench, number: int, element: bool = False) -> int:
    which = Range.of(number, element)
    return act(bench, lambda tx: submission.retry(bench.queue, tx, ids.array(number), which, "user:t"))  # type: ignore[no-any-return]


def run_all(bench: Bench, outcome: Outcome = Outcome.OK, worker: str = "w") -> list[int]:
    """Run whatever can run until nothing more comes; in which order."""
    session = bench.queue.index.of_worker(worker) if isinstance(worker, int) else None
    session = session or bench.worker(worker, cores=4)
    order = []
    while session.leases:
        lease = next(iter(session.leases.values()))
        order.append(lease.job)
        bench.report(session, lease, outcome)
        bench.check()
    return order


def after(bench: Bench, job: int, element: int | None = None, on: str = "success", pairwise: bool = False) -> Any:
    shown = ids.show(job + (element or 0), element is not None)
    return Dependency(job=shown, on=on, pairwise=pairwise)  # type: ignore[arg-type]


# --- submitting -----------------------------------------------------------------------------------------------------------


def test_a_submission_is_on_record_with_its_jobs(bench: Bench) -> None:
    array = bench.submit("echo", "{index}", array=3, name="e")
    assert bench.states(array, 3) == ["waiting"] * 3
    row = bench.do(lambda tx: arrays.get(tx, array))
    assert row is not None
    assert (row.size, row.open, row.elements, row.name, row.command) == (3, 3, True, "e", "echo '{index}'")
    bench.check()


def test_each_element_gets_its_own_arguments(bench: Bench) -> None:
    bench.submit("run", "{index}", array=3)
    worker = bench.worker()
    assert [task.argv for task in bench.tasks(worker)] == [("run", "0"), ("run", "1"), ("run", "2")]


def test_bad_input_changes_nothing(bench: Bench) -> None:
    before = bench.count(schema.arrays), bench.count(schema.classes), bench.count(schema.events)
    for fields in ({"array": -1}, {"priority": 99}, {"need": Amounts(cores=0)}, {"max_failures": 0}):
        with pytest.raises(BadInput):
            bench.submit("x", **fields)
    with pytest.raises(NotFound):
        bench.submit("x", after=(Dependency(job="77"),))
    assert (bench.count(schema.arrays), bench.count(schema.classes), bench.count(schema.events)) == before
    bench.check()


def test_a_submission_that_is_undone_leaves_its_class_to_nobody(bench: Bench) -> None:
    """The number of a class that was made in a batch that failed is used again, for another class."""

    def guilty(tx: Any) -> None:
        spec = JobSpec(argv=("x",), need=Amounts(cores=4))
        submission.submit(bench.queue, tx, bench.project, 1, "user:t", spec)
        raise RuntimeError("after writing")

    with pytest.raises(RuntimeError):
        bench.do(guilty)
    array = bench.submit("small", need=Amounts(cores=1))
    worker = bench.worker(cores=2)
    assert [task.lease.job for task in bench.tasks(worker)] == [array]
    bench.check()


def test_jobs_survive_a_restart_in_their_order(bench: Bench) -> None:
    low, high = bench.submit("a", array=3), bench.submit("b", priority=3)
    bench.restart()
    bench.check()
    worker = bench.worker(cores=4)
    assert [task.lease.job for task in bench.tasks(worker)] == [high, low, low + 1, low + 2]


# --- waiting for others ---------------------------------------------------------------------------------------------------


def test_a_job_waits_for_the_whole_of_another(bench: Bench) -> None:
    first = bench.submit(array=3)
    second = bench.submit(array=2, after=(after(bench, first),))
    assert bench.states(second, 2) == ["blocked"] * 2
    assert run_all(bench) == [first, first + 1, first + 2, second, second + 1]


def test_a_job_waits_for_one_element(bench: Bench) -> None:
    first = bench.submit(array=3)
    second = bench.submit(after=(after(bench, first, 1),))
    worker = bench.worker(cores=3)
    bench.report(worker, worker.leases[first])
    assert bench.state(second).label == "blocked"
    bench.report(worker, worker.leases[first + 1])
    assert bench.state(second).label == "running"
    bench.check()


def test_a_job_waits_for_element_zero_only(bench: Bench) -> None:
    first = bench.submit(array=3)
    second = bench.submit(after=(after(bench, first, 0),))
    worker = bench.worker(cores=3)
    bench.report(worker, worker.leases[first])
    assert bench.state(second).label == "running"


def test_pairs_run_as_their_first_halves_end(bench: Bench) -> None:
    first = bench.submit(array=3)
    second = bench.submit(array=3, after=(after(bench, first, pairwise=True),))
    worker = bench.worker(cores=3)
    bench.report(worker, worker.leases[first + 2])
    assert bench.states(second, 3) == ["blocked", "blocked", "running"]
    bench.report(worker, worker.leases[first])
    bench.report(worker, worker.leases[first + 1])
    assert bench.states(second, 3) == ["running"] * 3
    assert bench.count(schema.dependencies) == 0
    bench.check()


def test_two_dependencies_must_both_be_met(bench: Bench) -> None:
    one, two = bench.submit("a"), bench.submit("b")
    third = bench.submit("c", after=(after(bench, one), after(bench, two)))
    worker = bench.worker(cores=2)
    bench.report(worker, worker.leases[one])
    assert bench.state(third).label == "blocked"
    bench.report(worker, worker.leases[two])
    assert bench.state(third).label == "running"


def test_what_can_never_run_is_cancelled_all_the_way_down(bench: Bench) -> None:
    one = bench.submit("a")
    two = bench.submit("b", after=(after(bench, one),))
    three = bench.submit("c", array=2, after=(after(bench, two),))
    always = bench.submit("d", after=(after(bench, two, on="end"),))
    worker = bench.worker(cores=1)
    bench.report(worker, worker.leases[one], Outcome.FAILED)
    assert bench.state(two).label == "cancelled"
    assert bench.states(three, 2) == ["cancelled"] * 2
    assert bench.state(always).label == "running"
    assert bench.count(schema.dependencies) == 0
    bench.check()


def test_after_the_end_means_however_it_ended(bench: Bench) -> None:
    one = bench.submit("a")
    two = bench.submit("b", after=(after(bench, one, on="end"),))
    worker = bench.worker()
    bench.report(worker, worker.leases[one], Outcome.FAILED)
    assert bench.state(two).label == "running"


def test_a_dependency_that_is_met_already_blocks_nothing(bench: Bench) -> None:
    one = bench.submit("a")
    run_all(bench)
    assert bench.state(bench.submit("b", after=(after(bench, one),))).label == "running"
    assert bench.count(schema.dependencies) == 0


def test_a_dependency_that_failed_already_is_refused(bench: Bench) -> None:
    one = bench.submit("a")
    run_all(bench, Outcome.FAILED)
    with pytest.raises(Conflict, match="did not succeed"):
        bench.submit("b", after=(after(bench, one),))
    assert bench.state(bench.submit("c", after=(after(bench, one, on="end"),))).label == "running"


def test_pairs_must_be_of_one_size_and_not_begun(bench: Bench) -> None:
    three = bench.submit(array=3)
    with pytest.raises(Conflict, match="paired"):
        bench.submit(array=2, after=(after(bench, three, pairwise=True),))
    worker = bench.worker(cores=1)
    bench.report(worker, worker.leases[three])
    with pytest.raises(Conflict, match="ended already"):
        bench.submit(array=3, after=(after(bench, three, pairwise=True),))


def test_nobody_waits_for_a_job_of_another_project(bench: Bench) -> None:
    other = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    theirs = bench.submit(project=other)
    with pytest.raises(NotFound):
        bench.submit(after=(after(bench, theirs),))


def test_open_dependencies_survive_a_restart(bench: Bench) -> None:
    one = bench.submit("a")
    two = bench.submit("b", after=(after(bench, one),))
    bench.restart()
    assert bench.queue.edges == 1
    assert run_all(bench) == [one, two]


# --- cancelling -----------------------------------------------------------------------------------------------------------


def test_cancelling_ends_what_waits_runs_and_is_blocked(bench: Bench) -> None:
    first = bench.submit(array=6)
    second = bench.submit(after=(after(bench, first),))
    worker = bench.worker(cores=2)
    assert cancel(bench, first, reason="enough") == 6
    assert bench.states(first, 6) == ["cancelled"] * 6
    assert bench.state(second).label == "cancelled"
    assert worker.free.cores == 2
    told = [lease.job for orders in bench.orders[worker.number] for lease, _ in orders.cancel]
    assert sorted(told) == [first, first + 1]


def test_cancelling_twice_is_cancelling_once(bench: Bench) -> None:
    first = bench.submit(array=2)
    assert cancel(bench, first) == 2
    assert cancel(bench, first) == 0


def test_one_element_can_be_cancelled(bench: Bench) -> None:
    first = bench.submit(array=3)
    second = bench.submit(after=(after(bench, first, 1),))
    assert cancel(bench, first + 1, element=True) == 1
    assert bench.states(first, 3) == ["waiting", "cancelled", "waiting"]
    assert bench.state(second).label == "cancelled"


def test_cancelling_an_array_settles_who_waits_for_one_of_its_elements(bench: Bench) -> None:
    first = bench.submit(array=3)
    needs = bench.submit("n", after=(after(bench, first, 1),))
    anyhow = bench.submit("a", after=(after(bench, first, 2, on="end"),))
    cancel(bench, first)
    assert bench.state(needs).label == "cancelled"
    assert bench.state(anyhow).label == "waiting"
    assert bench.count(schema.dependencies) == 0


def first_two_succeed(bench: Bench, array: int) -> None:
    """By a worker that then takes no more."""
    worker = bench.worker(cores=2)
    results = [Result(lease=worker.leases[array + index], outcome=Outcome.OK, exit_code=0) for index in range(2)]
    bench.turn(worker, *results, wants=False)


def test_cancelling_the_rest_of_an_array_settles_exactly_the_pairs_of_the_rest(bench: Bench) -> None:
    first = bench.submit(array=4)
    second = bench.submit(array=4, after=(after(bench, first, pairwise=True),))
    first_two_succeed(bench, first)
    assert bench.states(first, 4) == ["succeeded", "succeeded", "waiting", "waiting"]
    cancel(bench, first)
    assert bench.states(second, 4) == ["waiting", "waiting", "cancelled", "cancelled"]
    assert bench.count(schema.dependencies) == 0


def test_cancelling_the_rest_does_not_unblock_a_pair_that_waits_for_another_job_too(bench: Bench) -> None:
    first, gate = bench.submit(array=4), bench.submit("gate", priority=-9)
    second = bench.submit(array=4, after=(after(bench, first, pairwise=True), after(bench, gate)))
    first_two_succeed(bench, first)
    cancel(bench, first)
    assert bench.states(second, 4) == ["blocked"] * 2 + ["cancelled"] * 2


# --- retrying -------------------------------------------------------------------------------------------------------------


def test_a_retry_is_a_fresh_start_with_new_attempts(bench: Bench) -> None:
    array = bench.submit(max_failures=2)
    worker = bench.worker()
    for _ in range(2):
        bench.report(worker, worker.leases[array], Outcome.FAILED)
    assert bench.state(array).label == "failed"
    assert retry(bench, array) == 1
    assert worker.leases[array].attempt == 3
    bench.report(worker, worker.leases[array], Outcome.FAILED)
    assert bench.state(array).label == "running", "nothing of before counts against it"
    bench.report(worker, worker.leases[array])
    assert bench.state(array).label == "succeeded"


def test_only_what_failed_or_was_cancelled_is_retried(bench: Bench) -> None:
    array = bench.submit(array=4)
    worker = bench.worker(cores=1)
    bench.report(worker, worker.leases[array])
    bench.report(worker, worker.leases[array + 1], Outcome.FAILED)
    cancel(bench, array + 3, element=True)
    assert retry(bench, array) == 2
    assert bench.states(array, 4)[0] == "succeeded"
    row = bench.do(lambda tx: arrays.get(tx, array))
    assert row is not None
    assert (row.open, row.succeeded, row.failed, row.cancelled) == (3, 1, 0, 0)


def test_what_runs_or_has_succeeded_cannot_be_retried(bench: Bench) -> None:
    array = bench.submit()
    with pytest.raises(Conflict, match="not finished"):
        retry(bench, array)
    run_all(bench)
    with pytest.raises(Conflict, match="has succeeded"):
        retry(bench, array)


# --- priority -------------------------------------------------------------------------------------------------------------


def test_a_new_priority_holds_for_the_running_when_they_come_back(bench: Bench) -> None:
    array, other = bench.submit("a", array=2, max_failures=9), bench.submit("b", priority=1)
    worker = bench.worker(cores=1)
    assert list(worker.leases) == [other]
    bench.report(worker, worker.leases[other])
    act(bench, lambda tx: submission.prioritise(bench.queue, tx, array, Range.of(array, False), 5))
    later = bench.submit("c", priority=3)
    bench.report(worker, worker.leases[array], Outcome.FAILED)
    assert list(worker.leases) == [array], "it went back with its new priority"
    for _ in range(2):
        bench.report(worker, next(iter(worker.leases.values())))
    assert list(worker.leases) == [later]


def test_a_priority_that_was_not_committed_never_was(bench: Bench) -> None:
    array = bench.submit("a", array=2, max_failures=9)
    worker = bench.worker(cores=1)

    def guilty(tx: Any) -> None:
        submission.prioritise(bench.queue, tx, array, Range.of(array, False), 5)
        raise RuntimeError("after writing")

    with pytest.raises(RuntimeError):
        bench.do(guilty)
    bench.report(worker, worker.leases[array], Outcome.FAILED)
    bench.check()


# --- in one batch ---------------------------------------------------------------------------------------------------------


def test_a_guilty_unit_takes_nobody_with_it(bench: Bench) -> None:
    """Units of one batch are undone together and decided again one by one: the outcome is as if they came alone."""
    array = bench.submit("x", array=2, max_failures=3)
    worker = bench.worker(cores=1)
    lease = worker.leases[array]
    report = Result(lease=lease, outcome=Outcome.FAILED, exit_code=1)
    writer = bench.store.writer
    writer._busy = True  # they gather
    counted = bench.store.write(lambda tx: settling.settle(bench.queue, tx, worker.worker, [report], "worker:w"))

    def guilty(tx: Any) -> None:
        tx.event("x", "x")
        raise RuntimeError("after writing")

    refused = bench.store.write(guilty)
    made = bench.store.write(
        lambda tx: submission.submit(bench.queue, tx, bench.project, 1, "user:t", JobSpec(argv=("y",))).id
    )
    writer._busy = False
    writer._start()
    assert result(counted).settled[0].verdict == "failed"
    with pytest.raises(RuntimeError):
        result(refused)
    assert bench.state(result(made)).label == "waiting"
    bench.check()

    def failures(tx: Any) -> int:
        row = jobs.get(tx, array)
        assert row is not None
        return row.failures

    assert bench.do(failures) == 1, "decided twice, counted once"


def test_what_a_full_round_left_is_not_forgotten_by_a_batch_that_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpc.server.queue.MOST", 2)
    bench.worker(cores=8)
    array = bench.submit(array=6)
    assert bench.queue.more

    def fails(tx: Any) -> None:
        bench.queue.round(tx)
        raise RuntimeError("the database refused it")

    with pytest.raises(RuntimeError):
        bench.do(fails)
    for _ in range(3):
        bench.do(bench.queue.round)
    assert bench.states(array, 6) == ["running"] * 6
    bench.check()


def test_edges_are_counted_as_the_database_has_them(bench: Bench) -> None:
    one = bench.submit("a")

    def guilty(tx: Any) -> None:
        spec = JobSpec(argv=("b",), after=(after(bench, one),))
        submission.submit(bench.queue, tx, bench.project, 1, "user:t", spec)
        raise RuntimeError("after writing")

    with pytest.raises(RuntimeError):
        bench.do(guilty)
    assert bench.queue.edges == bench.do(dependencies.count) == 0
