"""Writing into an instance's value trees, so that every write can be undone."""

from __future__ import annotations

from typing import Any, TypeAlias

from cpc.core.journal import Journal
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.types import Kind, Path, Type
from cpc.dataflow.values import Node

#: What holds nodes: a list (the four roots, a record, an array) or a dict.
_Holder: TypeAlias = list[Any] | dict[str, Any]


def write(journal: Journal, instance: Instance, tree: Tree, path: Path, node: Node) -> None:
    """Put `node` at `path`, with what it takes on the way there; what is empty then is taken away."""
    type = instance.function.types[tree]
    holders: list[tuple[_Holder, Any, Kind]] = [(instance.trees, tree, Kind.RECORD)]
    current: Node = instance.trees[tree]
    for depth, part in enumerate(path):
        if current is None:
            node = _wrapped(type, path[depth:], node)
            break
        assert isinstance(current, list | dict)
        key: Any = type.positions[part] if type.kind is Kind.RECORD else part  # type: ignore[index]
        holders.append((current, key, type.kind))
        current = _child(current, key)
        type = type.below(part)
    holder, key, kind = holders.pop()
    _assign(journal, holder, key, node)
    while node is None and holders and _emptied(journal, holder, kind):
        holder, key, kind = holders.pop()
        _assign(journal, holder, key, None)


def _child(holder: _Holder, key: Any) -> Node:
    """The node that it holds there; None when it holds none."""
    if isinstance(holder, dict):
        return holder.get(key)
    found: Node = holder[key] if key < len(holder) else None
    return found


def _wrapped(type: Type, path: Path, node: Node) -> Node:
    """The node within new holders for the rest of the path; None stays None."""
    if node is None or not path:
        return node
    inner = _wrapped(type.below(path[0]), path[1:], node)
    if type.kind is Kind.DICT:
        return {str(path[0]): inner}
    if type.kind is Kind.ARRAY:
        return [*[None] * int(path[0]), inner]
    fields: list[Node] = [None] * len(type.fields)
    fields[type.positions[str(path[0])]] = inner
    return fields


def _assign(journal: Journal, holder: _Holder, key: Any, node: Node) -> None:
    if isinstance(holder, dict):
        if key in holder:
            journal.note(holder.__setitem__, key, holder[key])
        elif node is not None:
            journal.note(holder.pop, key)
        if node is not None:
            holder[key] = node
        else:
            holder.pop(key, None)
    elif key < len(holder):
        journal.note(holder.__setitem__, key, holder[key])
        holder[key] = node
    elif node is not None:
        journal.note(_cut, holder, len(holder))
        holder += [None] * (key - len(holder))
        holder.append(node)


def _emptied(journal: Journal, holder: _Holder, kind: Kind) -> bool:
    """Whether nothing is left in it, after an array has lost what is not set at its end."""
    if isinstance(holder, list) and kind is Kind.RECORD:
        return all(node is None for node in holder)
    if isinstance(holder, list):
        size = len(holder)
        while holder and holder[-1] is None:
            holder.pop()
        if len(holder) < size:
            journal.note(holder.extend, [None] * (size - len(holder)))
    return not holder


def _cut(holder: list[Any], size: int) -> None:
    del holder[size:]
