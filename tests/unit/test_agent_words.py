"""Small decisions of a worker, without a world: standing, outcomes, times, what is free, the state table."""

from __future__ import annotations

import datetime

import pytest

from cpc.core.errors import BadInput
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import GIB, Amounts
from cpc.wire.messages import Task
from cpc.worker.ending import Stop, outcome
from cpc.worker.offer import free
from cpc.worker.processes import Exit
from cpc.worker.running import TABLE, Event, State
from cpc.worker.standing import Standing
from cpc.worker.times import batch_seconds_left, seconds_until

TASK = Task(lease=Lease(1, 1, 1), project=1, granted=Amounts(cores=1, memory=GIB), argv=("x",), walltime=60.0)


def fail(standing: Standing, now: float, job: int) -> bool:
    return standing.ended(now, Lease(job, 1, 1), Outcome.FAILED, 0.5)


def test_five_quick_failures_of_different_jobs_make_it_step_back_for_growing_pauses() -> None:
    standing = Standing()
    assert [fail(standing, 0.0, job) for job in range(5)] == [False] * 4 + [True]
    assert not standing.wants(1.0)
    assert "5 jobs in a row" in standing.note(1.0)
    first = standing.back_until
    assert standing.wants(first)
    assert fail(standing, first, 10)
    assert standing.back_until - first > first


def test_one_job_that_fails_again_and_again_is_not_the_nodes_trouble() -> None:
    standing = Standing()
    assert not any(fail(standing, 0.0, 7) for _ in range(50))


def test_a_success_or_a_failure_that_took_its_time_clears_the_node() -> None:
    standing = Standing()
    for job in range(4):
        fail(standing, 0.0, job)
    standing.ended(0.0, Lease(9, 1, 1), Outcome.OK, 1.0)
    assert not any(fail(standing, 0.0, job) for job in range(20, 24))


def test_a_worker_whose_time_is_nearly_over_says_why_it_takes_nothing() -> None:
    standing = Standing(until=100.0, grace=30.0)
    assert (standing.wants(0.0), standing.note(0.0)) == (True, "")
    assert not standing.wants(50.0)
    assert "time is nearly over" in standing.note(50.0)


@pytest.mark.parametrize(
    ("end", "stop", "announced", "expected"),
    [
        (Exit("k", 0), None, False, Outcome.OK),
        (Exit("k", 3), None, False, Outcome.FAILED),
        (Exit("k", -11), None, False, Outcome.FAILED),
        (Exit("k", -9, exceeded="memory"), None, False, Outcome.EXCEEDED),
        (Exit("k", -15, exceeded="walltime"), None, False, Outcome.EXCEEDED),
        (Exit("k", 0), Stop.HAND_BACK, False, Outcome.PREEMPTED),  # it was asked to stop: not done
        (Exit("k", -15), Stop.WALLTIME, False, Outcome.WALLTIME),
        (Exit("k", -15), Stop.CANCEL, False, Outcome.CANCELLED),
        (Exit("k", error="the program x was not found in the search path /bin"), None, False, Outcome.FAILED),
        (Exit("k", error="the program x was not found in the search path /bin"), None, True, Outcome.REFUSED),
        (Exit("k", error="the run directory /w is gone"), None, False, Outcome.REFUSED),
        (Exit("k", error="the system allows no more processes for this user"), None, False, Outcome.REFUSED),
        (Exit("k", None), None, False, Outcome.REFUSED),
    ],
)
def test_only_the_jobs_own_end_is_blamed_on_it(
    end: Exit, stop: Stop | None, announced: bool, expected: Outcome
) -> None:
    assert outcome(end, stop, TASK, announced)[0] is expected


def test_a_start_that_knows_no_end_blames_nobody() -> None:
    """srun, whose node has died: the platform says so with a code of its own."""
    assert outcome(Exit("k", -12), None, TASK, False, lost=-12)[0] is Outcome.REFUSED
    assert outcome(Exit("k", -12), None, TASK, False)[0] is Outcome.FAILED
    assert outcome(Exit("k", 0), None, TASK, False, lost=-12)[0] is Outcome.OK


def test_what_is_free_is_what_is_not_granted_and_not_used_by_others() -> None:
    total = Amounts(cores=8, gpus=1, memory=16 * GIB, other={"licence": 2})
    assert free(total) == total
    assert free(total, available=GIB) == Amounts(cores=8, gpus=1, memory=GIB, other={"licence": 2})
    assert free(total, available=64 * GIB) == total


NOW = int(datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC).timestamp()) * 1_000_000


def test_until_is_read_as_people_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_until("+2h", NOW) == 7200
    assert seconds_until("+1:30:00", NOW) == 5400
    assert seconds_until("2026-11-20T13:00:00+00:00", NOW) == 3600
    assert 0 < seconds_until("18:00", NOW) <= 86_400
    for bad in ("yesterday", "25:00", "", "+x", "2026-13-01"):
        with pytest.raises(BadInput, match="is not a time"):
            seconds_until(bad, NOW)
    with pytest.raises(BadInput, match="over"):
        seconds_until("2020-01-01T00:00:00+00:00", NOW)


def test_a_batch_systems_end_is_taken() -> None:
    assert batch_seconds_left({"SLURM_JOB_END_TIME": str(NOW // 1_000_000 + 600)}, NOW) == 600
    assert batch_seconds_left({}, NOW) is None


def test_the_state_table_leads_to_its_end_from_everywhere() -> None:
    for state in State:
        seen = {state}
        while True:
            more = {TABLE[one, event] for one in seen for event in Event if (one, event) in TABLE} - seen
            if not more:
                break
            seen |= more
        assert State.GONE in seen
    assert not [key for key in TABLE if key[0] is State.GONE]
