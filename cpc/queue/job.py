"""The life of a job: states, events, and which follows which."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """Numbers are stored; `label` is what people see."""

    BLOCKED = 0  # waits for other jobs, or is held
    WAITING = 1  # could run now
    RUNNING = 2  # has a lease
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def label(self) -> str:
        """The state's name in lower case."""
        return self.name.lower()

    @property
    def terminal(self) -> bool:
        """Whether nothing changes it any more but a retry by a person."""
        return self >= State.SUCCEEDED


class Event(enum.StrEnum):
    """What can happen to a job."""

    HELD = "held"  # the instance that it belongs to is
    UNBLOCKED = "unblocked"
    DOOMED = "doomed"  # a job it waits for cannot succeed any more
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    GAVE_UP = "gave up"  # failures or losses reached their limit
    RETURNED = "returned"  # the attempt ended and another may follow
    CANCELLED = "cancelled"
    RETRIED = "retried"


#: state × event → state. What is not listed cannot happen; the table is printed into docs/charts.
TABLE: dict[tuple[State, Event], State] = {
    (State.BLOCKED, Event.HELD): State.BLOCKED,
    (State.BLOCKED, Event.UNBLOCKED): State.WAITING,
    (State.BLOCKED, Event.SUCCEEDED): State.SUCCEEDED,  # as for one that waits
    (State.BLOCKED, Event.DOOMED): State.CANCELLED,
    (State.BLOCKED, Event.CANCELLED): State.CANCELLED,
    (State.WAITING, Event.HELD): State.BLOCKED,
    (State.WAITING, Event.LEASED): State.RUNNING,
    (State.WAITING, Event.SUCCEEDED): State.SUCCEEDED,  # a late success of an earlier attempt
    (State.WAITING, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.SUCCEEDED): State.SUCCEEDED,
    (State.RUNNING, Event.RETURNED): State.WAITING,
    (State.RUNNING, Event.GAVE_UP): State.FAILED,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
    (State.FAILED, Event.RETRIED): State.WAITING,
    (State.CANCELLED, Event.RETRIED): State.WAITING,
}


def after(state: State, event: Event) -> State:
    """The state that follows; a pair that is not in the table is a defect of the caller."""
    return TABLE[state, event]


def read_states(text: str) -> tuple[State, ...]:
    """`waiting,running` → states; raises KeyError with the unknown word."""
    return tuple(State[word.strip().upper()] for word in text.split(",") if word.strip())
