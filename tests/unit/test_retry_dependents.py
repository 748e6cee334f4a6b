"""A retry of jobs that wait for others, and of jobs that others wait for. On both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.errors import NotFound
from cpc.core.outcome import Outcome
from cpc.store import dependencies, history
from tests.helpers.benches import Bench
from tests.unit.test_submission import after, cancel, retry, run_all


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    made = Bench(url=database_url)
    yield made
    made.check()
    made.close()


def labels(bench: Bench, *jobs: int) -> list[str]:
    return [bench.state(job).label for job in jobs]


def blockers(bench: Bench, *found: int) -> list[int]:
    from cpc.store import jobs

    rows = [bench.do(lambda tx, one=one: jobs.get(tx, one)) for one in found]  # type: ignore[misc]
    return [-1 if row is None else row.blockers for row in rows]


def test_a_retried_job_waits_for_what_has_not_ended(bench: Bench) -> None:
    first, other = bench.submit("a"), bench.submit("b")
    last = bench.submit("c", after=(after(bench, first), after(bench, other)))
    cancel(bench, last)
    assert bench.queue.edges == bench.do(dependencies.count) == 0, "what has ended waits for nothing"
    retry(bench, last)
    assert labels(bench, last) == ["blocked"]
    assert blockers(bench, last) == [2]
    assert run_all(bench) == [first, other, last]


def test_what_an_earlier_failure_did_is_not_done_again_after_a_retry(bench: Bench) -> None:
    """The pair of a failed job is given a fresh start: the end of the failed job's second try is not its concern."""
    first = bench.submit("a", array=2, max_failures=1)
    last = bench.submit("b", array=2, after=(after(bench, first, pairwise=True),))
    worker = bench.worker(cores=1)
    bench.report(worker, worker.leases[first], Outcome.FAILED)
    assert labels(bench, last, last + 1) == ["cancelled", "blocked"]
    retry(bench, last, element=True)
    assert labels(bench, last) == ["waiting"], "its first half has ended: the person has the say"
    retry(bench, first, element=True)
    bench.report(worker, worker.leases[first + 1])
    bench.report(worker, worker.leases[first], Outcome.FAILED)
    assert labels(bench, last) != ["cancelled"]
    run_all(bench)
    assert labels(bench, last, last + 1) == ["succeeded", "succeeded"]


def test_a_dependency_that_is_retried_is_waited_for_again(bench: Bench) -> None:
    first = bench.submit("a", max_failures=1)
    last = bench.submit("b", after=(after(bench, first),))
    run_all(bench, Outcome.FAILED)
    assert labels(bench, first, last) == ["failed", "cancelled"]
    retry(bench, first)
    retry(bench, last)
    assert labels(bench, last) == ["blocked"]
    assert run_all(bench) == [first, last]


def test_a_dependency_that_has_failed_for_good_does_not_hold_up_a_retry(bench: Bench) -> None:
    first = bench.submit("a", max_failures=1)
    last = bench.submit("b", after=(after(bench, first),))
    run_all(bench, Outcome.FAILED)
    retry(bench, last)
    assert run_all(bench) == [last]


def test_a_second_end_of_one_half_counts_once_for_the_other(bench: Bench) -> None:
    """It waits for two; one of them ends, is retried, and ends again."""
    gate = bench.submit("gate", labels=("never",))
    first = bench.submit("a", array=2, max_failures=1)
    last = bench.submit("b", array=2, after=(after(bench, first, on="end", pairwise=True), after(bench, gate)))
    worker = bench.worker(cores=1)
    bench.report(worker, worker.leases[first], Outcome.FAILED)
    assert blockers(bench, last, last + 1) == [1, 2]
    retry(bench, first, element=True)
    assert blockers(bench, last, last + 1) == [2, 2]
    bench.report(worker, worker.leases[first + 1])
    bench.report(worker, worker.leases[first], Outcome.FAILED)
    assert labels(bench, last, last + 1) == ["blocked", "blocked"]
    assert blockers(bench, last, last + 1) == [1, 1]


def test_an_element_is_waited_for_again_too(bench: Bench) -> None:
    first = bench.submit("a", array=2, max_failures=1)
    last = bench.submit("b", after=(after(bench, first, element=1),))
    run_all(bench, Outcome.FAILED)
    assert labels(bench, last) == ["cancelled"]
    retry(bench, first)
    retry(bench, last)
    assert labels(bench, last) == ["blocked"]
    run_all(bench)
    assert labels(bench, last) == ["succeeded"]


def test_a_retry_does_not_miss_what_has_been_forgotten(bench: Bench) -> None:
    first = bench.submit("a", max_failures=1)
    last = bench.submit("b", after=(after(bench, first),))
    run_all(bench, Outcome.FAILED)
    while not bench.do(lambda tx: history.purge(tx, first, 100)):
        pass
    retry(bench, last)
    assert run_all(bench) == [last]


def test_forgetting_what_was_cancelled_leaves_no_edge_behind(bench: Bench) -> None:
    first = bench.submit("a")
    last = bench.submit("b", after=(after(bench, first),))
    cancel(bench, last)
    while not bench.do(lambda tx: history.purge(tx, last, 100)):
        pass
    assert bench.queue.edges == bench.do(dependencies.count) == 0
    run_all(bench)
    assert labels(bench, first) == ["succeeded"]


def test_nobody_waits_for_a_job_that_is_half_forgotten(bench: Bench) -> None:
    """Forgetting takes several steps: the jobs go before their submission does."""
    first = bench.submit("a", array=2)
    run_all(bench)
    assert not bench.do(lambda tx: history.purge(tx, first, 1))
    with pytest.raises(NotFound, match="forgotten"):
        bench.submit("b", after=(after(bench, first, element=0),))
