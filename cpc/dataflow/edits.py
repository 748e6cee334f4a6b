"""Carrying out what people change, edit by edit, and how each is put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.core import edits, plain
from cpc.core.edits import Edit
from cpc.core.errors import BadInput
from cpc.dataflow import items, literals, paths, values, xml
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.items import Item
from cpc.dataflow.library import LOCAL
from cpc.dataflow.update import Update

if TYPE_CHECKING:
    from cpc.dataflow.graph import Graph


def words(edit: Edit) -> str:
    """The edit as people see it in a list of what a transaction will do."""
    match edit:
        case edits.Import(module):
            return f"Import module {module}"
        case edits.Define():
            return "Read an uploaded definition"
        case edits.AddInstance(path, function):
            return f"Add instance {path!r} of function {function}"
        case edits.RemoveInstance(path):
            return f"Remove instance {path!r}"
        case edits.Connect(source, target):
            return f"Connection from {source} to {target}"
        case edits.Disconnect(target):
            return f"Disconnect {target}"
        case edits.SetValue(item, value):
            return f"Set {item} to {values.brief(plain.read(value))}"
        case edits.SetLiteral(item, text):
            return f"Set {item} to {text}"
        case edits.Unset(item):
            return f"Unset {item}"
        case edits.Activate(path):
            return f"Activate {path or 'everything'}"
        case edits.Deactivate(path):
            return f"De-activate {path or 'everything'}"
        case edits.ClearError(path):
            return f"Clear the errors of {path or 'everything'}"
        case edits.Rerun(path):
            return f"Run {path} again"


def carry_out(graph: Graph, update: Update, edit: Edit) -> None:
    """One edit; what there is to say about it is a line of the outcome. CopernicusError: it cannot be done."""
    root = graph.root
    lines = update.outcome.lines
    match edit:
        case edits.Import(module):
            update.import_module(module)
            lines.append(f"Imported module {module}")
        case edits.Define(text):
            _define(graph, update, text)
            lines.append("Read file")
        case edits.AddInstance(path, function):
            _add(graph, update, path, function)
            lines.append(f"Added instance {path!r} of function {function}")
        case edits.RemoveInstance(path):
            update.remove_instance(items.instance(root, path))
            lines.append(f"Removed instance {path!r}")
        case edits.Connect(source, target):
            update.connect(root, source, target)
            lines.append(f"Connection from {source} to {target}")
        case edits.Disconnect(target):
            update.disconnect(root, target)
            lines.append(f"Disconnected {target}")
        case edits.SetValue(path, raw):
            value = plain.read(raw)
            update.assign(_settable(root, path), value)
            lines.append(f"Set {path} to {literals.show(value)}")
        case edits.SetLiteral(path, text):
            item = _settable(root, path)
            update.assign(item, literals.read(item.type, text, item.where))
            lines.append(f"Set {path} to {text}")
        case edits.Unset(path):
            update.assign(_settable(root, path), None)
            lines.append(f"Unset {path}")
        case edits.Activate(path):
            update.activate(items.instance(root, path))
            lines.append(f"Activated: {path} in project {graph.name}" if path else _all("Activated", graph))
        case edits.Deactivate(path):
            update.deactivate(items.instance(root, path))
            lines.append(f"De-activated: {path} in project {graph.name}" if path else _all("De-activated", graph))
        case edits.ClearError(path):
            cleared = update.clear(items.instance(root, path))
            lines += [f"Cleared error state on {each.path}" for each in cleared] or ["No errors cleared."]
        case edits.Rerun(path):
            instance = items.instance(root, path)
            if instance is root:
                raise BadInput("the project itself does not run", "name an instance")
            update.rerun(instance)
            lines.append(f"Forcing rerun on {path}")


def _all(word: str, graph: Graph) -> str:
    return f"{word} all items in project {graph.name}"


def _add(graph: Graph, update: Update, path: str, function: str) -> None:
    network, _, name = path.replace(".", ":").rpartition(":")
    update.add_instance(items.instance(graph.root, network), name, graph.library.function(function), State.HELD)


def _define(graph: Graph, update: Update, text: str) -> None:
    """The upload's definitions become the project's own, its network is merged into the top."""
    described = xml.read(text, LOCAL)
    new = graph.library.define(described, graph.journal)
    update.outcome.modules += new
    for each in new:
        functions = graph.library.modules[paths.key(each.name)].functions
        update.try_networks(functions[paths.entry_name(one.id)] for one in each.functions)
    if described.network is not None:
        update.add_network(graph.root, described.network, LOCAL, State.HELD)


def _settable(root: Instance, path: str) -> Item:
    item = items.value(root, path)
    if item.tree is not Tree.IN:
        raise BadInput(f"{path} cannot be set: its function gives it", "set inputs: INSTANCE:in.NAME")
    return item
