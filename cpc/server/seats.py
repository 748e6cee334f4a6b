"""What the reactor knows of joined workers beside the index: whose connection, heard when, with what to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cpc.core.resources import Amounts
from cpc.wire.connection import Connection
from cpc.wire.messages import Hello


@dataclass(slots=True)
class Seat:
    """One joined worker. `heard` by the lease clock, and so `named`: when it last said all that it holds; `wants` as its last
    turn said that is on record. `heartbeat_time`: what it goes by; `told`: what it was told since."""

    connection: Connection
    session: int
    worker: int
    name: str
    hello: Hello
    joined: int
    heard: float
    note: str = ""
    free: Amounts = field(default_factory=Amounts)
    open: bool = True
    turning: bool = False  # it waits for the answer to its turn
    wants: bool | None = None
    lent: bool = False  # at its last turn it had jobs of other servers
    named: float = 0.0
    heartbeat_time: float = 0.0
    told: float = 0.0


class Seats:
    """By session number, and by worker: ten thousand that come back at once must not look through all the others."""

    def __init__(self) -> None:
        self._seats: dict[int, Seat] = {}
        self._workers: dict[int, Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats.values()))

    def get(self, session: int) -> Seat | None:
        """The seat of a session."""
        return self._seats.get(session)

    def of_worker(self, worker: int) -> Seat | None:
        """The seat of a worker, also when its session is over and it has not been told yet."""
        return self._workers.get(worker)

    def take(self, seat: Seat) -> Seat | None:
        """Sit down; the seat that the same worker had until now, if any, is given up and returned."""
        former = self._workers.get(seat.worker)
        if former is not None:
            self.give_up(former.session)
        self._seats[seat.session] = seat
        self._workers[seat.worker] = seat
        return former

    def give_up(self, session: int) -> Seat | None:
        """The seat is free again."""
        seat = self._seats.pop(session, None)
        if seat is not None and self._workers.get(seat.worker) is seat:
            del self._workers[seat.worker]
        return seat
