"""A graph as rows: what lies in the database and in a saved project, and how it becomes a graph again.

Derived values are not written down: they follow from the own ones and the connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from cpc.core import plain
from cpc.core.errors import CopernicusError, Damaged
from cpc.core.journal import Journal, Unwritten
from cpc.dataflow import paths
from cpc.dataflow.description import ModuleText
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.library import Library
from cpc.dataflow.links import Link
from cpc.dataflow.propagation import Propagation
from cpc.dataflow.trees import write
from cpc.dataflow.types import Fit, Path, fit
from cpc.dataflow.values import Leaf, leaves, of_plain


class InstanceRow(msgspec.Struct, frozen=True, array_like=True):
    """An instance. `parent`: the id of the instance that owns its network, 0: the project."""

    id: int
    parent: int
    name: str
    function: str
    state: int
    error: str = ""
    warning: str = ""
    number: int = 0
    step: int = 0
    seen: int = 0
    updated: bool = False
    cpu: float = 0.0


class ValueRow(msgspec.Struct, frozen=True, array_like=True):
    """An own leaf. `path` as text below the tree; `value` in the wire form of `cpc.core.plain`."""

    instance: int
    tree: int
    path: str
    value: Any
    version: int = 0
    origin: int = 0


class LinkRow(msgspec.Struct, frozen=True, array_like=True):
    """A connection in the network of instance `network`."""

    id: int
    network: int
    source: int
    source_tree: int
    source_path: str
    target: int
    target_tree: int
    target_path: str
    since: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """A whole graph. `modules` in an order in which a library takes them."""

    change: int
    modules: tuple[ModuleText, ...] = ()
    instances: tuple[InstanceRow, ...] = ()
    values: tuple[ValueRow, ...] = ()
    links: tuple[LinkRow, ...] = ()


def instance_row(instance: Instance) -> InstanceRow:
    """The instance as it is now."""
    assert instance.parent is not None
    return InstanceRow(
        instance.id, instance.parent.id, instance.name, instance.function.name, int(instance.state), instance.error,
        instance.warning, instance.number, instance.step, instance.seen, instance.updated, instance.cpu,
    )  # fmt: skip


def value_row(instance: int, tree: Tree, path: Path, leaf: Leaf) -> ValueRow:
    """An own leaf, as it stands in `Outcome.values`."""
    return ValueRow(instance, int(tree), paths.write(path), plain.wire(leaf.value), leaf.version, leaf.origin)


def link_row(link: Link) -> LinkRow:
    """A connection."""
    return LinkRow(
        link.id, link.network.id, link.source.id, int(link.source_tree), paths.write(link.source_path),
        link.target.id, int(link.target_tree), paths.write(link.target_path), link.since,
    )  # fmt: skip


def dump(graph: Graph) -> Snapshot:
    """All of it; instances come before those within them."""
    instances = [each for each in graph.instances.values() if each is not graph.root]
    return Snapshot(
        change=graph.change,
        modules=tuple(graph.library.texts()),
        instances=tuple(instance_row(each) for each in sorted(instances, key=lambda each: each.id)),
        values=tuple(value_row(each.id, tree, path, leaf) for each in instances for tree, path, leaf in own(each)),
        links=tuple(link_row(link) for each in graph.instances.values() for link in each.inbound or ()),
    )


def own(instance: Instance) -> Iterable[tuple[Tree, Path, Leaf]]:
    """The leaves that were set at the instance itself and do not come through connections."""
    for tree in Tree:
        for path, leaf in leaves(instance.trees[tree], instance.function.types[tree]):
            if instance.inbound is None or not instance.inbound.above((tree, *path)):
                yield tree, path, leaf


def load(
    library: Library,
    journal: Journal,
    *,
    name: str = "",
    change: int,
    instances: Iterable[InstanceRow],
    values: Iterable[ValueRow],
    links: Iterable[LinkRow],
) -> Graph:
    """The graph of these rows; `library` has its modules. Nothing runs of it. Damaged: the rows do not go together.

    A row of `instances` comes after that of its parent (ids are given in that order).
    """
    graph = Graph(library, journal, name)
    graph.change = change
    try:
        for row in instances:
            _add_instance(graph, row)
        for each in values:
            _set(graph, each)
        _connect(graph, [_link(graph, each) for each in links])
    except (CopernicusError, KeyError, ValueError) as error:
        raise Damaged(f"the network of project {name} cannot be read: {error}", "restore a backup") from error
    return graph


def _add_instance(graph: Graph, row: InstanceRow) -> None:
    parent = graph.instances[row.parent]
    instance = Instance(row.id, row.name, parent, graph.library.function(row.function))
    instance.state = State(row.state)
    instance.error, instance.warning = row.error, row.warning
    instance.number, instance.step, instance.seen = row.number, row.step, row.seen
    instance.updated, instance.cpu = bool(row.updated), row.cpu
    if parent.children is None:
        parent.children = {}
    parent.children[row.name] = instance
    graph.instances[row.id] = instance


def _set(graph: Graph, row: ValueRow) -> None:
    instance, tree, path = graph.instances[row.instance], Tree(row.tree), paths.read(row.path)
    type = instance.function.types[tree].at(path)
    node = of_plain(type, plain.read(row.value), row.version, row.origin, row.path)
    write(Unwritten(), instance, tree, path, node)


def _link(graph: Graph, row: LinkRow) -> Link:
    source, target = graph.instances[row.source], graph.instances[row.target]
    source_end = graph.end(Tree(row.source_tree), paths.read(row.source_path))
    target_end = graph.end(Tree(row.target_tree), paths.read(row.target_path))
    link = Link(row.id, graph.instances[row.network], source, source_end, target, target_end, row.since, Fit.SAME)
    fits = fit(link.source_type, link.target_type)
    if fits is None:
        raise ValueError(f"connection {row.id}: {link.source_type.name} does not fit {link.target_type.name}")
    return link if fits is Fit.SAME else msgspec.structs.replace(link, fit=fits)


def _connect(graph: Graph, links: list[Link]) -> None:
    """All connections first, then the values along them: so each value travels as far as it goes, once."""
    for link in links:
        link.attach()
    propagation = Propagation(Unwritten())
    for link in links:
        propagation.follow(link)
