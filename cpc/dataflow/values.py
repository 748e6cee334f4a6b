"""Values in memory: trees whose leaves are shared and never change.

A node is None (not set), a `Leaf`, a list (a record by field position, an array by index) or a dict. What holds nothing
is None: there are no empty arrays, dicts or records, and an array ends with its last set element. So a tree can always be
made again from its leaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from cpc.core.errors import BadInput
from cpc.core.plain import FileRef, Plain
from cpc.dataflow import paths
from cpc.dataflow.types import Kind, Path, Type

Scalar: TypeAlias = bool | int | float | str | FileRef

_MAX_INT = (1 << 63) - 1


class Leaf(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A set value. `version`: the project's change that set it; `origin`: the step that made it, 0 for a person."""

    value: Scalar
    version: int = 0
    origin: int = 0


Node: TypeAlias = "Leaf | list[Node] | dict[str, Node] | None"


def get(node: Node, type: Type, path: Path) -> Node:
    """The node at `path` below `node`; None when nothing is set there."""
    for part in path:
        if node is None:
            return None
        if isinstance(node, dict):
            node = node.get(part)  # type: ignore[arg-type]
        else:
            place = part if isinstance(part, int) else type.positions[part]
            node = node[place] if place < len(node) else None  # type: ignore[arg-type, index]
        type = type.below(part)
    return node


def same(one: Scalar, other: Scalar) -> bool:
    """Whether two scalars of the same type are the same value: every NaN is, 0.0 and -0.0 are not."""
    if isinstance(one, float) and isinstance(other, float):
        if one == other:
            return one != 0.0 or math.copysign(1.0, one) == math.copysign(1.0, other)
        return math.isnan(one) and math.isnan(other)
    return one == other


def of_plain(type: Type, value: Plain, version: int, origin: int, where: str) -> Node:
    """The node for a value of `type`; BadInput names the path below `where` and the type that it does not fit."""
    if value is None:
        return None
    if not type.kind.compound:
        return Leaf(_scalar(type, value, where), version, origin)
    if type.kind is Kind.ARRAY:
        if not isinstance(value, list):
            raise _unfit(type, value, where)
        assert type.member is not None
        member = type.member
        elements = [of_plain(member, each, version, origin, f"{where}[{n}]") for n, each in enumerate(value)]
        return trimmed(elements)
    if not isinstance(value, dict):
        raise _unfit(type, value, where)
    return _entries(type, value, version, origin, where)


def _entries(type: Type, value: dict[str, Plain], version: int, origin: int, where: str) -> Node:
    named = {paths.entry_name(name): each for name, each in value.items()}
    if len(named) != len(value):
        raise BadInput(f"{where} ({type.name}): two names are the same; '-' means '_'")
    nodes = {
        name: of_plain(type.below(name, where), each, version, origin, f"{where}.{name}")
        for name, each in named.items()
    }
    kept: dict[str, Node] = {name: node for name, node in nodes.items() if node is not None}
    if not kept:
        return None
    return kept if type.kind is Kind.DICT else [kept.get(name) for name in type.positions]


def _scalar(type: Type, value: Plain, where: str) -> Scalar:
    kind = type.kind
    if kind is Kind.FLOAT and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise BadInput(f"{where} ({type.name}): {value} is too large for a float") from None
    if kind is Kind.INT and isinstance(value, int) and not isinstance(value, bool):
        if not -_MAX_INT - 1 <= value <= _MAX_INT:
            raise BadInput(f"{where} ({type.name}): {value} does not fit into 64 bits")
        return value
    if kind is Kind.STRING and isinstance(value, str):
        if "\0" in value:
            raise BadInput(f"{where} ({type.name}): a text cannot hold a NUL character")
        return value
    if (kind is Kind.BOOL and isinstance(value, bool)) or (kind is Kind.FILE and isinstance(value, FileRef)):
        return value
    raise _unfit(type, value, where)


def _unfit(type: Type, value: Plain, where: str) -> BadInput:
    return BadInput(f"{where} takes {type.words}; {brief(value)} is none")


def brief(value: Plain, limit: int = 60) -> str:
    """A value in a few words, for a message."""
    if isinstance(value, FileRef):
        return f"the file {value.name[:limit]}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a record of {len(value)}"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_plain(node: Node, type: Type, defaults: bool = False) -> Plain:
    """The value as others see it: members of records and dicts that are not set are left out.

    `defaults`: members that have one are there with it, as functions see them.
    """
    if isinstance(node, Leaf):
        return node.value
    if node is None:
        return (_defaults(type) or None) if defaults else None
    if isinstance(node, dict):
        member = type.below("entry")
        return {name: to_plain(each, member, defaults) for name, each in node.items()}
    if type.kind is Kind.ARRAY:
        member = type.below(0)
        return [each.value if isinstance(each, Leaf) else to_plain(each, member, defaults) for each in node]
    fields = zip(type.fields, node, strict=True)
    found = {field.name: to_plain(each, field.type, defaults) for field, each in fields if each is not None}
    return _defaults(type) | found if defaults else found


def _defaults(type: Type) -> dict[str, Plain]:
    return {field.name: field.default for field in type.fields if field.default is not None}


def trimmed(elements: list[Node]) -> list[Node] | None:
    """The array without unset elements at its end; None when nothing is left."""
    while elements and elements[-1] is None:
        elements.pop()
    return elements or None


def leaves(node: Node, type: Type, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every leaf with its path."""
    if isinstance(node, Leaf):
        yield path, node
    else:
        for part, member, each in members(node, type):
            if each is not None:
                yield from leaves(each, member, (*path, part))


def members(node: Node, type: Type) -> Iterator[tuple[str | int, Type, Node]]:
    """What a compound holds: (name or index, type, node). Nothing for what is not set."""
    if isinstance(node, dict):
        member = type.below("entry")
        yield from ((name, member, each) for name, each in node.items())
    elif isinstance(node, list):
        if type.kind is Kind.ARRAY:
            member = type.below(0)
            yield from ((index, member, each) for index, each in enumerate(node))
        else:
            yield from ((field.name, field.type, each) for field, each in zip(type.fields, node, strict=True))


def graft(old: Node, new: Node) -> Node:
    """`new`, with every part that equals `old` at the same place being that very part of `old`."""
    if old is None or new is None or old is new:
        return new
    if isinstance(new, Leaf):
        return old if isinstance(old, Leaf) and same(old.value, new.value) else new
    if isinstance(new, dict):
        assert isinstance(old, dict)
        entries = {name: graft(old.get(name), each) for name, each in new.items()}
        unchanged = len(old) == len(entries) and all(old.get(name) is each for name, each in entries.items())
        return old if unchanged else entries
    assert isinstance(old, list)
    elements: list[Node] = [graft(old[n] if n < len(old) else None, each) for n, each in enumerate(new)]
    unchanged = len(old) == len(elements) and all(one is other for one, other in zip(old, elements, strict=True))
    return old if unchanged else elements


def changes(old: Node, new: Node, type: Type, path: Path = ()) -> Iterator[tuple[Path, Leaf | None]]:
    """The leaves that differ between `old` and its graft `new`; None: not set any more."""
    if old is new:
        return
    if isinstance(new, Leaf):
        yield path, new
    elif isinstance(old, Leaf):
        yield path, None
    else:
        before = {part: (member, node) for part, member, node in members(old, type)}
        for part, member, node in members(new, type):
            _, former = before.pop(part, (member, None))
            yield from changes(former, node, member, (*path, part))
        for part, (member, node) in before.items():
            yield from changes(node, None, member, (*path, part))


def convert(node: Node, source: Type, target: Type) -> Node:
    """The node of a `source` as one of a `target` that it fits (`types.fit`); leaves keep version and origin."""
    if node is None or source is target:
        return node
    if isinstance(node, Leaf):
        if target.kind is Kind.FLOAT and isinstance(node.value, int):
            return Leaf(float(node.value), node.version, node.origin)
        return node
    if isinstance(node, dict):
        entries = ((name, convert(each, source.below("entry"), target.below("entry"))) for name, each in node.items())
        return {name: each for name, each in entries if each is not None} or None
    if target.kind is Kind.ARRAY:
        return trimmed([convert(each, source.below(0), target.below(0)) for each in node])
    fields: list[Node] = []
    for field in target.fields:
        place = source.positions.get(field.name)
        fields.append(None if place is None else convert(node[place], source.fields[place].type, field.type))
    return fields if any(each is not None for each in fields) else None
