"""Steps: the life of one run of a function as a table, and what it starts from."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cpc.core.plain import Plain
from cpc.dataflow import expand, paths, values
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.types import Path


class State(enum.IntEnum):
    """Numbers are stored; `label` is what people see. A step is open until it is closed."""

    READY = 0  # its function is to be run
    RUNNING = 1  # given to a controller
    WAITING = 2  # for its jobs
    PARKED = 3  # its instance is held: waiting jobs are held back until it is activated
    CLOSED = 4  # answered, and without jobs
    CANCELLED = 5  # out of date, in error, or its instance is gone

    @property
    def label(self) -> str:
        """The state's name in lower case."""
        return self.name.lower()

    @property
    def open(self) -> bool:
        """Whether anything more can come of it."""
        return self < State.CLOSED


class Event(enum.StrEnum):
    """What can happen to a step."""

    GIVEN = "given"  # to a controller
    LOST = "lost"  # the server has stopped under the controller: it runs again
    CONTINUED = "continued"  # answered, with jobs, or with jobs left from before
    ANSWERED = "answered"  # answered, and no job is left
    JOB_ENDED = "job ended"
    PARKED = "parked"
    UNPARKED = "unparked"
    CANCELLED = "cancelled"


#: state × event → state. What is not listed cannot happen; the table is printed into docs/charts.
TABLE: dict[tuple[State, Event], State] = {
    (State.READY, Event.GIVEN): State.RUNNING,
    (State.READY, Event.JOB_ENDED): State.READY,  # given to the run that is to come, with the others
    (State.READY, Event.PARKED): State.READY,
    (State.READY, Event.UNPARKED): State.READY,
    (State.READY, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.LOST): State.READY,
    (State.RUNNING, Event.JOB_ENDED): State.RUNNING,  # kept for the next run
    (State.RUNNING, Event.PARKED): State.RUNNING,
    (State.RUNNING, Event.UNPARKED): State.RUNNING,
    (State.RUNNING, Event.CONTINUED): State.WAITING,
    (State.RUNNING, Event.ANSWERED): State.CLOSED,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
    (State.WAITING, Event.JOB_ENDED): State.READY,
    (State.WAITING, Event.PARKED): State.PARKED,
    (State.WAITING, Event.UNPARKED): State.WAITING,
    (State.WAITING, Event.CANCELLED): State.CANCELLED,
    (State.PARKED, Event.JOB_ENDED): State.READY,  # one that ran already: its result is taken
    (State.PARKED, Event.PARKED): State.PARKED,
    (State.PARKED, Event.UNPARKED): State.WAITING,
    (State.PARKED, Event.CANCELLED): State.CANCELLED,
}


def after(state: State, event: Event) -> State:
    """The state that follows; a pair that is not in the table is a defect of the caller."""
    return TABLE[state, event]


@dataclass(frozen=True, slots=True)
class StepSnapshot:
    """What a step starts from: values by name, defaults included, and which of them are new (`in.conf[3]`).

    Outputs are there for functions that ask for them.
    """

    inputs: dict[str, Plain]
    sub_inputs: dict[str, Plain]
    updated: tuple[str, ...]
    outputs: dict[str, Plain] | None = None
    sub_outputs: dict[str, Plain] | None = None


def snapshot(instance: Instance, since: int) -> StepSnapshot:
    """The values of an instance as they are now; what changed after change `since` of the project is new."""
    function = instance.function
    controller = function.controller
    return StepSnapshot(
        inputs=expand.expand(_values(instance, Tree.IN), function.broadcast),
        sub_inputs=_values(instance, Tree.SUB_IN),
        updated=tuple(updated(instance, since)),
        outputs=_values(instance, Tree.OUT) if controller is not None and controller.access_outputs else None,
        sub_outputs=_values(instance, Tree.SUB_OUT)
        if controller is not None and controller.access_subnet_outputs
        else None,
    )


def _values(instance: Instance, tree: Tree) -> dict[str, Plain]:
    found = values.to_plain(instance.trees[tree], instance.function.types[tree], defaults=True)
    return found if isinstance(found, dict) else {}


def updated(instance: Instance, since: int) -> list[str]:
    """The leaves of its inputs and sub-inputs that have changed after a change of the project, as paths."""
    found = []
    for tree in (Tree.IN, Tree.SUB_IN):
        for path, leaf in values.leaves(instance.trees[tree], instance.function.types[tree]):
            if leaf.version > since or arrived(instance, tree, path) > since:
                found.append(paths.write((tree.label, *path)))
    return found


def arrived(instance: Instance, tree: Tree, path: Path) -> int:
    """The project's change in which the youngest of the connections was made through which an item's value comes; 0: none."""
    youngest = 0
    while instance.inbound is not None:
        links = instance.inbound.above((tree, *path))
        if not links:
            break
        link = links[0]
        youngest = max(youngest, link.since)
        instance, tree, path = link.source, link.source_tree, link.source_path + path[len(link.target_path) :]
    return youngest
