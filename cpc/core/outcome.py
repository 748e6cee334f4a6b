"""Why an attempt ended: a closed list."""

from __future__ import annotations

import enum


class Outcome(enum.StrEnum):
    """Only FAILED and EXCEEDED are the job's own fault; everything else is infrastructure or a decision."""

    OK = "ok"
    FAILED = "failed"  # its program ended with a non-zero exit code or a signal of its own
    EXCEEDED = "exceeded"  # it used more memory or time than it asked for
    LOST = "lost"  # its worker went silent
    PREEMPTED = "preempted"  # its worker was told to leave, or a drain handed it back
    WALLTIME = "walltime"  # its worker's own time was over
    REFUSED = "refused"  # the worker could not run it: disk full, directory unwritable, program gone
    CANCELLED = "cancelled"  # a person or a rule ended the job

    @property
    def blames_job(self) -> bool:
        """Whether the outcome counts against `max_failures`."""
        return self in (Outcome.FAILED, Outcome.EXCEEDED)
