"""Small modules for tests of the engine, and a project to try them in."""

from __future__ import annotations

import itertools
from typing import Any

from cpc.core import edits
from cpc.core.edits import Edit
from cpc.core.errors import NotFound
from cpc.core.journal import Journal
from cpc.dataflow import xml
from cpc.dataflow.answer import Answer
from cpc.dataflow.description import ModuleText
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance
from cpc.dataflow.library import Library
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.step import StepSnapshot

TOY = """
<cpc version="1">
  <type id="floats" base="array" member-type="float"/>
  <type id="pair" base="record">
    <field id="x" type="float"/>
    <field id="y" type="float" opt="yes"/>
  </type>
  <type id="triple" base="pair"><field id="z" type="float" opt="yes"/></type>
  <type id="pairs" base="array" member-type="pair"/>
  <type id="whole_numbers" base="dict" member-type="int"/>
  <function id="work" type="python-extended">
    <inputs>
      <field id="n" type="int"/>
      <field id="xs" type="floats" opt="yes"/>
      <field id="ps" type="pairs" opt="yes"/>
      <field id="most" type="whole_numbers" opt="yes"/>
    </inputs>
    <outputs>
      <field id="n" type="int"/>
      <field id="ys" type="floats"/>
      <field id="q" type="triple"/>
      <field id="most" type="whole_numbers"/>
    </outputs>
    <subnet-inputs><field id="r" type="floats"/></subnet-inputs>
    <subnet-outputs><field id="s" type="floats"/></subnet-outputs>
    <controller import="toy" function="toy.work"/>
  </function>
  <function id="through" type="network">
    <inputs>
      <field id="n" type="int" opt="yes"/><field id="xs" type="floats" opt="yes"/><field id="p" type="pair" opt="yes"/>
    </inputs>
    <outputs>
      <field id="n" type="float"/><field id="xs" type="floats"/><field id="p" type="pair"/><field id="c" type="float"/>
    </outputs>
    <network>
      <instance id="add" function="float::add"/>
      <connection src="self:ext_in.n" dest="self:ext_out.n"/>
      <connection src="self:ext_in.xs" dest="self:ext_out.xs"/>
      <connection src="self:ext_in.p" dest="self:ext_out.p"/>
      <connection src="self:ext_in.p.x" dest="add:in.a"/>
      <connection src="self:ext_in.xs[1]" dest="add:in.b"/>
      <connection src="add:out.c" dest="self:ext_out.c"/>
    </network>
  </function>
  <import name="float"/>
</cpc>
"""


#: (a + b) · c in a network function, and an adder that it feeds: the original's first example.
EXAMPLE = """<?xml version="1.0"?>
<cpc version="1">
  <import name="float"/>
  <function id="addmul" type="network">
    <desc>(a+b)*c</desc>
    <inputs><field id="a" type="float"/><field id="b" type="float"/><field id="c" type="float"/></inputs>
    <outputs><field id="q" type="float"/></outputs>
    <network>
      <instance id="add" function="float::add"/>
      <instance id="mul" function="float::mul"/>
      <connection src="self:ext_in.a" dest="add:in.a"/>
      <connection src="self:ext_in.b" dest="add:in.b"/>
      <connection src="add:out.c" dest="mul:in.a"/>
      <connection src="self:ext_in.c" dest="mul:in.b"/>
      <connection src="mul:out.c" dest="self:ext_out.q"/>
    </network>
  </function>
  <network>
    <instance id="addmul" function="addmul"/>
    <instance id="add" function="float::add"/>
    <assign type="float" value="3" dest="addmul:in.a"/>
    <assign type="float" value="4" dest="addmul:in.b"/>
    <assign type="float" value="5" dest="addmul:in.c"/>
    <connection type="float" value="6" dest="add:in.b"/>
    <connection src="addmul:out.q" dest="add:in.a"/>
  </network>
</cpc>
"""


def library(**texts: str) -> Library:
    """A library that finds modules in these XML texts, by name."""

    def find(name: str) -> ModuleText:
        if name not in texts:
            raise NotFound(f"module {name} not found")
        return xml.read(texts[name], name, directory="/nowhere")

    return Library(find)


class Bench:
    """A graph with edits in short: `set`, `connect` and so on apply one edit each; steps are opened as the server would."""

    def __init__(self, *modules: str, **texts: str) -> None:
        self.journal = Journal()
        self.graph = Graph(library(**texts), self.journal, "test")
        self.ids = itertools.count(1)
        self.steps = itertools.count(1001)
        self.snapshots: dict[str, StepSnapshot] = {}
        self.apply(*(edits.Import(module) for module in modules))

    def next_id(self) -> int:
        """An id that was never used."""
        return next(self.ids)

    def apply(self, *changes: Edit) -> Outcome:
        """One transaction, and the steps that it opens."""
        return self.carry_out(self.graph.apply(changes, self.next_id))

    def carry_out(self, outcome: Outcome) -> Outcome:
        """End and open the steps of an outcome."""
        for instance in outcome.ends:
            again = self.graph.step_closed(instance)
            outcome.opens += again.opens
        for instance in outcome.opens:
            self.snapshots[instance.path] = self.graph.step_opened(instance, next(self.steps))
        return outcome

    def answer(self, path: str, close: bool = True, **parts: Any) -> Outcome:
        """The answer of the open step; `outputs` and the others as dicts or lists of pairs."""
        instance = self.instance(path)
        given = {name: tuple(part.items()) if isinstance(part, dict) else part for name, part in parts.items()}
        outcome = self.carry_out(self.graph.answer(instance, Answer(**given), self.next_id, origin=instance.step))
        if close and instance.step:
            self.carry_out(self.graph.step_closed(instance))
        return outcome

    def instance(self, path: str) -> Instance:
        """The instance at a path."""
        found = self.graph.find(path)
        assert isinstance(found, Instance)
        return found

    def value(self, path: str) -> Any:
        """The value at a path."""
        return self.graph.value(path)

    def add(self, path: str, function: str) -> Outcome:
        return self.apply(edits.AddInstance(path, function))

    def set(self, item: str, value: Any) -> Outcome:
        return self.apply(edits.SetValue(item, value))

    def connect(self, source: str, target: str) -> Outcome:
        return self.apply(edits.Connect(source, target))

    def activate(self, path: str = "") -> Outcome:
        return self.apply(edits.Activate(path))


def toy_bench() -> Bench:
    """Instance `w` of toy::work, active."""
    bench = Bench("toy", "float", "int", toy=TOY)
    bench.add("w", "toy::work")
    bench.activate()
    return bench
