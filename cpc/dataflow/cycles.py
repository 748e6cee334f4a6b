"""Loops of connections that would go round for ever, because no code in them decides to stop.

Values pass through connections, and through instances whose function always answers its inputs: arithmetic, plain
functions, commands. A loop needs a function that decides (`functions.DECIDING`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from cpc.core.errors import BadInput
from cpc.dataflow.description import FunctionKind
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.items import Item
from cpc.dataflow.types import Path

#: An item, without its type.
_Place: TypeAlias = tuple[Instance, Tree, Path]


def refuse(source: Item, target: Item) -> None:
    """BadInput when connecting the two would close such a loop.

    Looks downstream from the target and upstream from the source in turn, and ends when one of the two has no more: so
    a network that grows at either end is not looked through again and again.
    """
    down = _Search((target.instance, target.tree, target.path), _downstream)
    up = _Search((source.instance, source.tree, source.path), _upstream)
    goals = {down: (source.instance, source.tree, source.path), up: (target.instance, target.tree, target.path)}
    while True:
        for search, goal in goals.items():
            place = search.step()
            if place is None:
                return
            if _overlap(place, goal):
                raise BadInput(
                    f"connecting {source.where} to {target.where} would close a loop that never ends",
                    "a loop needs a function with a controller, which decides whether it goes on",
                )


class _Search:
    """A walk along the connections in one direction, place by place."""

    def __init__(self, begin: _Place, neighbours: Callable[[_Place], Iterator[_Place]]) -> None:
        self._seen = {begin}
        self._waiting = [begin]
        self._neighbours = neighbours

    def step(self) -> _Place | None:
        """One more place that is reached; None: there are no more."""
        if not self._waiting:
            return None
        place = self._waiting.pop()
        for each in self._neighbours(place):
            if each not in self._seen:
                self._seen.add(each)
                self._waiting.append(each)
        return place


def _overlap(one: _Place, other: _Place) -> bool:
    size = min(len(one[2]), len(other[2]))
    return one[0] is other[0] and one[1] is other[1] and one[2][:size] == other[2][:size]


def _passes(instance: Instance) -> bool:
    """Whether a change of its inputs always leads to a change of its outputs."""
    function = instance.function
    return not function.decides and function.kind is not FunctionKind.NETWORK


def _downstream(place: _Place) -> Iterator[_Place]:
    instance, tree, path = place
    if tree is Tree.IN and _passes(instance):
        yield (instance, Tree.OUT, ())
    if instance.outbound is not None:
        end: Path = (tree, *path)
        for link in (*instance.outbound.above(end), *instance.outbound.within(end)):
            rest = end[len(link.source_end) :]
            yield (link.target, link.target_tree, link.target_path + rest)


def _upstream(place: _Place) -> Iterator[_Place]:
    instance, tree, path = place
    if tree is Tree.OUT and _passes(instance):
        yield (instance, Tree.IN, ())
    if instance.inbound is not None:
        end: Path = (tree, *path)
        for link in (*instance.inbound.above(end), *instance.inbound.within(end)):
            rest = end[len(link.target_end) :]
            yield (link.source, link.source_tree, link.source_path + rest)
