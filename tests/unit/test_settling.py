"""Reports of workers, judged, on both databases: every cell of the verdict table through the real units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.queue.session import Session
from cpc.queue.verdict import Kind, Relation, Verdict, kind, verdict
from cpc.server import joining, settling, submission
from cpc.store import attempts, history, schema, statement
from cpc.store.jobs import Range
from cpc.wire.messages import Result
from tests.helpers.benches import Bench
from tests.helpers.settlements import act, cancel, files, lose, row

_SET_BUNDLE = statement.update(schema.workers, "bundle")


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    made = Bench(url=database_url)
    yield made
    made.check()
    made.close()


# --- every cell -----------------------------------------------------------------------------------------------------------


def bring(bench: Bench, state: State, name: str) -> tuple[Session, int, Lease]:
    """A job in a state, and the lease of an attempt of it that is over; the worker that had it."""
    worker = bench.worker(name, cores=1, labels=(name,))
    job = bench.submit(max_failures=9, max_losses=9, labels=(name,))
    lease = worker.leases[job]
    lose(bench, worker)
    if state is State.WAITING:
        bench.turn(worker, wants=False)
        lose(bench, worker)
    elif state is State.SUCCEEDED:
        bench.report(worker, worker.leases[job])
    elif state is State.FAILED:
        for _ in range(9):
            bench.report(worker, worker.leases[job], Outcome.FAILED)
    elif state is State.CANCELLED:
        cancel(bench, job)
    assert bench.state(job) is state
    return worker, job, lease


@pytest.mark.parametrize("state", [state for state in State if state is not State.BLOCKED])
def test_an_old_attempt_can_only_deliver_a_success(bench: Bench, state: State) -> None:
    for outcome in Outcome:
        worker, job, lease = bring(bench, state, outcome.value)
        before = row(bench, job)
        said = bench.turn(worker, Result(lease=lease, outcome=outcome), wants=False)[0].verdict
        assert said == verdict(Relation.OLD, outcome, state).value
        after = row(bench, job)
        if said == Verdict.ACCEPT_LATE.value:
            assert (after.state, after.accepted) == (State.SUCCEEDED, 1)
            assert worker.leases == {}
        else:
            assert (after.state, after.failures, after.losses) == (before.state, before.failures, before.losses)


def test_the_current_attempt_decides(bench: Bench) -> None:
    for outcome in Outcome:
        worker = bench.worker(outcome.value, cores=1, labels=(outcome.value,))
        job = bench.submit(max_failures=9, max_losses=9, labels=(outcome.value,))
        said = bench.report(worker, worker.leases[job], outcome)
        assert said == verdict(Relation.CURRENT, outcome, State.RUNNING).value
        found = row(bench, job)
        assert found.failures == (kind(outcome) is Kind.BLAME)
        assert found.losses == (kind(outcome) is Kind.LOSS)
        assert bench.state(job) is (State.SUCCEEDED if outcome is Outcome.OK else State.RUNNING)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.FAILED])
def test_what_another_life_of_the_server_leased_is_put_aside(bench: Bench, outcome: Outcome) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit()
    foreign = Lease(job, 1, worker.leases[job].incarnation + 1)
    assert bench.report(worker, foreign, outcome, tail="x") == "quarantined"
    assert bench.state(job) is State.RUNNING
    assert bench.count(schema.events, kind="result.quarantined") == 1
    assert bench.report(worker, foreign, outcome, tail="x") == "quarantined"
    assert bench.count(schema.results) == 1


def test_a_result_of_a_worker_of_another_bundle_is_foreign(bench: Bench) -> None:
    mine = bench.worker("mine", cores=1)
    job = bench.submit()
    lease = mine.leases[job]
    other = bench.worker("other", wants=False)
    bench.do(lambda tx: tx.run(_SET_BUNDLE, {"bundle": 2, "key_id": other.worker}))
    assert bench.report(other, lease) == "quarantined"
    assert bench.state(job) is State.RUNNING


def test_the_next_worker_of_the_same_bundle_may_hand_in(bench: Bench) -> None:
    first = bench.worker("first", cores=1)
    job = bench.submit()
    lease = first.leases[job]
    second = bench.worker("second", wants=False)
    assert bench.report(second, lease) == "accepted late"
    assert bench.state(job) is State.SUCCEEDED
    assert first.leases == {}


def test_a_success_of_a_job_that_a_restore_has_undone_stays_at_its_worker(bench: Bench) -> None:
    """Nobody here can say what it was; nobody else has it."""
    worker = bench.worker()
    bench.queue.incarnation = 3
    for incarnation in (1, 2):
        undone = Lease(ids.make(incarnation, 99), 1, incarnation)
        assert bench.report(worker, undone, tail="x") == "kept aside"
        assert bench.report(worker, undone, Outcome.FAILED, tail="x") == "gone"
    for incarnation in (0, 3, 4):
        assert bench.report(worker, Lease(ids.make(3, 99), 1, incarnation), tail="x") == "gone"
    assert bench.count(schema.events, kind="result.unknown") == 2
    assert bench.count(schema.results) == 0


def test_a_deleted_job_is_gone(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit()
    lease = worker.leases[job]
    bench.report(worker, lease)
    while not bench.do(lambda tx: history.purge(tx, job, 100)):
        pass
    bench.queue.specs.forget(job)
    assert bench.report(worker, lease) == "gone"


# --- once -----------------------------------------------------------------------------------------------------------------


def test_a_late_success_is_accepted_once(bench: Bench) -> None:
    old = bench.worker("old", cores=1)
    job = bench.submit()
    lease = old.leases[job]
    lose(bench, old)
    bench.turn(old, wants=False)
    runs = old if old.leases else bench.worker("new", cores=1)
    current = runs.leases[job]
    assert bench.report(old, lease) == "accepted late"
    assert bench.report(old, lease) == "known"
    assert bench.report(runs, current) == "known"
    assert row(bench, job).accepted == lease.attempt
    told = [one for orders in bench.orders[runs.number] for one, _ in orders.cancel]
    assert told == [current], "whoever runs it now stops"


def test_a_result_told_again_after_a_lost_answer_changes_nothing(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_failures=3)
    lease = worker.leases[job]
    assert bench.report(worker, lease, Outcome.FAILED) == "failed"
    assert bench.report(worker, lease, Outcome.FAILED) == "dropped"
    assert row(bench, job).failures == 1


def test_a_success_that_is_told_again_closes_a_job_that_is_to_be_done_again(bench: Bench) -> None:
    """It came after the job was cancelled, and its answer was lost; meanwhile somebody wants the job to be done after all."""
    worker = bench.worker(cores=1)
    job = bench.submit()
    lease = worker.leases[job]
    cancel(bench, job)
    manifest, small = files()
    assert bench.report(worker, lease, files=manifest, small=small) == "known"
    bench.turn(worker, wants=False)
    act(bench, lambda tx: submission.retry(bench.queue, tx, job, Range.of(job, False), "user:t"))
    assert bench.report(worker, lease, files=manifest, small=small) == "accepted late"
    assert row(bench, job).accepted == 1
    assert bench.do(lambda tx: attempts.result(tx, job, 1)) == (manifest, "", True)
    assert bench.count(schema.references, owner=job) == 1


def test_an_attempt_that_has_failed_with_files_does_not_succeed_with_others(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_failures=3)
    lease = worker.leases[job]
    manifest, small = files()
    assert bench.report(worker, lease, Outcome.FAILED, files=manifest, small=small) == "failed"
    assert bench.report(worker, lease) == "dropped"
    assert bench.count(schema.results, job=job) == 1


def test_two_old_attempts_that_succeed_in_one_turn_close_the_job_once(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=9)
    leases = []
    for _ in range(2):
        leases.append(worker.leases[job])
        lose(bench, worker)
    results = [Result(lease=lease, outcome=Outcome.OK, exit_code=0) for lease in leases]
    assert [said.verdict for said in bench.turn(worker, *results)] == ["accepted late", "known"]
    assert row(bench, job).accepted == 1


def test_files_of_a_result_are_safe_and_used(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit()
    manifest, small = files()
    bench.report(worker, worker.leases[job], files=manifest, small=small)
    assert bench.count(schema.references, owner=job) == 1
    found = bench.do(lambda tx: attempts.result(tx, job, 1))
    assert found is not None
    assert found[0] == manifest
    assert found[2]


def test_a_result_whose_chunks_are_missing_is_sent_again(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit()
    manifest, _ = files()
    result = Result(lease=worker.leases[job], outcome=Outcome.OK, exit_code=0, files=manifest)
    answer = act(bench, lambda tx: settling.settle(bench.queue, tx, worker.worker, [result], "worker:w"))
    assert (answer.settled, answer.retry) == ([], [result.lease])
    assert bench.state(job) is State.RUNNING


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PREEMPTED])
def test_files_of_a_dropped_result_are_not_kept(bench: Bench, outcome: Outcome) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit()
    old = worker.leases[job]
    lose(bench, worker)
    manifest, small = files()
    assert bench.report(worker, old, outcome, files=manifest, small=small) == "dropped"
    assert bench.count(schema.references) == bench.count(schema.chunks) == 0


def test_a_result_told_twice_is_dropped_and_keeps_the_files_of_the_first(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_failures=3)
    lease = worker.leases[job]
    manifest, small = files()
    result = Result(lease=lease, outcome=Outcome.FAILED, exit_code=1, files=manifest, small=small)
    assert [said.verdict for said in bench.turn(worker, result, result)] == ["failed"]
    assert bench.report(worker, lease, Outcome.FAILED, files=manifest, small=small) == "dropped"
    assert bench.count(schema.references, owner=job, number=1) == 1


def test_files_in_quarantine_lie_where_the_result_does(bench: Bench) -> None:
    mine = bench.worker("mine", cores=1)
    job = bench.submit()
    other = bench.worker("other", wants=False)
    bench.do(lambda tx: tx.run(_SET_BUNDLE, {"bundle": 2, "key_id": other.worker}))
    manifest, small = files()
    assert bench.report(other, mine.leases[job], files=manifest, small=small) == "quarantined"
    number = settling.quarantined(mine.leases[job])
    assert bench.count(schema.references, owner=job, number=number) == bench.count(schema.results, number=number) == 1


def test_what_was_said_first_of_an_attempt_that_nobody_knows_costs_nobody_else_its_files(bench: Bench) -> None:
    """Anybody may say that it had that attempt: who brings other files keeps them."""
    worker = bench.worker(cores=1)
    job = bench.submit()
    lost = Lease(job, 7, worker.leases[job].incarnation + 1)
    false, its = files(b"false")
    true, small = files(b"true")
    assert bench.report(worker, lost, files=false, small=its) == "quarantined"
    for _ in range(2):
        assert bench.report(worker, lost, files=true, small=small) == "kept aside"
        assert bench.report(worker, lost, files=false, small=its) == "quarantined"
    assert bench.report(worker, lost, Outcome.FAILED, files=true, small=small) == "quarantined"
    assert bench.count(schema.results) == 1


# --- limits ---------------------------------------------------------------------------------------------------------------


def test_a_job_that_kills_every_worker_is_stopped(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=3)
    for _ in range(3):
        assert bench.state(job) is State.RUNNING
        lose(bench, worker)
    assert bench.state(job) is State.FAILED
    assert "max_losses is 3" in row(bench, job).reason
    assert row(bench, job).failures == 0


def test_handing_back_costs_nothing_however_often(bench: Bench) -> None:
    worker = bench.worker(cores=1)
    job = bench.submit(max_losses=1, max_failures=1)
    for outcome in (Outcome.PREEMPTED, Outcome.WALLTIME, Outcome.REFUSED) * 3:
        assert bench.report(worker, worker.leases[job], outcome) == "requeued"
    assert (row(bench, job).failures, row(bench, job).losses) == (0, 0)
    assert worker.leases[job].attempt == 10


# --- workers that come back -----------------------------------------------------------------------------------------------


def test_the_same_agent_keeps_what_it_holds(bench: Bench) -> None:
    worker = bench.worker(boot="one", cores=2)
    array = bench.submit(array=2)
    held = worker.leases[array]
    again = bench.worker(boot="one", cores=2, holds=(held,), wants=False)
    assert again.leases == {array: held}
    assert bench.dropped == ()
    assert bench.state(array + 1) is State.WAITING, "that lease never reached it"
    assert row(bench, array + 1).losses == 0


def test_another_agent_in_its_place_has_lost_everything(bench: Bench) -> None:
    worker = bench.worker(boot="one", cores=1)
    job = bench.submit(max_losses=5)
    old = worker.leases[job]
    bench.worker(boot="two", cores=1, holds=(), wants=False)
    assert bench.state(job) is State.WAITING
    assert row(bench, job).losses == 1
    back = bench.worker(boot="two", cores=1, holds=(old,), wants=False)
    assert bench.dropped == (old,)
    assert back.leases == {}


def test_leases_live_on_through_a_restart_of_the_server(bench: Bench) -> None:
    worker = bench.worker(boot="one", cores=1)
    job = bench.submit()
    held = worker.leases[job]
    bench.restart()
    again = bench.worker(boot="one", cores=1, holds=(held,))
    assert again.leases == {job: held}
    assert bench.report(again, held) == "accepted"
    assert bench.count(schema.attempts) == 1


def test_numbers_of_attempts_go_on_after_a_restart_and_a_retry(bench: Bench) -> None:
    worker = bench.worker(boot="one", cores=1)
    job = bench.submit(max_failures=1)
    bench.report(worker, worker.leases[job], Outcome.FAILED)
    bench.restart()
    act(bench, lambda tx: submission.retry(bench.queue, tx, job, Range.of(job, False), "user:t"))
    again = bench.worker(boot="two", cores=1)
    assert again.leases[job].attempt == 2


def test_a_goodbye_gives_everything_back_at_once(bench: Bench) -> None:
    worker = bench.worker(cores=2)
    array = bench.submit(array=2)
    act(bench, lambda tx: joining.leave(bench.queue, tx, worker.number, "bye"))
    assert bench.states(array, 2) == ["waiting"] * 2
    assert row(bench, array).losses == 0
