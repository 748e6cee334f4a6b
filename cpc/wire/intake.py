"""Large frames from and to workers: so many a server has in memory, over all of its connections, for each owner of files.

    begun ──▶ ticket ──▶ read ──▶ its question is answered ──▶ the ticket is the next one's
      └─▶ all tickets are given out: the connection is read no further until there is one

    asked for ──▶ ticket ──▶ looked up ──▶ sent ──▶ given to the transport ──▶ the ticket is the next one's
      └─▶ all tickets are given out: the question waits

TCP tells a worker that sends to wait, and of its frame there is no more in memory than one read brings. So a server that hands
on what a hundred nodes send at once, to a slow link or a slow disk, or that gives all of them the same input when they start,
has a few chunks in memory and not four of each node.

Each owner has tickets of its own, or files for one behind a slow link would keep those of the others waiting.

So few are enough where a worker takes a chunk as fast as it comes. Where many are slow, the more at once, the more comes
through: for each that takes longer than PATIENCE to send its frame, or to be given one, there are two tickets more, up to MOST,
and for each that is done one less. After GIVEN_UP it goes on without its ticket, or a few nodes that stand still would stop the
rest.

A question that has come whole keeps its ticket until it is answered, however long that takes: it holds its bytes for so long.
What is for another server has its own end there (FAR_TIME), and what is written here ends, or the disk hangs; to take in more
then would only fill the memory.

Only workers need tickets. Two servers, each of which waits for the other to take something in, would wait for ever; a worker
waits for its server, and never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cpc.core.clock import Timer, Timers
from cpc.core.pieces import Piece

AT_ONCE = 4  # for each owner: as many chunks as a link to another server has on its way
MOST = 32  # for each owner, where its workers are slow
PATIENCE = 0.5  # seconds: slower than 8 MiB/s is slow
GIVEN_UP = 5.0  # seconds

#: For whom a large frame is, by its beginning and its size; "": nobody in particular.
Whose = Callable[[Piece, int], str]
Way = Literal["in", "out"]


class Ticket:
    """For one large frame that comes, until its question is answered, or that is asked for, until it has left.

    `given`: it may be read, or answered.
    """

    def __init__(self, over: Callable[[Ticket], None], told: Callable[[], None]) -> None:
        self.given = False
        self._give_back = over
        self._told = told
        self._timer: Timer | None = None
        self._over = False

    def give(self, timer: Timer) -> None:
        """It has its turn; `timer` ends our patience with it."""
        self.given, self._timer = True, timer
        self._told()

    def wait(self, timer: Timer) -> None:
        """It is slow; `timer` gives it up."""
        self._timer = timer

    def read(self) -> None:
        """All of it is here: it has the ticket until its question is answered."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def over(self) -> None:
        """It needs the ticket no more, if it ever had one. Said twice, it counts once."""
        self.read()
        if not self._over:
            self._over = True
            self._give_back(self)


@dataclass(slots=True)
class _Owner:
    most: int  # tickets at once, now
    given: int = 0
    waiting: dict[Ticket, None] = field(default_factory=dict)  # those that began first come first


class Intake:
    """All tickets of a server."""

    def __init__(self, reactor: Timers, at_once: int = AT_ONCE) -> None:
        self._reactor = reactor
        self._at_once = at_once
        self._owners: dict[tuple[Way, str], _Owner] = {}  # those of whom there are frames

    def ask(self, way: Way, whose: str, told: Callable[[], None]) -> Ticket:
        """A ticket, for files of this owner; `told` is called when it is given, now or later."""
        key = (way, whose)
        owner = self._owners.setdefault(key, _Owner(self._at_once))
        ticket = Ticket(lambda ended: self._ended(key, owner, ended), told)
        owner.waiting[ticket] = None
        self._next(owner)
        return ticket

    def __len__(self) -> int:
        """How many tickets are given out."""
        return sum(owner.given for owner in self._owners.values())

    def _ended(self, key: tuple[Way, str], owner: _Owner, ticket: Ticket) -> None:
        if ticket in owner.waiting:
            del owner.waiting[ticket]
        else:
            owner.given -= 1
            owner.most = max(self._at_once, owner.most - 1)
        self._next(owner)
        if not owner.given and not owner.waiting and self._owners.get(key) is owner:
            del self._owners[key]

    def _next(self, owner: _Owner) -> None:
        while owner.given < owner.most and owner.waiting:
            ticket = next(iter(owner.waiting))
            del owner.waiting[ticket]
            owner.given += 1
            ticket.give(self._reactor.callLater(PATIENCE, self._late, owner, ticket))

    def _late(self, owner: _Owner, ticket: Ticket) -> None:
        owner.most = min(MOST, owner.most + 2)
        ticket.wait(self._reactor.callLater(GIVEN_UP - PATIENCE, ticket.over))
        self._next(owner)
