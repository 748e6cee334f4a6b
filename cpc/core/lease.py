"""The right of one attempt to renew, checkpoint, log and fail a job."""

from __future__ import annotations

import msgspec

from cpc.core import ids


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """(job, attempt, incarnation): compared whole, so that nothing of a lost server life matches by number alone."""

    job: int
    attempt: int
    incarnation: int

    def __str__(self) -> str:
        return f"job {ids.show(self.job, ids.index(self.job) > 0)} attempt {self.attempt}"
