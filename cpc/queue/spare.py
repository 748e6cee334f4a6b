"""The room of one worker that its own server has no jobs for: whom it is offered to. At most one at a time."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile


class State(enum.StrEnum):
    FULL = "full"  # there is no room
    OPEN = "open"  # there is room, and nobody looks at it
    ASKED = "asked"  # a peer looks for work for it
    OFFERED = "offered"  # an owner whose jobs the worker runs may fill it
    RESTING = "resting"  # everybody has been asked; they call when they have work


class Event(enum.StrEnum):
    ROOM = "room"  # there is room, or more of it
    NO_ROOM = "no room"  # own work has taken it, or the worker takes none
    ASK = "ask"  # a peer is asked
    OFFER = "offer"  # it goes along with a report
    ANSWER = "answer"  # the peer, or the owner, has said its word; or it is late
    REST = "rest"  # nobody is left to ask
    CALLED = "called"  # a peer has work, or it is time to ask again


#: state × event → state. While somebody looks at the room, own work may take it all the same: own work first.
TABLE: dict[tuple[State, Event], State] = {
    (State.FULL, Event.ROOM): State.OPEN,
    (State.FULL, Event.NO_ROOM): State.FULL,
    (State.FULL, Event.CALLED): State.FULL,
    (State.OPEN, Event.ROOM): State.OPEN,
    (State.OPEN, Event.NO_ROOM): State.FULL,
    (State.OPEN, Event.CALLED): State.OPEN,
    (State.OPEN, Event.ASK): State.ASKED,
    (State.OPEN, Event.OFFER): State.OFFERED,
    (State.OPEN, Event.REST): State.RESTING,
    (State.RESTING, Event.ROOM): State.OPEN,
    (State.RESTING, Event.NO_ROOM): State.FULL,
    (State.RESTING, Event.CALLED): State.OPEN,
    (State.ASKED, Event.ROOM): State.ASKED,
    (State.ASKED, Event.NO_ROOM): State.ASKED,
    (State.ASKED, Event.CALLED): State.ASKED,
    (State.ASKED, Event.ANSWER): State.OPEN,
    (State.OFFERED, Event.ROOM): State.OFFERED,
    (State.OFFERED, Event.NO_ROOM): State.OFFERED,
    (State.OFFERED, Event.CALLED): State.OFFERED,
    (State.OFFERED, Event.ANSWER): State.OPEN,
}


@dataclass(slots=True)
class Spare:
    """`free` and `ahead` as of the last commit. `prefer`: the path of the owner whose job left the room, asked first.
    `fresh`: a job has left room since that owner was offered any, which it does not know yet."""

    worker: int
    profile: Profile
    free: Amounts = field(default_factory=Amounts)
    ahead: int = 0
    prefer: str = ""
    fresh: bool = False
    state: State = State.FULL

    def happen(self, event: Event) -> State:
        """The state that follows."""
        self.state = TABLE[self.state, event]
        return self.state

    def set_room(self, free: Amounts, ahead: int) -> None:
        """What there is now."""
        self.free, self.ahead = free, ahead
        self.happen(Event.ROOM if free.cores > 0 or (ahead > 0 and self.prefer) else Event.NO_ROOM)

    def left_by(self, path: str) -> None:
        """A job of this owner has ended here."""
        self.prefer, self.fresh = path, True

    def offered(self) -> None:
        """What there is goes along with a report to the owner that is preferred."""
        self.happen(Event.OFFER)
        self.fresh = False

    def refused(self) -> None:
        """The owner has nothing for what it was offered. What was left since then it is offered with the next report."""
        if not self.fresh:
            self.prefer = ""

    def answered(self) -> None:
        """Whoever looked at it is done; what is left is open again."""
        self.happen(Event.ANSWER)
        self.set_room(self.free, self.ahead)
