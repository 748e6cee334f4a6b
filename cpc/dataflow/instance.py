"""Instances: what a network consists of, and their life as a table of states and events."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpc.core.plain import Plain
from cpc.dataflow import paths, values
from cpc.dataflow.links import Inbound, Outbound
from cpc.dataflow.types import Path
from cpc.dataflow.values import Node

if TYPE_CHECKING:
    from cpc.dataflow.functions import Function


class Tree(enum.IntEnum):
    """The four value trees of an instance. Numbers are stored; `label` is the word in paths."""

    IN = 0
    OUT = 1
    SUB_IN = 2
    SUB_OUT = 3

    @property
    def label(self) -> str:
        """`in`, `out`, `sub_in`, `sub_out`."""
        return self.name.lower()


class State(enum.IntEnum):
    """An instance's own state. Numbers are stored; `label` is what people see."""

    HELD = 0  # takes values and does not run
    ACTIVE = 1  # runs when its inputs are complete
    WARNING = 2  # active, and its last run had something to say
    ERROR = 3  # stopped; its message says why

    @property
    def label(self) -> str:
        """The state's name in lower case."""
        return self.name.lower()

    @property
    def runs(self) -> bool:
        """Whether steps may open."""
        return self in (State.ACTIVE, State.WARNING)


class Event(enum.StrEnum):
    """What can happen to an instance."""

    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"
    WARNED = "warned"  # an answer with a warning
    SUCCEEDED = "succeeded"  # a last answer without one
    FAILED = "failed"  # an error in an answer, of the controller's process, or in carrying the answer out
    CLEARED = "cleared"  # clear-error


#: state × event → state. Every pair is there: an event of a kind that changes nothing leaves the state.
TABLE: dict[tuple[State, Event], State] = {
    (State.HELD, Event.ACTIVATED): State.ACTIVE,
    (State.HELD, Event.DEACTIVATED): State.HELD,
    (State.HELD, Event.WARNED): State.HELD,  # a step that was under way has gone on
    (State.HELD, Event.SUCCEEDED): State.HELD,
    (State.HELD, Event.FAILED): State.ERROR,
    (State.HELD, Event.CLEARED): State.HELD,
    (State.ACTIVE, Event.ACTIVATED): State.ACTIVE,
    (State.ACTIVE, Event.DEACTIVATED): State.HELD,
    (State.ACTIVE, Event.WARNED): State.WARNING,
    (State.ACTIVE, Event.SUCCEEDED): State.ACTIVE,
    (State.ACTIVE, Event.FAILED): State.ERROR,
    (State.ACTIVE, Event.CLEARED): State.ACTIVE,
    (State.WARNING, Event.ACTIVATED): State.WARNING,
    (State.WARNING, Event.DEACTIVATED): State.HELD,
    (State.WARNING, Event.WARNED): State.WARNING,
    (State.WARNING, Event.SUCCEEDED): State.ACTIVE,
    (State.WARNING, Event.FAILED): State.ERROR,
    (State.WARNING, Event.CLEARED): State.WARNING,
    (State.ERROR, Event.ACTIVATED): State.ERROR,
    (State.ERROR, Event.DEACTIVATED): State.ERROR,
    (State.ERROR, Event.WARNED): State.ERROR,
    (State.ERROR, Event.SUCCEEDED): State.ERROR,
    (State.ERROR, Event.FAILED): State.ERROR,
    (State.ERROR, Event.CLEARED): State.ACTIVE,
}


class Instance:
    """A named use of a function. Changed only through a graph, which notes the inverse of every change.

    `updated`: an input or sub-input has changed since the last step was opened; `seen`: the project's change number then.
    `number`: how many steps there were; `step`: the id of the open one, or 0. `trees`: one root node for each `Tree`.
    `inbound` and `outbound`: connections to and from items of the four trees.
    """

    __slots__ = (
        "children", "cpu", "error", "function", "id", "inbound", "name", "number", "outbound", "parent", "seen",
        "state", "step", "trees", "updated", "warning",
    )  # fmt: skip

    def __init__(self, id: int, name: str, parent: Instance | None, function: Function) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.function = function
        self.state = State.HELD
        self.error = ""
        self.warning = ""
        self.number = 0
        self.step = 0
        self.seen = 0
        self.updated = False
        self.cpu = 0.0
        self.trees: list[Node] = [None, None, None, None]
        self.children: dict[str, Instance] | None = None
        self.inbound: Inbound | None = None
        self.outbound: Outbound | None = None

    def __repr__(self) -> str:
        return f"<Instance {self.path or '(project)'}: {self.function.name}>"

    @property
    def path(self) -> str:
        """Its path from the project's top, `run:sim_3:mdrun`; empty for the project."""
        names: list[str] = []
        each: Instance | None = self
        while each is not None and each.parent is not None:
            names.append(each.name)
            each = each.parent
        return ":".join(reversed(names))

    def where(self, tree: Tree, path: Path) -> str:
        """An item's path from the project's top, `run:sim_3:in.conf[3]`."""
        return f"{self.path}:{paths.write((tree.label, *path))}"

    def within(self) -> Iterator[Instance]:
        """The instances of its network and of all networks below; itself not."""
        waiting = list((self.children or {}).values())
        while waiting:
            each = waiting.pop()
            yield each
            if each.children:
                waiting += each.children.values()

    def node(self, tree: Tree, path: Path = ()) -> Node:
        """What is set at an item."""
        return values.get(self.trees[tree], self.function.types[tree], path)

    def value(self, tree: Tree, path: Path = ()) -> Plain:
        """An item's value as others see it."""
        return values.to_plain(self.node(tree, path), self.function.types[tree].at(path))


#: Which state is shown of many: the one that comes last here.
_SHOWN = (State.ACTIVE, State.HELD, State.WARNING, State.ERROR)


def worst(instance: Instance) -> State:
    """The state that people see of an instance and all within it: error before warning before held before active."""
    found = instance.state
    for each in instance.within():
        if _SHOWN.index(each.state) > _SHOWN.index(found):
            found = each.state
    return found


def count(instance: Instance) -> dict[State, int]:
    """How many instances within it, at every depth, are in which state."""
    counts: dict[State, int] = {}
    for each in instance.within():
        counts[each.state] = counts.get(each.state, 0) + 1
    return counts
