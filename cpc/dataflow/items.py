"""What a path leads to: an instance, an item of its value trees, one of its messages, or an end of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cpc.core.errors import BadInput, NotFound
from cpc.core.plain import Plain
from cpc.dataflow import paths
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.paths import NEXT, Written
from cpc.dataflow.types import Field, Kind, Path, Type
from cpc.dataflow.values import Node

_TREES = {"in": Tree.IN, "out": Tree.OUT, "sub_in": Tree.SUB_IN, "sub_out": Tree.SUB_OUT}
#: Of the instance that owns a network, seen from inside: what can be a source there, and what a target.
_SELF_SOURCES = {"ext_in": Tree.IN, "sub_out": Tree.SUB_OUT, "out": Tree.SUB_OUT}
_SELF_TARGETS = {"ext_out": Tree.OUT, "sub_in": Tree.SUB_IN, "in": Tree.SUB_IN}


MessageName: TypeAlias = Literal["", "error", "warning", "log"]
_MESSAGES: tuple[MessageName, ...] = ("", "error", "warning", "log")


@dataclass(frozen=True, slots=True)
class Item:
    """A value's place: a tree of an instance, and the path in it."""

    instance: Instance
    tree: Tree
    path: Path
    type: Type

    @property
    def where(self) -> str:
        """Its path from the project's top."""
        return self.instance.where(self.tree, self.path)

    @property
    def node(self) -> Node:
        """What is set there."""
        return self.instance.node(self.tree, self.path)

    @property
    def value(self) -> Plain:
        """The value as others see it; None when it is not set."""
        return self.instance.value(self.tree, self.path)

    @property
    def field(self) -> Field | None:
        """The record's field that it is; None for an element or entry."""
        if not self.path:
            return None
        holder = self.instance.function.types[self.tree].at(self.path[:-1])
        return holder.fields[holder.positions[str(self.path[-1])]] if holder.kind is Kind.RECORD else None


@dataclass(frozen=True, slots=True)
class Message:
    """`x.msg.error`, `x.msg.warning`, `x.msg.log`; without a word, all of them."""

    instance: Instance
    name: MessageName


@dataclass(frozen=True, slots=True)
class End:
    """An end of a connection in the network that `network` owns."""

    network: Instance
    item: Item


def find(scope: Instance, text: str) -> Instance | Item | Message:
    """What the path leads to, from the network of `scope`. NotFound names the first part that is not there."""
    instance, rest = _walk(scope, paths.parse(text), text)
    if not rest:
        return instance
    if rest[0] == "msg":
        return _message(instance, rest[1:], text)
    tree = _TREES.get(str(rest[0]))
    if tree is None:
        raise _no_instance(instance, str(rest[0]), text)
    return item(instance, tree, rest[1:])


def instance(scope: Instance, text: str) -> Instance:
    """The instance at the path; BadInput when it leads to a value."""
    found = find(scope, text)
    if not isinstance(found, Instance):
        raise BadInput(f"{text} is not an instance", "leave out what follows the instance's name")
    return found


def value(scope: Instance, text: str) -> Item:
    """The item at the path; BadInput when it leads to something else."""
    found = find(scope, text)
    if not isinstance(found, Item):
        raise BadInput(
            f"{text or 'the project'} is not a value", "values are written INSTANCE:in.NAME or INSTANCE:out.NAME"
        )
    return found


def item(instance: Instance, tree: Tree, rest: Written) -> Item:
    """The item of one tree; `[+]` is the next free element."""
    path: Path = ()
    type = instance.function.types[tree]
    for part in rest:
        decided = part
        if decided is NEXT:
            if type.kind is not Kind.ARRAY:
                raise BadInput(f"{instance.where(tree, path)} is {type.name}, not an array", "[+] is for arrays")
            decided = _next(instance, tree, path)
        assert isinstance(decided, str | int)
        type = type.below(decided, instance.where(tree, path))
        path = (*path, decided)
    return Item(instance, tree, path, type)


def _next(instance: Instance, tree: Tree, path: Path) -> int:
    node = instance.node(tree, path)
    size = len(node) if isinstance(node, list) else 0
    return size if instance.inbound is None else max(size, instance.inbound.extent((tree, *path)))


def source(scope: Instance, text: str) -> End:
    """Where a connection begins: `a:out.x`, or of the network's owner `self:ext_in.x` and `self:sub_out.x`."""
    return _end(
        scope, text, {"out": Tree.OUT}, _SELF_SOURCES, "begins at an output: a:out.x, self:ext_in.x, self:sub_out.x"
    )


def target(scope: Instance, text: str) -> End:
    """Where a connection ends: `b:in.y`, or of the network's owner `self:ext_out.y` and `self:sub_in.y`."""
    return _end(scope, text, {"in": Tree.IN}, _SELF_TARGETS, "ends at an input: b:in.y, self:ext_out.y, self:sub_in.y")


def _end(scope: Instance, text: str, of_sibling: dict[str, Tree], of_self: dict[str, Tree], rule: str) -> End:
    instance, rest = _walk(scope, paths.parse(text), text)
    inside = bool(rest) and rest[0] == "self"
    if inside:
        rest = rest[1:]
    word = str(rest[0]) if rest else ""
    if word and word not in paths.RESERVED:
        raise _no_instance(instance, word, text)
    tree = (of_self if inside else of_sibling).get(word)
    if tree is None or not (inside or instance.parent):
        raise BadInput(f"{text} cannot be that end of a connection", f"it {rule}")
    network = instance if inside else instance.parent
    assert network is not None
    return End(network, item(instance, tree, rest[1:]))


def _walk(scope: Instance, parts: Written, text: str) -> tuple[Instance, Written]:
    """Down the instances as far as the path names them."""
    for place, part in enumerate(parts):
        child = scope.children.get(part) if scope.children and isinstance(part, str) else None
        if child is None:
            if not isinstance(part, str):
                raise BadInput(
                    f"{text}: an element of an instance cannot be named", "INSTANCE:in.NAME[0] is one of a value"
                )
            return scope, parts[place:]
        scope = child
    return scope, ()


def _no_instance(instance: Instance, name: str, text: str) -> NotFound:
    where = f"instance {instance.path}" if instance.path else "the project"
    return NotFound(f"{text} not found: {where} has no instance {name!r}", "`cpcc ls` shows what is there")


def _message(instance: Instance, rest: Written, text: str) -> Message:
    for name in _MESSAGES:
        if rest == ((name,) if name else ()):
            return Message(instance, name)
    raise NotFound(f"{text} not found", "messages are msg.error, msg.warning and msg.log")
