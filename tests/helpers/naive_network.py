"""A network in the simplest way that could be right: every value is looked up through all connections, every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.dataflow import arithmetic, paths
from cpc.dataflow.description import FunctionKind
from cpc.dataflow.functions import DECIDING, Function
from cpc.dataflow.instance import State, Tree
from cpc.dataflow.library import Library
from cpc.dataflow.types import Kind, Path, Type, fit

Name = tuple[str, ...]
Place = tuple[Name, Tree, Path]
Leaves = dict[Path, Any]
_TREES = {"in": Tree.IN, "out": Tree.OUT, "sub_in": Tree.SUB_IN, "sub_out": Tree.SUB_OUT}
_OWN = {"ext_in": Tree.IN, "sub_out": Tree.SUB_OUT, "sub_in": Tree.SUB_IN, "ext_out": Tree.OUT}


@dataclass
class Thing:
    """An instance."""

    function: Function
    state: State
    own: dict[Tree, Leaves] = field(default_factory=lambda: {tree: {} for tree in Tree})
    updated: bool = False
    open: bool = False
    steps: int = 0


def overlap(one: Path, other: Path) -> bool:
    size = min(len(one), len(other))
    return one[:size] == other[:size]


class Naive:
    """Instances by their names from the top, and connections as pairs of places. It refuses with CopernicusError."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.things: dict[Name, Thing] = {}
        self.links: list[tuple[Place, Place]] = []

    def copy(self) -> Naive:
        """Another one in the same state."""
        other = Naive(self.library)
        other.links = list(self.links)
        for name, thing in self.things.items():
            own = {tree: dict(leaves) for tree, leaves in thing.own.items()}
            other.things[name] = Thing(thing.function, thing.state, own, thing.updated, thing.open, thing.steps)
        return other

    def place(self, text: str, scope: Name = ()) -> Place:
        """What a path from the top, or from `scope`, names: of `self`, the tree of the network's owner."""
        parts = list(paths.parse(text))
        name = scope
        while parts and (*name, parts[0]) in self.things:
            name = (*name, str(parts.pop(0)))
        words = _TREES
        if parts and parts[0] == "self":
            parts.pop(0)
            words = _OWN
        if not parts or str(parts[0]) not in words:
            raise NotFound(text)
        place = (name, words[str(parts[0])], tuple(parts[1:]))
        if not name:
            raise NotFound(text)
        self.type(place)
        return place  # type: ignore[return-value]

    def type(self, place: Place) -> Type:
        return self.things[place[0]].function.types[place[1]].at(place[2])

    def add(self, name: Name, function: str, state: State = State.HELD, module: str = "") -> None:
        if name in self.things or (len(name) > 1 and name[:-1] not in self.things):
            raise Conflict(str(name))
        if len(name) > 1 and self.things[name[:-1]].function.kind is FunctionKind.INLINE:
            raise BadInput(str(name))
        found = self.library.function(function, module)
        self.things[name] = Thing(found, state)
        for each in found.network.instances if found.network else ():
            self.add((*name, each.id), each.function, state, found.module)
        for link in found.network.connections if found.network else ():
            self.connect(link.source, link.target, name)

    def cleared(self, thing: Thing) -> State:
        """The state of one whose error is cleared: that of what is around it, as far as that is not in error."""
        (name,) = (each for each, found in self.things.items() if found is thing)
        states = [self.things[name[:size]].state for size in range(1, len(name))]
        around = [state for state in states if state is not State.ERROR]
        return State.HELD if around[-1:] == [State.HELD] else State.ACTIVE

    def remove(self, name: Name) -> None:
        gone = {each for each in self.things if each[: len(name)] == name}
        self.links = [link for link in self.links if not {link[0][0], link[1][0]} & gone]
        self.things = {each: thing for each, thing in self.things.items() if each not in gone}

    def connect(self, source_text: str, target_text: str, scope: Name = ()) -> None:
        source, target = self.place(source_text, scope), self.place(target_text, scope)
        source_network = source[0] if "self:" in source_text else source[0][:-1]
        target_network = target[0] if "self:" in target_text else target[0][:-1]
        if source_network and self.things[source_network].function.kind is FunctionKind.INLINE:
            raise BadInput(source_text)
        if source_network != target_network or fit(self.type(source), self.type(target)) is None:
            raise BadInput(target_text)
        if self.connected(target) or self.loops(source, target):
            raise Conflict(target_text)
        self.assign(target, None)
        self.links.append((source, target))

    def disconnect(self, text: str) -> None:
        place = self.place(text)
        found = [link for link in self.links if link[1] == place]
        if not found:
            raise NotFound(text)
        self.links.remove(found[0])

    def set(self, text: str, value: Any) -> None:
        place = self.place(text)
        if self.connected(place):
            raise Conflict(text)
        self.assign(place, value)

    def assign(self, place: Place, value: Any) -> None:
        name, tree, path = place
        own = self.things[name].own[tree]
        for each in [each for each in own if each[: len(path)] == path]:
            del own[each]
        own.update((path + inner, leaf) for inner, leaf in flat(value))

    def leaves(self, name: Name, tree: Tree, part: Path = ()) -> Leaves:
        """The leaves at and below `part` of a tree, by their paths from its root."""
        thing = self.things[name]
        found = {path: value for path, value in thing.own[tree].items() if path[: len(part)] == part}
        for source, target in self.links:
            if target[:2] != (name, tree) or not overlap(target[2], part):
                continue
            begin = source[2] + part[len(target[2]) :]
            for path, value in self.leaves(source[0], source[1], begin).items():
                place = target[2] + path[len(source[2]) :]
                kind = _kind(thing.function.types[tree], place)
                if kind is not None:
                    found[place] = float(value) if kind is Kind.FLOAT else value
        return found

    def value(self, name: Name, tree: Tree) -> Any:
        return build(self.leaves(name, tree), self.things[name].function.types[tree])

    def connected(self, place: Place) -> bool:
        return any(target[:2] == place[:2] and overlap(target[2], place[2]) for _, target in self.links)

    def loops(self, source: Place, target: Place) -> bool:
        """Whether the target leads to the source."""
        seen: list[Place] = []
        waiting = [target]
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.append(place)
            if place[:2] == source[:2] and overlap(place[2], source[2]):
                return True
            thing = self.things[place[0]]
            if place[1] is Tree.IN and thing.function.kind not in (*DECIDING, FunctionKind.NETWORK):
                waiting.append((place[0], Tree.OUT, ()))
            for begin, end in self.links:
                if begin[:2] == place[:2] and overlap(begin[2], place[2]):
                    waiting.append((*end[:2], end[2] + place[2][len(begin[2]) :]))
        return False

    def settle(self, before: dict[tuple[Name, Tree], Leaves]) -> None:
        """Do the arithmetic until nothing changes; mark what has new inputs since `before`."""
        failing: set[Name] = set()
        for _ in range(len(self.things) + 2):
            failing = {name for name, thing in self.things.items() if not self._compute(name, thing)}
        for name in failing:
            self.things[name].state = State.ERROR
        for (name, tree), leaves in self.inputs().items():
            if leaves != before.get((name, tree), {}):
                self.things[name].updated = True

    def inputs(self) -> dict[tuple[Name, Tree], Leaves]:
        """The leaves of all inputs and sub-inputs."""
        return {(name, tree): self.leaves(name, tree) for name in self.things for tree in (Tree.IN, Tree.SUB_IN)}

    def _compute(self, name: Name, thing: Thing) -> bool:
        if thing.function.kind is not FunctionKind.INLINE or not thing.state.runs:
            return True
        given = self.leaves(name, Tree.IN)
        arguments = [given.get((each.name,)) for each in thing.function.types[Tree.IN].fields]
        if None in arguments:
            return True
        try:
            thing.own[Tree.OUT][("c",)] = arithmetic.FUNCTIONS[thing.function.name](*arguments)
        except BadInput:
            return False
        return True


def _kind(type: Type, path: Path) -> Kind | None:
    try:
        return type.at(path).kind
    except NotFound:
        return None


def build(leaves: Leaves, type: Type) -> Any:
    """The plain value of these leaves."""
    if () in leaves:
        return leaves[()]
    parts = {path[0] for path in leaves}
    if not parts:
        return None
    inner = {part: {path[1:]: value for path, value in leaves.items() if path[0] == part} for part in parts}
    made = {part: build(each, type.below(part)) for part, each in inner.items()}
    if type.kind is Kind.ARRAY:
        return [made.get(index) for index in range(max(p for p in parts if isinstance(p, int)) + 1)]
    return made


def flat(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of a plain value."""
    if isinstance(value, dict | list):
        for part, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(each, (*path, part))
    elif value is not None:
        yield path, value
