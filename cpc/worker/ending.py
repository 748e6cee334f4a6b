"""Why an attempt ended, from how its program ended and what the worker was told. Pure."""

from __future__ import annotations

import enum

from cpc.core.outcome import Outcome
from cpc.core.resources import show_size, show_span
from cpc.wire.messages import Task
from cpc.worker.processes import Exit

# As `cpc.worker.birth` says it.
_JOBS_OWN = (
    "was not found", "is not executable", "is a directory, not a program", "is not a program this machine can run",
    "the interpreter or loader that", "the file for standard input", "there is no command to start",
    "cannot be passed to a program", "longer than the system allows",
)  # fmt: skip


class Stop(enum.IntEnum):
    """Why the worker ends an attempt itself; a higher one overrules a lower one."""

    HAND_BACK = 1  # a drain, or the worker leaves: checkpoint, report PREEMPTED
    WALLTIME = 2  # the worker's own time is over
    CANCEL = 3  # a person or a rule ended the job: report CANCELLED, keep nothing
    DROP = 4  # the server does not know this lease any more: report nothing


def outcome(end: Exit, stop: Stop | None, task: Task, announced: bool, lost: int = 0) -> tuple[Outcome, str]:
    """The outcome and a sentence about it.

    A program that ends after it was asked to stop is never counted as done, whatever its exit code: many end with 0 on
    SIGTERM. A program that cannot be started is the job's mistake when the job named it, the worker's when the worker
    announced it. `lost`: the exit code that says of no program how it has ended.
    """
    if stop is Stop.WALLTIME:
        return Outcome.WALLTIME, "the worker's own time was over"
    if stop is Stop.HAND_BACK:
        return Outcome.PREEMPTED, "handed back by the worker"
    if stop is not None:
        return Outcome.CANCELLED, "cancelled"
    if end.error:
        if announced or not names_missing_program(end.error):
            return Outcome.REFUSED, end.error
        return Outcome.FAILED, end.error
    if end.exceeded == "memory":
        limit = show_size(task.granted.memory)
        return Outcome.EXCEEDED, f"used more memory than its {limit} (at most {show_size(end.max_memory)} were seen)"
    if end.exceeded:
        return Outcome.EXCEEDED, f"ran longer than its walltime of {show_span(task.walltime)}"
    if end.code == 0:
        return Outcome.OK, ""
    if end.code is None or (lost and end.code == lost):
        return Outcome.REFUSED, "the program was lost: its end was not seen"
    if end.code < 0:
        return Outcome.FAILED, f"ended by signal {-end.code}"
    return Outcome.FAILED, f"ended with exit code {end.code}"


def may_be_told(found: Outcome, task: Task) -> bool:
    """Whether a program that ended like this may have been told to end, by a batch system that ends the whole allocation.

    Many end with 0 then, when they have saved what they have; of those that save nothing it is believed.
    """
    return found is Outcome.FAILED or (found is Outcome.OK and bool(task.checkpoint_patterns))


def names_missing_program(error: str) -> bool:
    """Whether a start failed because of what the job named or asked for; everything else is the node's trouble."""
    return any(sign in error for sign in _JOBS_OWN)
