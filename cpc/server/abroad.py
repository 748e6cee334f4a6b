"""The part of workers' turns that is about jobs of other servers, and who takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from cpc.core.lease import Lease
from cpc.server.seats import Seat
from cpc.wire.messages import Checkpoint, Orders, Result, Tail, Turn


@dataclass(frozen=True, slots=True)
class Abroad:
    """The part of a worker's turn that is about jobs of other servers: their leases have a path. Not `named`: what it holds is
    what it held, but for what has ended since. `over`: whose programs have ended."""

    holds: tuple[Lease, ...]
    results: tuple[Result, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    tails: tuple[Tail, ...] = ()
    over: tuple[Lease, ...] = ()
    named: bool = True


class Peers(Protocol):
    """The part of the federation that workers' turns go through. Called on the reactor."""

    def take(self, worker: int, abroad: Abroad) -> None:
        """A worker of ours has this of other servers' jobs."""
        ...

    def send(self, session: int, orders: Orders) -> None:
        """A worker of another server is to do this."""
        ...

    def heard(self, session: int) -> float | None:
        """When a worker of another server was last heard of, by the lease clock; None when it is none."""
        ...


def parted(turn: Turn, seat: Seat) -> tuple[Turn, Abroad | None]:
    """The turn as far as it is about jobs of ours, and what it says of others'."""
    if not seat.hello.paths:
        return turn, None
    said = (
        turn.holds,
        turn.over,
        *([one.lease for one in each] for each in (turn.results, turn.checkpoints, turn.tails)),
    )
    if not seat.lent and not any(lease.path for leases in said for lease in leases):
        return turn, None
    abroad = Abroad(
        tuple(lease for lease in turn.holds if lease.path),
        tuple(result for result in turn.results if result.lease.path),
        tuple(checkpoint for checkpoint in turn.checkpoints if checkpoint.lease.path),
        tuple(tail for tail in turn.tails if tail.lease.path),
        tuple(lease for lease in turn.over if lease.path),
        named=not turn.brief,
    )
    seat.lent = bool(abroad.holds) or (turn.brief and seat.lent)
    own = msgspec.structs.replace(
        turn,
        holds=tuple(lease for lease in turn.holds if not lease.path),
        results=tuple(result for result in turn.results if not result.lease.path),
        checkpoints=tuple(checkpoint for checkpoint in turn.checkpoints if not checkpoint.lease.path),
        tails=tuple(tail for tail in turn.tails if not tail.lease.path),
        over=tuple(lease for lease in turn.over if not lease.path),
    )
    return own, abroad
