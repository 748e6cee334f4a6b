"""When an instance runs, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator

from cpc.dataflow import expand
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.types import Field, Kind, Path, Type
from cpc.dataflow.values import Node


def ready(instance: Instance) -> bool:
    """Whether a step is to be opened now."""
    function = instance.function
    wanted = instance.updated or (function.eager and instance.number == 0)
    return wanted and not instance.step and not function.stepless and instance.state.runs and complete(instance)


def complete(instance: Instance) -> bool:
    """Whether all required inputs are there."""
    return next(missing(instance), None) is None


def missing(instance: Instance) -> Iterator[str]:
    """What is not there of the required inputs, in words: `a:in.x is not set`.

    Required are scalars that are not optional, arrays and dicts that are not optional and then not empty, and of
    `complete` members everything within, connected elements included.
    """
    type = instance.function.types[Tree.IN]
    root = instance.trees[Tree.IN]
    for place, field in enumerate(type.fields):
        node = root[place] if isinstance(root, list) else None
        yield from _missing(instance, (field.name,), field, node)
    if instance.function.broadcast:
        unequal = expand.unequal(instance)
        if unequal:
            yield unequal


def _missing(instance: Instance, path: Path, field: Field, node: Node) -> Iterator[str]:
    type = field.type
    if node is None:
        if field.opt and not (field.complete and _connected(instance, path)):
            return
        if type.kind is not Kind.RECORD:
            yield f"{instance.where(Tree.IN, path)} is {'empty' if type.kind.compound else 'not set'}"
            return
    if field.complete:
        yield from _holes(instance, path, type, node)
    elif type.kind is Kind.RECORD:
        for place, each in enumerate(type.fields):
            yield from _missing(instance, (*path, each.name), each, node[place] if isinstance(node, list) else None)


def _holes(instance: Instance, path: Path, type: Type, node: Node) -> Iterator[str]:
    """What is not set anywhere within a complete item."""
    if type.kind is Kind.RECORD:
        for place, field in enumerate(type.fields):
            each = node[place] if isinstance(node, list) else None
            if each is not None or not field.opt or _connected(instance, (*path, field.name)):
                yield from _holes(instance, (*path, field.name), field.type, each)
    elif node is None:
        yield f"{instance.where(Tree.IN, path)} is {'empty' if type.kind.compound else 'not set'}"
    elif isinstance(node, list):
        extent = 0 if instance.inbound is None else instance.inbound.extent((Tree.IN, *path))
        if extent > len(node):
            yield f"{instance.where(Tree.IN, (*path, extent - 1))} is not set"
        member = type.below(0)
        for index, each in enumerate(node):
            if each is None or member.kind.compound:
                yield from _holes(instance, (*path, index), member, each)
    elif isinstance(node, dict):
        for name, each in node.items():
            yield from _holes(instance, (*path, name), type.below(name), each)


def _connected(instance: Instance, path: Path) -> bool:
    """Whether something comes to the item, or to a part of it, through a connection."""
    inbound = instance.inbound
    end = (Tree.IN, *path)
    return inbound is not None and bool(inbound.above(end) or inbound.within(end))
