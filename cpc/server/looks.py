"""What people see of a live network: views made from the graph, which is not changed by looking."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice

from cpc.core import plain
from cpc.core.errors import BadInput, NotFound
from cpc.core.network_views import (
    FieldView,
    FunctionView,
    InfoView,
    InstanceView,
    ItemView,
    LinkView,
    NetworkView,
    TypeView,
    ValueView,
)
from cpc.core.plain import FileRef
from cpc.dataflow import paths
from cpc.dataflow.functions import Function
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance, Tree, count, worst
from cpc.dataflow.items import Item, Message
from cpc.dataflow.library import Module
from cpc.dataflow.links import Link
from cpc.dataflow.types import SCALARS, Field, Kind, Path, Type
from cpc.dataflow.values import Node, members

#: Members of a value, and links of a drawing, in one view.
MOST = 10_000


# --- items ---------------------------------------------------------------------------------------------------------------


def item(graph: Graph, path: str, after: str, limit: int) -> tuple[ItemView, Instance | None]:
    """What `ls` shows of a path, and which instance it is, if it is one."""
    found = graph.find(path)
    if isinstance(found, Instance):
        return _instance(graph, found, after, limit), found
    if isinstance(found, Item):
        return _value(found, limit), None
    return ItemView(kind="value", name=found.name or "msg", path=path, type=SCALARS["string"].name), None


def _instance(graph: Graph, instance: Instance, after: str, limit: int) -> ItemView:
    top = instance is graph.root
    page, following = _page(instance, after, limit)
    first = not after  # what takes a walk through everything within is told with the first page only
    fields = {tree: _fields(instance, tree) for tree in Tree}
    return ItemView(
        kind="project" if top else "instance",
        name=instance.name,
        path=instance.path,
        function=instance.function.name,
        state=worst(instance).label,
        own=instance.state.label,
        error=instance.error,
        warning=instance.warning,
        inputs=fields[Tree.IN],
        outputs=fields[Tree.OUT],
        sub_inputs=fields[Tree.SUB_IN],
        sub_outputs=fields[Tree.SUB_OUT],
        instances=tuple(_listed(each) for each in page),
        next=following,
        count=len(instance.children or ()),
        states={state.label: number for state, number in count(instance).items()} if first else {},
        cpu_seconds=instance.cpu,
        cpu_seconds_within=instance.cpu + sum(each.cpu for each in instance.within()) if first else 0.0,
    )


def _page(instance: Instance, after: str, limit: int) -> tuple[list[Instance], str]:
    """Some of the instances of its network, by name; and the name to go on after, if there are more."""
    after = paths.key(after)
    names = nsmallest(limit + 1, (name for name in instance.children or () if name > after))
    shown = names[:limit]
    children = instance.children or {}
    return [children[name] for name in shown], shown[-1] if len(names) > limit else ""


def _listed(instance: Instance) -> InstanceView:
    return InstanceView(
        name=instance.name, path=instance.path, function=instance.function.name, state=worst(instance).label,
        own=instance.state.label, running="working" if instance.step else "",
    )  # fmt: skip


def _fields(instance: Instance, tree: Tree) -> tuple[FieldView, ...]:
    """The members of one of its trees."""
    type, root = instance.function.types[tree], instance.trees[tree]
    nodes: list[Node] = root if isinstance(root, list) else [None] * len(type.fields)
    return tuple(
        _field(field, node is not None, source(instance, tree, (field.name,)))
        for field, node in zip(type.fields, nodes, strict=True)
    )


def _field(field: Field, is_set: bool = False, comes_from: str = "") -> FieldView:
    return FieldView(
        name=field.name, type=field.type.name, flags=field.flags, desc=field.desc, set=is_set, source=comes_from
    )


def source(instance: Instance, tree: Tree, path: Path) -> str:
    """What exactly this item is connected to; "" when it is not."""
    links = instance.inbound.above((tree, *path)) if instance.inbound is not None else []
    return next((source_of(link) for link in links if link.target_path == path), "")


def source_of(link: Link) -> str:
    """Where a connection comes from."""
    return link.source.where(link.source_tree, link.source_path)


def target_of(link: Link) -> str:
    """Where a connection leads to."""
    return link.target.where(link.target_tree, link.target_path)


def _value(found: Item, limit: int) -> ItemView:
    holder = found.field
    return ItemView(
        kind="value",
        name=str(found.path[-1]) if found.path else found.tree.label,
        path=found.where,
        type=found.type.name,
        members=tuple(islice(_members(found), min(limit, MOST))),
        count=len(found.node) if isinstance(found.node, list | dict) else 0,
        state="" if holder is None else " ".join(holder.flags),
    )


def _members(found: Item) -> Iterable[FieldView]:
    """Of a record all fields, of an array or dict what is there."""
    nodes = {part: node for part, _, node in members(found.node, found.type)}
    if found.type.kind is Kind.RECORD:
        for field in found.type.fields:
            yield _field(field, nodes.get(field.name) is not None, _of_member(found, field.name))
        return
    for part, node in nodes.items():
        name = f"[{part}]" if isinstance(part, int) else part
        yield FieldView(
            name=name, type=found.type.below(part).name, set=node is not None, source=_of_member(found, part)
        )


def _of_member(found: Item, part: str | int) -> str:
    return source(found.instance, found.tree, (*found.path, part))


def value(graph: Graph, path: str) -> ValueView:
    """An item's value, or one of an instance's messages; of an instance its four trees."""
    found = graph.find(path)
    if isinstance(found, Message):
        return _message(found, path)
    if isinstance(found, Instance):
        trees = {tree.label: plain.wire(found.value(tree)) for tree in Tree if found.trees[tree] is not None}
        return ValueView(path=found.path, type=found.function.name, set=bool(trees), value=trees or None)
    return ValueView(path=found.where, type=found.type.name, set=found.node is not None, value=plain.wire(found.value))


def _message(found: Message, path: str) -> ValueView:
    told = {"error": found.instance.error, "warning": found.instance.warning}
    if found.name == "log":
        raise BadInput(f"{path} is a log", "`cpcc log INSTANCE` shows it")
    if not found.name:
        said = {name: text for name, text in told.items() if text}
        return ValueView(path=path, type="record", set=bool(said), value=said or None)
    return ValueView(path=path, type="string", set=bool(told[found.name]), value=told[found.name] or None)


def file(graph: Graph, path: str) -> FileRef:
    """The file that an item is; NotFound when it is not set."""
    found = graph.find(path)
    if not isinstance(found, Item) or found.type.kind is not Kind.FILE:
        raise BadInput(f"{path or 'the project'} is not a file", "`cpcc get` shows other values")
    held = found.value
    if not isinstance(held, FileRef):
        raise NotFound(f"{path} is not set")
    return held


# --- drawings ------------------------------------------------------------------------------------------------------------


def network(graph: Graph, path: str, after: str, limit: int) -> NetworkView:
    """A page of the instances at a path, and the connections of the network that end at one of them, or leave it."""
    found = graph.find(path)
    if not isinstance(found, Instance):
        raise BadInput(f"{path} is not an instance", "name an instance, or nothing for the whole project")
    page, following = _page(found, after, limit)
    ends = page if after else [found, *page]
    links = (
        LinkView(source=source_of(link), target=target_of(link))
        for each in ends
        for link in each.inbound or ()
        if link.network is found
    )
    return NetworkView(
        path=found.path,
        instances=tuple(_listed(each) for each in page),
        links=tuple(links),
        next=following,
        count=len(found.children or ()),
    )


# --- modules -------------------------------------------------------------------------------------------------------------


def info(graph: Graph, name: str) -> InfoView:
    """A module that the project has imported, or one of its functions or types."""
    key = paths.key(name)
    module = graph.library.modules.get(key)
    if module is not None:
        return _module(module)
    owner, _, bare = key.rpartition("::")
    known = graph.library.modules.get(owner)
    if known is not None and bare in known.types and bare not in known.functions:
        return InfoView(name=key, types=(_type(known.types[bare]),))
    if not owner and (known is None or bare not in known.functions):
        raise NotFound(
            f"{key} is no module that the project has imported, and no function or type of its own",
            f"`cpcc import {key}` if `cpcc list-modules` has it",
        )
    return InfoView(name=key, functions=(_function(graph.library.function(key)),))


def _module(module: Module) -> InfoView:
    text = module.texts[-1]
    named = (type for name, type in sorted(module.types.items()) if ":" not in name)
    return InfoView(
        name=module.name,
        desc=text.desc,
        version=text.version,
        functions=tuple(_function(each) for _, each in sorted(module.functions.items())),
        types=tuple(_type(each) for each in named),
    )


def _function(function: Function) -> FunctionView:
    inputs, outputs, sub_inputs, sub_outputs = (tuple(map(_field, type.fields)) for type in function.types)
    return FunctionView(
        name=function.name, kind=function.kind.value, desc=function.desc, inputs=inputs, outputs=outputs,
        sub_inputs=sub_inputs, sub_outputs=sub_outputs,
    )  # fmt: skip


def _type(type: Type) -> TypeView:
    return TypeView(
        name=type.name,
        base=type.base.name if type.base is not None else type.kind.value,
        member=type.member.name if type.member is not None else "",
        desc=type.desc,
        fields=tuple(map(_field, type.fields)),
    )
