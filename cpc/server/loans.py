"""What the queue tells of workers that may be lent, and of jobs that nobody here has room for. Nobody listens without peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker of ours has for others as of this commit: at once, and ahead of its room. `joined` false: it has left."""

    worker: int
    profile: Profile
    free: Amounts
    ahead: int
    joined: bool = True


class Loans(Protocol):
    """Called on the reactor, after the commits that made it true; `knows` and `others` in units."""

    def knows(self, lease: Lease) -> bool:
        """Whether a job that a worker says it has of another server may go on here."""
        ...

    def others(self, worker: int, lease: Lease) -> Sequence[int]:
        """Which other workers of ours were given this lease of another server; none, if this one was."""
        ...

    def rooms(self, rooms: Sequence[Room]) -> None:
        """These workers' room has changed."""
        ...

    def back(self, worker: int, held: Sequence[Lease]) -> None:
        """The worker has (again) joined, with these jobs of others."""
        ...

    def missing(self, worker: int, leases: Sequence[Lease], words: str, counts: bool) -> None:
        """The worker has come back without these. `counts`: it has lost them, against max_losses."""
        ...

    def gone(self, worker: int, words: str, counts: bool) -> None:
        """The worker is lost or has left."""
        ...

    def left_over(self) -> None:
        """After a round jobs wait that no worker has room for."""
        ...


class NoLoans:
    """There are no peers."""

    def knows(self, lease: Lease) -> bool:
        return False

    def others(self, worker: int, lease: Lease) -> Sequence[int]:
        return ()

    def rooms(self, rooms: Sequence[Room]) -> None:
        pass

    def back(self, worker: int, held: Sequence[Lease]) -> None:
        pass

    def missing(self, worker: int, leases: Sequence[Lease], words: str, counts: bool) -> None:
        pass

    def gone(self, worker: int, words: str, counts: bool) -> None:
        pass

    def left_over(self) -> None:
        pass
