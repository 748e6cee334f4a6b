"""The right of one attempt to renew, checkpoint, log and fail a job."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cpc.core import ids

#: With an incarnation in front (see `settling.quarantined`) it still fits the 32-bit integer of a database.
MAX_ATTEMPT = 1_000_000_000


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """(job, attempt, incarnation): compared whole, so that nothing of a lost server life matches by number alone."""

    job: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    attempt: Annotated[int, msgspec.Meta(ge=0, le=MAX_ATTEMPT)]
    incarnation: Annotated[int, msgspec.Meta(ge=0, le=ids.MAX_INCARNATION)]

    def __str__(self) -> str:
        return f"job {ids.show(self.job, ids.index(self.job) > 0)} attempt {self.attempt}"
