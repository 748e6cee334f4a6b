"""The right of one attempt to renew, checkpoint, log and fail a job."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cpc.core import ids

#: With an incarnation in front (see `settling.quarantined`) it still fits the 32-bit integer of a database.
MAX_ATTEMPT = 1_000_000_000
MAX_PATH = 1024  # characters: some sixteen servers


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """(job, attempt, incarnation): compared whole, so that nothing of a lost server life matches by number alone.

    Between a worker and its home server, `path` says whose job it is: the ids of the servers from the home's neighbour to
    the owner, joined by "/"; empty for the home's own jobs. The owner itself, and servers among each other, leave it empty.
    """

    job: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    attempt: Annotated[int, msgspec.Meta(ge=0, le=MAX_ATTEMPT)]
    incarnation: Annotated[int, msgspec.Meta(ge=0, le=ids.MAX_INCARNATION)]
    path: Annotated[str, msgspec.Meta(max_length=MAX_PATH)] = ""

    @property
    def route(self) -> tuple[str, ...]:
        """The servers from the home's neighbour to the owner; empty for the home's own jobs."""
        return tuple(self.path.split("/")) if self.path else ()

    def of_owner(self) -> Lease:
        """The lease as its owner knows it."""
        return Lease(self.job, self.attempt, self.incarnation)

    def on(self, path: str) -> Lease:
        """The lease as the home's worker knows it, of the owner at the end of this path."""
        return Lease(self.job, self.attempt, self.incarnation, path)

    def of(self, first: bool = False) -> str:
        """The job as people see it. `first`: of an array, which its number alone does not show."""
        return ids.show(self.job, first or ids.index(self.job) > 0)

    def __str__(self) -> str:
        return f"job {self.of()} attempt {self.attempt}"
