"""What the server makes of a report: (whose attempt, how it ended, where the job stands) → verdict.

Only the current attempt may fail a job. An old one may do one thing: deliver a success while the job has no terminal
state; finished science is never thrown away. Terminal is final. What was leased in a lost life of the server is
recognised and put aside, never matched by number alone.
"""

from __future__ import annotations

import enum

from cpc.core.outcome import Outcome
from cpc.queue.job import State


class Relation(enum.StrEnum):
    """What the reporting lease is to the job."""

    CURRENT = "current"  # the lease the job runs under now
    OLD = "old"  # an attempt of this job that has ended
    FOREIGN = "foreign"  # not in our records: leased in another life of the server
    UNKNOWN = "unknown"  # the job is not there (any more)
    UNDONE = "undone"  # nor is it: it was leased in another life of the server, which a restore may have undone


class Verdict(enum.StrEnum):
    """What happens. Every verdict settles the report: the worker may forget it, or is asked to keep it apart."""

    ACCEPT = "accepted"  # closes the job
    ACCEPT_LATE = "accepted late"  # closes the job and cancels the attempt that runs now
    COUNT = "failed"  # counts against max_failures; another attempt, or the end
    REQUEUE = "requeued"  # infrastructure: another attempt, nothing counted
    LOSS = "lost"  # infrastructure: counts against max_losses only
    KNOWN = "known"  # the job is closed; the files are kept unused for the retention time
    DROP = "dropped"  # an old attempt's failure: of no consequence
    QUARANTINE = "quarantined"  # recorded and shown
    GONE = "gone"  # the job was deleted
    ASIDE = "kept aside"  # by the worker, on its own disk: nobody here can say what it is worth


class Kind(enum.StrEnum):
    """Outcomes that are treated alike."""

    SUCCESS = "success"
    BLAME = "blame"
    LOSS = "loss"
    INFRASTRUCTURE = "infrastructure"


def kind(outcome: Outcome) -> Kind:
    """The outcome's kind."""
    if outcome is Outcome.OK:
        return Kind.SUCCESS
    if outcome.blames_job:
        return Kind.BLAME
    return Kind.LOSS if outcome is Outcome.LOST else Kind.INFRASTRUCTURE


def _table() -> dict[tuple[Relation, Kind, State], Verdict]:
    table: dict[tuple[Relation, Kind, State], Verdict] = {}
    for state in State:
        for what in Kind:
            success = what is Kind.SUCCESS
            table[Relation.FOREIGN, what, state] = Verdict.QUARANTINE
            table[Relation.UNKNOWN, what, state] = Verdict.GONE
            table[Relation.UNDONE, what, state] = Verdict.ASIDE if success else Verdict.GONE
            if state.terminal:
                table[Relation.OLD, what, state] = Verdict.KNOWN if success else Verdict.DROP
            else:
                table[Relation.OLD, what, state] = Verdict.ACCEPT_LATE if success else Verdict.DROP
    table[Relation.CURRENT, Kind.SUCCESS, State.RUNNING] = Verdict.ACCEPT
    table[Relation.CURRENT, Kind.BLAME, State.RUNNING] = Verdict.COUNT
    table[Relation.CURRENT, Kind.LOSS, State.RUNNING] = Verdict.LOSS
    table[Relation.CURRENT, Kind.INFRASTRUCTURE, State.RUNNING] = Verdict.REQUEUE
    return table


#: Every cell is tested; a current attempt exists only while the job runs.
TABLE = _table()


def verdict(relation: Relation, outcome: Outcome, state: State) -> Verdict:
    """The cell of the table."""
    return TABLE[relation, kind(outcome), state]


def gives_up(failures: int, losses: int, max_failures: int, max_losses: int) -> str:
    """Why there is no further attempt; empty when there is one. The counts include the attempt that just ended."""
    if failures >= max_failures:
        return f"failed {failures} time{'s' * (failures > 1)}; max_failures is {max_failures}"
    if losses >= max_losses:
        return f"its worker was lost {losses} times; max_losses is {max_losses}"
    return ""
