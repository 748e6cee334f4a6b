"""One change of a graph under way: what can be done to it, and what all of it together leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cpc.core import plain
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound
from cpc.dataflow import arithmetic, conditions, cycles, items, literals, paths, values
from cpc.dataflow.description import FunctionKind, InstanceText, NetworkText
from cpc.dataflow.functions import Function
from cpc.dataflow.instance import TABLE, Event, Instance, State, Tree
from cpc.dataflow.items import Item
from cpc.dataflow.library import Module
from cpc.dataflow.links import Link
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.propagation import Propagation
from cpc.dataflow.types import Fit, Path, fit
from cpc.dataflow.values import Leaf, Node

if TYPE_CHECKING:
    from cpc.dataflow.graph import Graph


#: Instances and connections of a fixed network that is tried when its module is imported, those of networks in it included.
MOST_TRIED = 10_000


class Update:
    """A change of `graph`. `origin`: the step whose answer it is, 0 for a person. It ends with `settle`."""

    def __init__(self, graph: Graph, next_id: Callable[[], int], origin: int = 0) -> None:
        self.outcome = Outcome()
        self._graph = graph
        self._journal = graph.journal
        self._next_id = next_id
        self._origin = origin
        self._propagation = Propagation(graph.journal)
        self._considered: dict[Instance, None] = {}
        self._ends: dict[Instance, None] = {}

    # Modules

    def import_module(self, name: str) -> None:
        """Make a module known; one that is known and has changed since is taken as it is now, by its instances too."""
        library = self._graph.library
        new = library.need(name, self._journal)
        renewed = None if new else library.renew(name, self._journal)
        if renewed is not None:
            new = [renewed]
            self._take_over(library.modules[paths.key(name)])
        self.outcome.modules += new
        for text in new:
            self.try_networks(library.modules[paths.key(text.name)].functions.values())

    def try_networks(self, functions: Iterable[Function]) -> None:
        """Make an instance of each fixed network and take it back: BadInput names the one that cannot be made.

        One with more than MOST_TRIED instances and connections is left to be checked when it is used.
        """
        for function in functions:
            if function.network is None:
                continue
            mark = self._journal.mark()
            ids = iter(range(-1, -MOST_TRIED, -1))
            name = function.name.rpartition("::")[2]
            owner = Instance(next(ids), name, self._graph.root, function)  # which does not know of it
            try:
                Update(self._graph, ids.__next__).add_network(owner, function.network, function.module, State.HELD)
            except StopIteration:
                pass
            except CopernicusError as error:
                module = f"module {function.module}" if function.module else "the upload"
                raise BadInput(f"{module}, function {name}: {error.message}", error.hint) from None
            finally:
                self._journal.undo_to(mark)

    def _take_over(self, module: Module) -> None:
        """The instances of a module's functions are of its new functions, which take and give the same."""
        for instance in self._graph.instances.values():
            former = instance.function
            if former.module != module.name or instance is self._graph.root:
                continue
            function = module.functions.get(former.name.rpartition("::")[2])
            same = function is not None and all(
                fit(one, other) is Fit.SAME for one, other in zip(former.types, function.types, strict=True)
            )
            if function is None or not same:
                raise Conflict(
                    f"{former.name} takes or gives something else in the new version, and {instance.path} is one",
                    "remove its instances first, or start another project",
                )
            self._put(instance, "function", function)

    # Instances

    def add_instance(self, network: Instance, name: str, function: Function, state: State) -> Instance:
        """A new instance in a network; those of a fixed network come with it, in the same state."""
        name = paths.instance_name(name)
        _check_network(network)
        if network.children is not None and name in network.children:
            raise Conflict(f"{network.children[name].path} exists already", "take another name")
        instance = Instance(self._next_id(), name, network, function)
        instance.state = state
        if network.children is None:
            network.children = {}
        network.children[name] = instance
        self._journal.note(network.children.pop, name)
        self._graph.instances[instance.id] = instance
        self._journal.note(self._graph.instances.pop, instance.id)
        self.outcome.added.append(instance)
        if function.network is not None:
            self.add_network(instance, function.network, function.module, state)
        if function.eager:
            self._considered[instance] = None
        return instance

    def add_network(self, network: Instance, text: NetworkText, module: str, state: State) -> None:
        """What a network is written down as, into a network. Bare function names are looked up in `module`."""
        for each in text.instances:
            self._add_described(network, each, module, state)
        for connection in text.connections:
            if connection.source:
                self.connect(network, connection.source, connection.target)
            else:
                item = items.target(network, connection.target).item
                type = self._graph.library.type(connection.type, module) if connection.type else item.type
                self.assign(item, literals.read(type, connection.value, item.where))

    def _add_described(self, network: Instance, text: InstanceText, module: str, state: State) -> None:
        self.add_instance(network, text.id, self._graph.library.function(text.function, module), state)

    def remove_instance(self, instance: Instance) -> None:
        """The instance with all within it is gone; what it was connected to is unset."""
        network = instance.parent
        if network is None or network.children is None:
            raise BadInput("the project itself cannot be removed from its network", "`cpcc rm` removes a project")
        leaving = [instance, *instance.within()]
        gone = set(leaving)
        for each in leaving:
            for link in list(each.inbound or ()):
                self._remove_link(link, unset=False)
            for link in list(each.outbound or ()):
                if link.target not in gone:
                    self._remove_link(link, unset=True)
        self._journal.note(network.children.__setitem__, instance.name, instance)
        del network.children[instance.name]
        for each in leaving:
            self._journal.note(self._graph.instances.__setitem__, each.id, each)
            del self._graph.instances[each.id]
        self.outcome.removed += reversed(leaving)
        for each in leaving:
            self._end(each)

    # Connections

    def connect(self, scope: Instance, source_text: str, target_text: str) -> Link:
        """The target follows the source. Both are named from the network of `scope`, and are ends in the same network."""
        source_end, target_end = items.source(scope, source_text), items.target(scope, target_text)
        if source_end.network is not target_end.network:
            raise BadInput(
                f"{source_text} and {target_text} are not in the same network",
                "connect through the inputs and outputs of the instances between them",
            )
        _check_network(target_end.network)
        source, target = source_end.item, target_end.item
        fits = fit(source.type, target.type)
        if fits is None:
            raise BadInput(f"{source.where} is {source.type.name}; {target.where} takes {target.type.name}")
        self._check_free(target)
        cycles.refuse(source, target)
        self._forget(target)
        link = Link(
            self._next_id(), source_end.network, source.instance, self._graph.end(source.tree, source.path),
            target.instance, self._graph.end(target.tree, target.path), self._graph.change, fits,
        )  # fmt: skip
        link.attach()
        self._journal.note(link.detach)
        self.outcome.links_added.append(link)
        self._propagation.follow(link)
        return link

    def disconnect(self, scope: Instance, text: str) -> Link:
        """What comes to the target does not any more; it is unset."""
        target = items.target(scope, text).item
        inbound = target.instance.inbound
        found = inbound.above((target.tree, *target.path)) if inbound is not None else []
        exact = [link for link in found if link.target_path == target.path]
        if not exact:
            hint = f"it is part of {_target(found[0])}, which is" if found else "`cpcc ls` shows what is"
            raise NotFound(f"{target.where} is not connected to anything", hint)
        self._check_constant(target)
        self._remove_link(exact[0], unset=True)
        return exact[0]

    def _remove_link(self, link: Link, unset: bool) -> None:
        link.detach()
        self._journal.note(link.attach)
        self.outcome.links_removed.append(link)
        if unset and link.target.node(link.target_tree, link.target_path) is not None:
            self._propagation.put(link.target, link.target_tree, link.target_path, None)

    # Values

    def assign(self, item: Item, value: plain.Plain) -> None:
        """Set an item that nothing is connected to, or with None unset it. An equal value is no change."""
        self._check_free(item)
        node = values.of_plain(item.type, value, self._graph.change, self._origin, item.where)
        self._own(item.instance, item.tree, item.path, node)

    def _own(self, instance: Instance, tree: Tree, path: Path, node: Node) -> None:
        old = instance.node(tree, path)
        new = values.graft(old, node)
        if new is old:
            return
        self._write_down(instance, tree, path, old, new)
        self._propagation.put(instance, tree, path, new)

    def _write_down(self, instance: Instance, tree: Tree, path: Path, old: Node, new: Node) -> None:
        type = instance.function.types[tree].at(path)
        for where, leaf in values.changes(old, new, type, path):
            self.outcome.values[instance.id, tree, where] = leaf

    def _forget(self, item: Item) -> None:
        """What was set at the target of a new connection is not its own any more."""
        if item.node is not None:
            self._own(item.instance, item.tree, item.path, None)

    def _check_free(self, item: Item) -> None:
        inbound = item.instance.inbound
        if inbound is not None:
            end = (item.tree, *item.path)
            for link in (*inbound.above(end), *inbound.within(end)):
                source = link.source.where(link.source_tree, link.source_path)
                raise Conflict(f"{_target(link)} is connected to {source}", "disconnect it first")
        self._check_constant(item)

    @staticmethod
    def _check_constant(item: Item) -> None:
        function = item.instance.function
        if function.constants and item.tree is Tree.IN and item.instance.number:
            name = str(item.path[0]) if item.path else ""
            for field in function.types[Tree.IN].fields:
                if field.const and name in ("", field.name):
                    raise Conflict(
                        f"{item.instance.where(Tree.IN, (field.name,))} is constant, and {item.instance.path} has run",
                        "add another instance with the other value",
                    )

    # States

    def activate(self, instance: Instance) -> None:
        """It, and all within it, may run."""
        for each in _all_of(instance):
            if each.state is State.HELD:
                self._happen(each, Event.ACTIVATED)
                self._considered[each] = None
                if each.step:
                    self.outcome.unparks.append(each)

    def deactivate(self, instance: Instance) -> None:
        """It, and all within it, do not run; the jobs of open steps that wait are parked."""
        for each in _all_of(instance):
            if each.state.runs:
                self._happen(each, Event.DEACTIVATED)
                if each.step:
                    self.outcome.parks.append(each)

    def fail(self, instance: Instance, message: str) -> None:
        """It is stopped, with the reason; its open step ends."""
        self._happen(instance, Event.FAILED)
        self._put(instance, "error", message)
        self._end(instance)

    def warn(self, instance: Instance, message: str) -> None:
        """It goes on, and has something to say; with an empty message it has not any more."""
        self._happen(instance, Event.WARNED if message else Event.SUCCEEDED)
        self._put(instance, "warning", message)

    def clear(self, instance: Instance) -> list[Instance]:
        """Clear the errors of it and all within it; they run again if their inputs are complete. Which had one.

        What lies within a held instance is held, too: an error does not hide that from whoever clears it.
        """
        cleared = [each for each in (instance, *instance.within()) if each.state is State.ERROR]
        for each in cleared:
            self._happen(each, Event.CLEARED)
            if _held_above(each):
                self._happen(each, Event.DEACTIVATED)
            self._put(each, "error", "")
            self._put(each, "warning", "")
            self.rerun(each)
        return cleared

    def rerun(self, instance: Instance) -> None:
        """Run again with the inputs as they are; an open step ends."""
        self._propagation.touched[instance] = None
        self._end(instance)

    def reconsider(self, instance: Instance) -> None:
        """Look whether a step is to be opened, although nothing has come in."""
        self._considered[instance] = None

    # What it leads to

    def settle(self) -> Outcome:
        """Carry out the arithmetic that follows, stop what cannot go on, and say which steps open and end."""
        touched = self._propagation.touched
        touched.update((each, None) for each in self._considered if each.function.kind is FunctionKind.INLINE)
        failures: dict[Instance, str] = {}
        while touched:
            batch = [each for each in touched if each.id in self._graph.instances]
            touched.clear()
            for instance in batch:
                if instance.function.kind is FunctionKind.INLINE:
                    self._compute(instance, failures)
                elif instance.function.kind is not FunctionKind.NETWORK:
                    self._put(instance, "updated", True)
                    self._considered[instance] = None
        for instance, name in self._propagation.broken.items():
            failures[instance] = f"the constant input {name} has changed after the first run"
        for instance, message in failures.items():
            self.fail(instance, message)
        for instance in self._considered:
            if instance.step and instance.updated and instance.function.cancels:
                self._end(instance)
        self._finish()
        return self.outcome

    def _compute(self, instance: Instance, failures: dict[Instance, str]) -> None:
        """Arithmetic. That it cannot be done counts only when nothing else of this change puts it right."""
        failures.pop(instance, None)
        inputs = instance.trees[Tree.IN]
        if not instance.state.runs or not isinstance(inputs, list):
            return
        given = [leaf.value for leaf in inputs if isinstance(leaf, Leaf)]
        if len(given) < len(inputs):
            return
        try:
            result = arithmetic.FUNCTIONS[instance.function.name](*given)
        except BadInput as error:
            failures[instance] = error.message
        else:
            self._own(instance, Tree.OUT, arithmetic.RESULT, Leaf(result, self._graph.change))

    def _finish(self) -> None:
        """Leave out what came and went within this change."""
        found = self.outcome
        instances = self._graph.instances
        found.opens = [each for each in self._considered if each.id in instances and conditions.ready(each)]
        found.ends = list(self._ends)
        if not found.removed and not found.links_removed:
            return
        brief = set(found.added) & set(found.removed)
        found.added = [each for each in found.added if each not in brief]
        found.removed = [each for each in found.removed if each not in brief]
        found.changed = {each for each in found.changed if each.id in instances}
        found.values = {key: leaf for key, leaf in found.values.items() if key[0] in instances}
        passing = set(found.links_added) & set(found.links_removed)
        found.links_added = [link for link in found.links_added if link not in passing]
        found.links_removed = [link for link in found.links_removed if link not in passing]

    def _end(self, instance: Instance) -> None:
        if instance.step:
            self._ends[instance] = None

    def _happen(self, instance: Instance, event: Event) -> None:
        self._put(instance, "state", TABLE[instance.state, event])

    def _put(self, instance: Instance, name: str, value: object) -> None:
        former = getattr(instance, name)
        if former != value:
            self._journal.note(setattr, instance, name, former)
            setattr(instance, name, value)
            self.outcome.changed.add(instance)


def _target(link: Link) -> str:
    return link.target.where(link.target_tree, link.target_path)


def _all_of(instance: Instance) -> Iterator[Instance]:
    """It and all within it. The project itself has no state of its own: nothing could keep one."""
    if instance.parent is not None:
        yield instance
    yield from instance.within()


def _held_above(instance: Instance) -> bool:
    """Whether the instance within which it lies is held, or, where that is in error, the one around it."""
    above = instance.parent
    while above is not None and above.state is State.ERROR:
        above = above.parent
    return above is not None and above.state is State.HELD


def _check_network(network: Instance) -> None:
    if network.function.kind is FunctionKind.INLINE:
        raise BadInput(f"{network.path} has no network: {network.function.name} is built-in arithmetic")
