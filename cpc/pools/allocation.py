"""An allocation: one request to a pool, and its life as a table.

It is known by our own token, never by the batch system's id alone: ids are used again, accepted submissions get lost, and
a job may restart by itself. So an allocation is what was last seen under its token.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from cpc.core.allocation import Check
from cpc.core.resources import Amounts
from cpc.queue.requirement import Size


class State(enum.StrEnum):
    """Where an allocation stands."""

    ASKED = "asked"  # written down; the batch system has not answered yet
    UNSURE = "unsure"  # the answer was lost: it may be there or not
    SUBMITTED = "submitted"  # accepted; not seen in its queue yet
    WAITING = "waiting"  # in its queue
    RUNNING = "running"
    LEAVING = "leaving"  # cancelled, or its workers were told to leave
    ORPHANED = "orphaned"  # there, but nothing of ours any more: being cancelled
    ENDED = "ended"

    @property
    def live(self) -> bool:
        """Whether it counts against the limits."""
        return self is not State.ENDED

    @property
    def pending(self) -> bool:
        """Whether it is still to start."""
        return self in (State.ASKED, State.UNSURE, State.SUBMITTED, State.WAITING)


class Event(enum.StrEnum):
    """What can happen to an allocation."""

    ACCEPTED = "accepted"  # the batch system has taken it
    REFUSED = "refused"  # or has not
    SILENT = "silent"  # no answer came, or the server has restarted before it: nobody knows
    SEEN_WAITING = "seen waiting"
    SEEN_RUNNING = "seen running"
    SEEN_AGAIN = "seen running again"  # in a new run: the batch system has restarted it
    SEEN_ENDED = "seen ended"
    MISSING = "missing"  # asked after it was sent, the batch system has answered in full, and does not know it
    DUPLICATE = "duplicate"  # a second one has the same token
    JOINED = "joined"  # a worker of it says hello
    CANCELLED = "cancelled"  # it is not wanted any more
    DISMISSED = "dismissed"  # its workers are to leave in order
    OVERDUE = "overdue"  # it should have ended, or have sent a worker, by now
    FORGOTTEN = "forgotten"  # its pool goes, and its batch system cannot be asked any more


class Effect(enum.StrEnum):
    """What the server does about it, after the commit."""

    LOOK = "look for it by its token"
    CANCEL = "cancel it"
    CANCEL_OTHER = "cancel the other one"
    TELL = "tell its workers to leave"
    START = "its walltime runs"
    RESTART = "count the time of its former run"
    CLOSE = "count its time; its token ends"


class Reason(enum.StrEnum):
    """Why an allocation ended, or is to end: a closed list. The job is never to blame."""

    NONE = ""  # it has not
    REFUSED = "refused"  # the batch system did not take it
    CANCELLED = "cancelled"  # by us, or by a person in Copernicus
    REMOVED = "removed"  # by somebody in the batch system
    LEFT = "left"  # its workers left in order: nothing to do, or their time was up
    USELESS = "useless"  # its workers left because they got no job, though some waited that they should fit
    WALLTIME = "walltime"  # the batch system ended it
    PREEMPTED = "preempted"
    NODE = "node"  # a node of it died
    FAILED = "failed"  # its script ended by itself, with an error
    UNJOINED = "unjoined"  # it ran, and no worker of it joined in time
    VANISHED = "vanished"  # the batch system does not know it any more
    ORPHAN = "orphan"  # it was nothing of ours
    FORGOTTEN = "forgotten"  # its pool was removed without its batch system: it may still run

    @property
    def wanted(self) -> bool:
        """Whether it ended because that was wanted: no reason to back off."""
        return self in (Reason.CANCELLED, Reason.LEFT, Reason.ORPHAN)


Cell: TypeAlias = tuple[State, tuple[Effect, ...]]

_A, _U, _S, _W = State.ASKED, State.UNSURE, State.SUBMITTED, State.WAITING
_R, _L, _O, _E = State.RUNNING, State.LEAVING, State.ORPHANED, State.ENDED


def _pending(state: State) -> dict[Event, Cell]:
    """What is the same for all that is still to start."""
    return {
        Event.SEEN_WAITING: (_W, ()),
        Event.SEEN_RUNNING: (_R, (Effect.START,)),
        Event.SEEN_AGAIN: (_R, (Effect.START,)),
        Event.SEEN_ENDED: (_E, (Effect.CLOSE,)),
        Event.MISSING: (_E, (Effect.CLOSE,)),
        Event.DUPLICATE: (state, (Effect.CANCEL_OTHER,)),
        Event.JOINED: (_R, (Effect.START,)),  # a hello is better news than an old answer
        Event.CANCELLED: (_L, (Effect.CANCEL,)),
        Event.DISMISSED: (_L, (Effect.CANCEL,)),
        Event.OVERDUE: (state, (Effect.LOOK,)),
        Event.FORGOTTEN: (_E, (Effect.CLOSE,)),
    }


_ROWS: dict[State, dict[Event, Cell]] = {
    _A: _pending(_A)
    | {
        Event.ACCEPTED: (_S, ()),
        Event.REFUSED: (_E, (Effect.CLOSE,)),
        Event.SILENT: (_U, (Effect.LOOK,)),
        Event.MISSING: (_A, ()),  # the answer is still to come
        Event.CANCELLED: (_L, ()),  # cancelled when the answer comes
        Event.DISMISSED: (_L, ()),
    },
    _U: _pending(_U)
    | {
        Event.ACCEPTED: (_S, ()),
        Event.REFUSED: (_E, (Effect.CLOSE,)),
        Event.SILENT: (_U, (Effect.LOOK,)),
        Event.CANCELLED: (_L, (Effect.CANCEL, Effect.LOOK)),
        Event.DISMISSED: (_L, (Effect.CANCEL, Effect.LOOK)),
    },
    _S: _pending(_S)
    | {Event.ACCEPTED: (_S, ()), Event.REFUSED: (_S, (Effect.LOOK,)), Event.SILENT: (_S, (Effect.LOOK,))},
    _W: _pending(_W) | {Event.ACCEPTED: (_W, ()), Event.REFUSED: (_W, (Effect.LOOK,)), Event.SILENT: (_W, ())},
    _R: {
        Event.ACCEPTED: (_R, ()),
        Event.REFUSED: (_R, (Effect.LOOK,)),
        Event.SILENT: (_R, ()),
        Event.SEEN_WAITING: (_W, (Effect.RESTART,)),
        Event.SEEN_RUNNING: (_R, ()),
        Event.SEEN_AGAIN: (_R, (Effect.RESTART, Effect.START)),
        Event.SEEN_ENDED: (_E, (Effect.CLOSE,)),
        Event.MISSING: (_E, (Effect.CLOSE,)),
        Event.DUPLICATE: (_R, (Effect.CANCEL_OTHER,)),
        Event.JOINED: (_R, ()),
        Event.CANCELLED: (_L, (Effect.CANCEL,)),  # its workers hand back when the batch system ends them
        Event.DISMISSED: (_L, (Effect.TELL,)),
        Event.OVERDUE: (_L, (Effect.CANCEL,)),
        Event.FORGOTTEN: (_E, (Effect.CLOSE,)),
    },
    _L: {
        Event.ACCEPTED: (_L, (Effect.CANCEL,)),
        Event.REFUSED: (_E, (Effect.CLOSE,)),
        Event.SILENT: (_L, (Effect.LOOK,)),
        Event.SEEN_WAITING: (_L, ()),
        Event.SEEN_RUNNING: (_L, ()),
        Event.SEEN_AGAIN: (_L, (Effect.CANCEL,)),
        Event.SEEN_ENDED: (_E, (Effect.CLOSE,)),
        Event.MISSING: (_E, (Effect.CLOSE,)),
        Event.DUPLICATE: (_L, (Effect.CANCEL_OTHER,)),
        Event.JOINED: (_L, (Effect.TELL,)),
        Event.CANCELLED: (_L, (Effect.CANCEL,)),
        Event.DISMISSED: (_L, ()),
        Event.OVERDUE: (_L, (Effect.CANCEL,)),
        Event.FORGOTTEN: (_E, (Effect.CLOSE,)),
    },
    _O: {
        Event.ACCEPTED: (_O, (Effect.CANCEL,)),
        Event.REFUSED: (_O, ()),
        Event.SILENT: (_O, (Effect.LOOK,)),
        Event.SEEN_WAITING: (_O, ()),
        Event.SEEN_RUNNING: (_O, ()),
        Event.SEEN_AGAIN: (_O, (Effect.CANCEL,)),
        Event.SEEN_ENDED: (_E, (Effect.CLOSE,)),
        Event.MISSING: (_E, (Effect.CLOSE,)),
        Event.DUPLICATE: (_O, (Effect.CANCEL_OTHER,)),
        Event.JOINED: (_O, (Effect.TELL,)),
        Event.CANCELLED: (_O, (Effect.CANCEL,)),
        Event.DISMISSED: (_O, ()),
        Event.OVERDUE: (_O, (Effect.CANCEL,)),
        Event.FORGOTTEN: (_E, (Effect.CLOSE,)),
    },
    _E: {
        # What we gave up may come back: a batch system that lost its memory finds an old one again.
        Event.ACCEPTED: (_O, (Effect.CANCEL,)),
        Event.REFUSED: (_E, ()),
        Event.SILENT: (_E, ()),
        Event.SEEN_WAITING: (_O, (Effect.CANCEL,)),
        Event.SEEN_RUNNING: (_O, (Effect.CANCEL,)),
        Event.SEEN_AGAIN: (_O, (Effect.CANCEL,)),
        Event.SEEN_ENDED: (_E, ()),
        Event.MISSING: (_E, ()),
        Event.DUPLICATE: (_O, (Effect.CANCEL,)),
        Event.JOINED: (_O, (Effect.CANCEL, Effect.TELL)),
        Event.CANCELLED: (_E, ()),
        Event.DISMISSED: (_E, ()),
        Event.OVERDUE: (_E, ()),
        Event.FORGOTTEN: (_E, ()),
    },
}

#: state × event → state and effects: every pair is there. The table is printed into docs/charts.
TABLE: dict[tuple[State, Event], Cell] = {(state, event): _ROWS[state][event] for state in State for event in Event}


class Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an allocation is for that only looks how a worker would fare on a node (cpc.pools.probe).

    `node`: which one, "": any; `others`: the nodes that are not it. `mark`: what the server has written where workers keep
    files that all nodes share. `checks`: what came of it. `exit`: its script's exit code, −1 as long as that is not known.
    """

    node: str = ""
    others: tuple[str, ...] = ()
    mark: str = ""
    exit: int = -1
    checks: tuple[Check, ...] = ()


class Allocation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. Times and spans are seconds of the clock that cpc.pools.facts describes.

    `each`: what one of its nodes has. `project`: 0, or the only one that its workers take jobs of. `ends_at`: when its
    walltime is over, once it runs. `needed_at`: when something that waits was last counted on it (Decision.needed).
    """

    token: str
    pool: int
    state: State
    asked_at: float
    nodes: int = 1
    each: Amounts = Amounts(cores=1)
    walltime: float = 14400.0
    project: int = 0
    direct: bool = False
    asked_for: Size | None = None  # the size of the one job that a direct one is for
    started_at: float = 0.0
    ends_at: float = 0.0
    ended_at: float = 0.0
    needed_at: float = 0.0
    joined_at: float = 0.0  # the first hello of a worker, in this run of it
    joined: int = 0  # hellos of workers, in this run of it
    alone_at: float = 0.0  # since when none of its workers is there, though one had joined; 0: one is, or none had
    used: bool = False  # a worker of it has had a job, in this run of it
    restarts: int = 0
    leaving_at: float = 0.0  # when it was last told to end
    reason: Reason = Reason.NONE
    words: str = ""  # the batch system's own, or ours
    ran_on: tuple[str, ...] = ()  # nodes
    whole: int = 0  # cores that it has in all, where that is known to be more than it asked for
    probe: Probe | None = None  # it only looks: no worker of it joins, and no job waits for it

    @property
    def cores(self) -> int:
        """In all: what limits and budget are charged with."""
        return max(self.nodes * self.each.cores, self.whole)


#: What the end means when nobody says it better.
_MEANING = {Event.REFUSED: Reason.REFUSED, Event.MISSING: Reason.VANISHED, Event.OVERDUE: Reason.UNJOINED}


def apply(
    allocation: Allocation,
    event: Event,
    now: float,
    *,
    at: float = 0.0,
    reason: Reason = Reason.NONE,
    words: str = "",
    ran_on: tuple[str, ...] = (),
) -> tuple[Allocation, tuple[Effect, ...]]:
    """The allocation after an event, and what is to be done.

    `at`: when it happened, where the batch system says so (0: now). `reason` and `words`: with SEEN_ENDED, REFUSED,
    CANCELLED and DISMISSED. An allocation that was to end keeps the reason that it was to end for.
    """
    state, effects = TABLE[allocation.state, event]
    when = min(at, now) if at else now
    changes: dict[str, object] = {"state": state}
    if ran_on:
        changes["ran_on"] = ran_on
    if Effect.RESTART in effects:
        changes |= {
            "restarts": allocation.restarts + 1, "started_at": 0.0, "ends_at": 0.0, "joined": 0, "joined_at": 0.0,
            "alone_at": 0.0, "used": False,
        }  # fmt: skip
    if Effect.START in effects:
        changes |= {"started_at": when, "ends_at": when + allocation.walltime}
    if event is Event.JOINED and state is State.RUNNING:
        changes |= {"joined": allocation.joined + 1, "joined_at": allocation.joined_at or now}
    if state in (State.LEAVING, State.ENDED) and allocation.reason is Reason.NONE:
        if event is Event.MISSING and allocation.state is State.UNSURE:
            reason = Reason.REFUSED  # it was never taken
        changes["reason"] = reason or _MEANING.get(event, _default(event))
        changes["words"] = words or allocation.words
    if state is State.ORPHANED and allocation.state is not State.ORPHANED:
        runs = event in (Event.SEEN_RUNNING, Event.SEEN_AGAIN, Event.JOINED)
        changes |= {
            "reason": Reason.ORPHAN, "ended_at": 0.0, "leaving_at": now,
            "started_at": now if runs else 0.0,  # what was before has been counted
            "ends_at": now + allocation.walltime if runs else 0.0,
        }  # fmt: skip
    if event is Event.OVERDUE or (state is State.LEAVING and allocation.state is not State.LEAVING):
        changes["leaving_at"] = now
    if state is State.ENDED and allocation.state is not State.ENDED:
        changes["ended_at"] = max(when, allocation.started_at)
    return msgspec.structs.replace(allocation, **changes), effects


def _default(event: Event) -> Reason:
    match event:
        case Event.CANCELLED:
            return Reason.CANCELLED
        case Event.DISMISSED:
            return Reason.LEFT
    return Reason.FAILED


def orphan(token: str, pool: int, now: float, each: Amounts, nodes: int = 1) -> Allocation:
    """One that was seen in the batch system with a token of ours that nobody knows: it is to be cancelled."""
    return Allocation(
        token=token, pool=pool, state=State.ORPHANED, asked_at=now, nodes=nodes, each=each, leaving_at=now,
        reason=Reason.ORPHAN,
    )  # fmt: skip
