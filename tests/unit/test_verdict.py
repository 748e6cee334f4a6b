"""The verdict table, cell by cell: (whose attempt, how it ended, where the job stands) → what happens."""

from __future__ import annotations

import pytest

from cpc.core.outcome import Outcome
from cpc.queue.job import TABLE as JOB_TABLE
from cpc.queue.job import Event, State, after, read_states
from cpc.queue.verdict import TABLE, Kind, Relation, Verdict, gives_up, kind, verdict

B, W, R = State.BLOCKED, State.WAITING, State.RUNNING
S, F, C = State.SUCCEEDED, State.FAILED, State.CANCELLED
LIVE, ENDED = (B, W, R), (S, F, C)

#: Written out by hand, so that the table is checked against what was promised and not against itself.
CELLS: dict[tuple[Relation, Kind, State], Verdict] = {
    # The current attempt: only it may fail the job. It exists only while the job runs.
    (Relation.CURRENT, Kind.SUCCESS, R): Verdict.ACCEPT,
    (Relation.CURRENT, Kind.BLAME, R): Verdict.COUNT,
    (Relation.CURRENT, Kind.LOSS, R): Verdict.LOSS,
    (Relation.CURRENT, Kind.INFRASTRUCTURE, R): Verdict.REQUEUE,
    # An old attempt: a success counts while the job is open; nothing else ever does.
    (Relation.OLD, Kind.SUCCESS, B): Verdict.ACCEPT_LATE,
    (Relation.OLD, Kind.SUCCESS, W): Verdict.ACCEPT_LATE,
    (Relation.OLD, Kind.SUCCESS, R): Verdict.ACCEPT_LATE,
    (Relation.OLD, Kind.SUCCESS, S): Verdict.KNOWN,
    (Relation.OLD, Kind.SUCCESS, F): Verdict.KNOWN,
    (Relation.OLD, Kind.SUCCESS, C): Verdict.KNOWN,
    **{
        (Relation.OLD, what, state): Verdict.DROP
        for what in (Kind.BLAME, Kind.LOSS, Kind.INFRASTRUCTURE)
        for state in State
    },
    # Of another life of the server: put aside and shown. Of a deleted job: gone.
    **{(Relation.FOREIGN, what, state): Verdict.QUARANTINE for what in Kind for state in State},
    **{(Relation.UNKNOWN, what, state): Verdict.GONE for what in Kind for state in State},
    # Of a job that a restore may have undone: a success stays where it is.
    **{(Relation.UNDONE, Kind.SUCCESS, state): Verdict.ASIDE for state in State},
    **{(Relation.UNDONE, what, state): Verdict.GONE for what in Kind if what is not Kind.SUCCESS for state in State},
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(str(part) for part in cell))
def test_each_cell_says_what_was_promised(cell: tuple[Relation, Kind, State]) -> None:
    assert TABLE[cell] is CELLS[cell]


def test_the_table_has_no_cell_that_nobody_thought_of() -> None:
    assert set(TABLE) == set(CELLS)


def test_only_a_failure_and_an_excess_of_its_own_blame_the_job() -> None:
    kinds = {outcome: kind(outcome) for outcome in Outcome}
    assert kinds == {
        Outcome.OK: Kind.SUCCESS,
        Outcome.FAILED: Kind.BLAME,
        Outcome.EXCEEDED: Kind.BLAME,
        Outcome.LOST: Kind.LOSS,
        Outcome.PREEMPTED: Kind.INFRASTRUCTURE,
        Outcome.WALLTIME: Kind.INFRASTRUCTURE,
        Outcome.REFUSED: Kind.INFRASTRUCTURE,
        Outcome.CANCELLED: Kind.INFRASTRUCTURE,
    }


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if not outcome.blames_job])
@pytest.mark.parametrize("relation", Relation)
@pytest.mark.parametrize("state", State)
def test_infrastructure_is_never_counted_as_a_failure(outcome: Outcome, relation: Relation, state: State) -> None:
    if relation is Relation.CURRENT and state is not R:
        return
    assert verdict(relation, outcome, state) is not Verdict.COUNT


def test_a_job_ends_at_its_limits_and_not_before() -> None:
    assert gives_up(0, 0, 1, 5) == ""
    assert gives_up(1, 0, 2, 5) == ""
    assert gives_up(0, 4, 1, 5) == ""
    assert gives_up(1, 0, 1, 5) == "failed 1 time; max_failures is 1"
    assert gives_up(3, 0, 3, 5) == "failed 3 times; max_failures is 3"
    assert "max_losses is 5" in gives_up(0, 5, 1, 5)


def test_terminal_is_final_but_for_a_retry_by_a_person() -> None:
    assert {event for state, event in JOB_TABLE if state.terminal} == {Event.RETRIED}
    assert (State.SUCCEEDED, Event.RETRIED) not in JOB_TABLE
    assert [state for state in State if state.terminal] == list(ENDED)
    with pytest.raises(KeyError):
        after(State.SUCCEEDED, Event.CANCELLED)


def test_states_are_read_as_people_write_them() -> None:
    assert read_states("waiting, running,") == (W, R)
    assert W.label == "waiting"
    with pytest.raises(KeyError):
        read_states("waiting,sleeping")
