"""Who waits for whom. An edge is one row however large the arrays at its ends are.

New submissions can only name jobs that exist already, so the graph has no cycle by construction.
"""

from __future__ import annotations

import enum


class Kind(enum.IntEnum):
    """What of `before` must end, and which jobs of `after` wait for it."""

    WHOLE = 0  # every element of the array `before`; all of `after`
    ELEMENT = 1  # the one job `before`; all of `after`
    PAIR = 2  # element i of `before`; element i of `after`


def doomed(needs_success: bool, succeeded: bool) -> bool:
    """Whether what waits can never run, now that `before` has ended."""
    return needs_success and not succeeded
