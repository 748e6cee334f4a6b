"""The engine does what the simplest network would do, whatever is done to it in whatever order."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cpc.core import edits
from cpc.core.edits import Edit
from cpc.core.errors import CopernicusError, NotFound
from cpc.core.journal import Journal
from cpc.dataflow import snapshot, values
from cpc.dataflow.answer import Answer
from cpc.dataflow.description import FunctionKind
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.library import Library
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.paths import write
from cpc.dataflow.snapshot import Snapshot
from cpc.dataflow.types import fit
from tests.helpers.naive_network import Naive, Name, Thing
from tests.helpers.toy_modules import TOY, Bench

INSTANCES = ("a", "b", "c", "d", "a:x", "b:y")
FUNCTIONS = ("toy::work", "toy::work", "toy::work", "toy::through", "float::add", "float::div")
#: Type → paths below an item of it that are tried as ends of connections and for values.
BELOW = {
    "toy::floats": ("", "[0]", "[1]", "[2]"),
    "toy::pair": ("", ".x", ".y"),
    "toy::triple": ("", ".x", ".z"),
    "toy::pairs": ("", "[0]", "[1]", "[1].x"),
    "toy::whole_numbers": ("", ".cores"),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "int": (1, 2, 3),
    "float": (0.0, 1.5, -2.0),
    "toy::floats": ([], [1.0], [1.0, None, 2.5], [0.0, 3.0]),
    "toy::pair": ({"x": 1.0}, {"y": 2.0}, {}),
    "toy::triple": ({"x": 3.0, "z": 1.0}, {"z": 2.0}),
    "toy::pairs": ([{"x": 1.0}], [None, {"y": 2.0}], []),
    "toy::whole_numbers": ({"cores": 1}, {"cores": 2, "gpus": 1}),
}


class Comparison:
    """Random edits and answers, on the engine and on the model."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench = Bench("toy", "float", toy=TOY)
        self.graph = self.bench.graph
        self.naive = Naive(self.graph.library)
        self.steps = 1000
        self.transaction([edits.AddInstance(name, self.random.choice(FUNCTIONS)) for name in ("a", "b", "c")])
        self.transaction([edits.Activate()])

    def edit(self) -> None:
        """A transaction of edits that mostly make sense for the network as it is."""
        kinds = (self.adding, self.connecting, self.connecting, self.connecting, self.setting, self.disconnecting)
        self.transaction([self.random.choice(kinds)() for _ in range(self.random.choice((1, 1, 1, 2, 3)))])

    def adding(self) -> Edit:
        return edits.AddInstance(self.random.choice(INSTANCES), self.random.choice(FUNCTIONS))

    def connecting(self) -> Edit:
        """Any two ends of the same network; two that fit, if there are such."""
        networks: list[Name] = [(), *self.naive.things]
        network = self.random.choice(networks)
        sources = self.ends(network, "out", ("ext_in", Tree.IN), ("sub_out", Tree.SUB_OUT))
        targets = self.ends(network, "in", ("ext_out", Tree.OUT), ("sub_in", Tree.SUB_IN))
        fitting = [(one, other) for one in sources for other in targets if self.fits(one, other)]
        if fitting and self.random.randint(0, 9):
            return edits.Connect(*self.random.choice(fitting))
        return edits.Connect(self.random.choice(sources or ["a:out.n"]), self.random.choice(targets or ["a:in.n"]))

    def setting(self) -> Edit:
        inputs = [item for name in self.naive.things for item in self.items(name, Tree.IN, "in")]
        required = [item for item in inputs if item.endswith(("in.n", "in.a", "in.b"))]
        item = self.random.choice(self.random.choice((inputs, required)) or ["a:in.n"])
        if not self.random.randint(0, 5):
            return edits.Unset(item)
        fitting = VALUES[self.naive.type(self.naive.place(item)).name] if self.naive.things else (1,)
        return edits.SetValue(item, self.random.choice(fitting))

    def disconnecting(self) -> Edit:
        ends = ["a:in.n"]
        for _, (name, tree, path) in self.naive.links:
            word = {Tree.IN: "in", Tree.OUT: "self:ext_out", Tree.SUB_IN: "self:sub_in"}[tree]
            ends.append(f"{':'.join(name)}:{write((word, *path))}")
        return edits.Disconnect(self.random.choice(ends))

    def items(self, name: Name, tree: Tree, word: str) -> list[str]:
        """Items of one tree, as paths from the top."""
        fields = self.naive.things[name].function.types[tree].fields
        return [
            f"{':'.join(name)}:{word}.{each.name}{more}" for each in fields for more in BELOW.get(each.type.name, ("",))
        ]

    def ends(self, network: Name, word: str, *own: tuple[str, Tree]) -> list[str]:
        """What can be one end of a connection in a network."""
        found = [
            end
            for name in self.naive.things
            if name[:-1] == network
            for end in self.items(name, Tree.OUT if word == "out" else Tree.IN, word)
        ]
        return found + [end for each, tree in own if network for end in self.items(network, tree, f"self:{each}")]

    def fits(self, source: str, target: str) -> bool:
        return fit(self.naive.type(self.naive.place(source)), self.naive.type(self.naive.place(target))) is not None

    def change_state(self) -> None:
        kind = self.random.choice((edits.Activate, edits.Activate, edits.Activate, edits.Deactivate, edits.ClearError))
        self.transaction([kind(self.random.choice(("", *INSTANCES)))])

    def remove(self) -> None:
        self.transaction([edits.RemoveInstance(self.random.choice(INSTANCES))])

    def answer(self) -> None:
        """A step is answered with an output, right or wrong."""
        if not self.open_steps():
            return
        path = self.random.choice(("n", "ys", "ys[1]", "q", "q.z", "most.cores"))
        name = self.random.choice(self.open_steps())
        instance, thing = self.engine(name), self.naive.things[name]
        before, former = self.naive.inputs(), snapshot.dump(self.graph)
        place = self.naive.place(f"{':'.join(name)}:out.{path}")
        value = self.random.choice((*VALUES[self.naive.type(place).name], "nonsense"))
        outcome = self.graph.answer(
            instance, Answer(outputs=((path, value),)), self.bench.next_id, origin=instance.step
        )
        if not outcome.refused:
            assert not self.naive.connected(place)
            self.naive.assign(place, value)
        else:
            assert snapshot.dump(self.graph).values == former.values
            thing.state = State.ERROR
        self.naive.settle(before)
        if instance not in outcome.ends:
            outcome.ends.append(instance)
        self.follow(outcome)

    def roll_back(self) -> None:
        """What the journal holds since the last commit is undone: this is the graph of before."""
        former = snapshot.dump(self.graph)
        self.bench.journal.forget()
        for edit in (
            edits.AddInstance("z", "toy::work"),
            edits.Activate(),
            edits.RemoveInstance("a"),
            edits.Deactivate("b"),
        ):
            try:
                outcome = self.graph.apply([edit], self.bench.next_id)
            except CopernicusError:
                continue
            for instance in outcome.opens:
                self.graph.step_opened(instance, 1)
        self.bench.journal.undo()
        assert self.ordered(snapshot.dump(self.graph)) == self.ordered(former)

    def transaction(self, together: list[Edit]) -> None:
        former = snapshot.dump(self.graph)
        model, before = self.naive.copy(), self.naive.inputs()
        try:
            for edit in together:
                self.mirror(edit)
            refused = False
        except CopernicusError:
            self.naive, refused = model, True
        try:
            outcome = self.graph.apply(together, self.bench.next_id)
        except CopernicusError:
            assert refused, f"{together} is refused"
            assert self.ordered(snapshot.dump(self.graph)) == self.ordered(former)
            return
        assert not refused, f"{together} is taken"
        self.naive.settle(before)
        self.follow(outcome)

    def mirror(self, edit: Edit) -> None:
        """The edit on the model."""
        match edit:
            case edits.AddInstance(path, function):
                self.naive.add(tuple(path.split(":")), function)
            case edits.Connect(source, target):
                self.naive.connect(source, target)
            case edits.Disconnect(target):
                self.naive.disconnect(target)
            case edits.SetValue(item, value):
                self.check(item, value)
                self.naive.set(item, value)
            case edits.Unset(item):
                self.naive.set(item, None)
            case edits.RemoveInstance(path):
                self.things_within(path)
                self.naive.remove(tuple(path.split(":")))
            case edits.Activate(path):
                for thing in self.things_within(path):
                    thing.state = State.ACTIVE if thing.state is State.HELD else thing.state
            case edits.Deactivate(path):
                for thing in self.things_within(path):
                    thing.state = State.HELD if thing.state.runs else thing.state
            case edits.ClearError(path):
                cleared = [thing for thing in self.things_within(path) if thing.state is State.ERROR]
                for thing in cleared:
                    thing.state, thing.updated = self.naive.cleared(thing), True

    def things_within(self, path: str) -> list[Thing]:
        name = tuple(path.split(":")) if path else ()
        if name and name not in self.naive.things:
            raise NotFound(path)
        return [thing for each, thing in self.naive.things.items() if each[: len(name)] == name]

    def check(self, item: str, value: Any) -> None:
        """Whether the value is one of the item's type."""
        values.of_plain(self.naive.type(self.naive.place(item)), value, 0, 0, item)

    def follow(self, outcome: Outcome) -> None:
        """End and open steps as the engine says, if the model agrees that they are due."""
        for instance in outcome.ends:
            assert instance.step
            if instance.id in self.graph.instances:
                self.naive.things[self.name(instance)].open = False
                outcome.opens += self.graph.step_closed(instance).opens
        for instance in outcome.opens:
            name = self.name(instance)
            thing = self.naive.things[name]
            assert self.due(name), f"{name} opens a step too early"
            self.steps += 1
            given = self.graph.step_opened(instance, self.steps)
            thing.open, thing.updated, thing.steps = True, False, thing.steps + 1
            assert given.inputs == (self.naive.value(name, Tree.IN) or {})
            assert given.sub_inputs == (self.naive.value(name, Tree.SUB_IN) or {})
        self.bench.journal.forget()

    def due(self, name: Name) -> bool:
        thing = self.naive.things[name]
        complete = self.naive.leaves(name, Tree.IN).get(("n",)) is not None
        runs = thing.state.runs and thing.function.kind is FunctionKind.PYTHON_EXTENDED
        # Within one transaction, a value may change twice and be the same again: the engine may see more than the model.
        return runs and complete and not thing.open

    def open_steps(self) -> list[Name]:
        return sorted(name for name, thing in self.naive.things.items() if thing.open)

    def engine(self, name: Name) -> Instance:
        return self.bench.instance(":".join(name))

    def name(self, instance: Instance) -> Name:
        return tuple(instance.path.split(":"))

    @staticmethod
    def ordered(found: Snapshot) -> tuple[Any, ...]:
        return found.change, found.instances, sorted(found.values, key=repr), sorted(found.links, key=repr)

    # What always holds

    def check_all(self) -> None:
        self.the_instances_are_the_models()
        self.every_value_is_the_models()
        self.what_is_due_is_open()
        self.written_down_and_read_again_it_is_the_same()

    def the_instances_are_the_models(self) -> None:
        engine = {self.name(each): each for each in self.graph.instances.values() if each is not self.graph.root}
        assert engine.keys() == self.naive.things.keys()
        for name, instance in engine.items():
            thing = self.naive.things[name]
            assert instance.state is thing.state, name
            assert bool(instance.step) == thing.open
            assert instance.number == thing.steps
            assert not thing.updated or instance.updated or instance.function.stepless, f"{name}: a change was missed"

    def every_value_is_the_models(self) -> None:
        for name in self.naive.things:
            for tree in Tree:
                expected = self.naive.value(name, tree)
                assert self.engine(name).value(tree) == expected, f"{name} {tree.label}"

    def what_is_due_is_open(self) -> None:
        for name, thing in self.naive.things.items():
            assert not (thing.updated and self.due(name)), f"{name} should run"

    def written_down_and_read_again_it_is_the_same(self) -> None:
        found = snapshot.dump(self.graph)
        library = Library()
        for text in found.modules:
            library.add(text, Journal())
        again = snapshot.load(
            library, Journal(), change=found.change, instances=found.instances, values=found.values, links=found.links
        )
        assert self.ordered(snapshot.dump(again)) == self.ordered(found)
        for instance in self.graph.instances.values():
            for tree in Tree:
                assert again.instances[instance.id].value(tree) == instance.value(tree)


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_the_engine_does_what_a_naive_network_does(seed: int) -> None:
    """60 random changes: values, states, steps, refusals, undoing and reading again are the model's after each."""
    comparison = Comparison(seed)
    choices = random.Random(seed)
    kinds = (
        *[comparison.edit] * 8,
        *[comparison.answer] * 3,
        *[comparison.change_state] * 3,
        comparison.remove,
        comparison.roll_back,
    )
    for _ in range(60):
        choices.choice(kinds)()
        comparison.check_all()
