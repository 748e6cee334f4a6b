"""Trying out a module without a server: its functions run in this process, and so do their jobs.

from cpc.api.testing import Bench, Project

def test_it_stops_when_the_error_is_small(tmp_path):
    bench = Bench(tmp_path, programs={"mylab/sample": ["python3", "sample.py"]})
    assert bench.run(adaptive, error=0.1)["mean"] == pytest.approx(0.5, abs=0.2)

def test_it_fits_what_was_sampled(tmp_path):
    project = Project(tmp_path, mylab, programs={"mylab/sample": sample})
    project.add("a", "mylab::adaptive")
    project.set("a:in.error", 0.1)
    project.run()
    assert project.get("a:out.mean") == pytest.approx(0.5, abs=0.2)
"""

from __future__ import annotations

import functools
import importlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec.structs import replace

from cpc.api import running, values
from cpc.api.bench import PYTHON, Program, Runner, RunningJob
from cpc.api.functions import Function
from cpc.api.modules import describe
from cpc.api.step import Failed
from cpc.core import plain
from cpc.core.edits import Activate, AddInstance, Connect, Edit, Import, SetValue
from cpc.core.errors import BadInput
from cpc.core.journal import Journal
from cpc.dataflow import items
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code, code
from cpc.dataflow.description import FunctionKind, ModuleText
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.library import Library, nothing
from cpc.dataflow.outcome import Outcome

__all__ = ["PYTHON", "Bench", "Program", "Project", "RunningJob"]


class Bench:
    """Runs single functions, with their jobs, in `directory`. `programs`: how jobs' executables run here."""

    def __init__(self, directory: Path, programs: Mapping[str, Program] | None = None) -> None:
        self._runner = Runner(directory, programs or {})
        #: The answers of the latest step, in their order: what the function asked for.
        self.answers: list[Answer] = []

    @property
    def ran(self) -> int:
        """How many jobs have run."""
        return self._runner.worker.ran

    def run(self, function: Function[..., Any], **inputs: Any) -> dict[str, Any]:
        """One step to its end, jobs included: the outputs by name. Failed with the error that an instance would have had."""
        self.answers = []
        raw = {name: self._runner.store.keep(values.wire(one)) for name, one in inputs.items()}
        updated = tuple(f"in.{name}" for name in raw)
        step: StepInput | None = StepInput("test", "test", function.name, 1, inputs=raw, updated=updated)
        outputs: dict[str, Any] = {}
        sub_outputs: dict[str, Any] = {}
        while step is not None:
            one = self._runner.run(functools.partial(running.run, function), step)
            self.answers.append(one)
            if one.error:
                raise Failed(one.error)
            outputs.update(one.outputs)
            sub_outputs.update(one.sub_outputs)
            step = self._runner.finish(step, one)
            if step is not None and function.options.access_outputs:
                step = replace(step, outputs=outputs, sub_outputs=sub_outputs)
        reader = values.Reader(self._runner.store.local())
        hints = function.hints()["out"]
        return {item: reader.read(value, hints.get(item, Any)) for item, value in outputs.items()}


def decorated(told: Code, step: StepInput) -> Answer:
    """One run of a function decorated with `function`, `command` or `controller`."""
    if told.kind is not FunctionKind.CONTROLLER:
        raise BadInput(
            f"{told.function} is of kind {told.kind}, which needs a server", "or give runs=cpc.controller.run.run"
        )
    found: Function[..., Any] = getattr(importlib.import_module(told.controller.module), told.controller.function)
    return running.run(found, step)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A step that is to be run; `id`: the engine's."""

    instance: Instance
    id: int
    step: StepInput


class Project:
    """A project in memory: the engine is the server's own, functions and jobs run here, one after the other.

    `modules`: Python modules, or descriptions. `runs` runs functions of other kinds than those of `cpc.api`.
    """

    def __init__(
        self,
        directory: Path,
        *modules: ModuleType | ModuleText,
        programs: Mapping[str, Program] | None = None,
        runs: Callable[[Code, StepInput], Answer] = decorated,
    ) -> None:
        texts = [describe(one) if isinstance(one, ModuleType) else one for one in modules]
        self._texts = {one.name: one for one in texts}
        self._runner = Runner(directory, programs or {})
        self._runs = runs
        self._graph = Graph(Library(self._find), Journal(), "test")
        self._ids = 0
        self._ready: deque[_Ready] = deque()
        self._states: dict[int, bytes] = {}
        #: What the functions have printed with `step.log`.
        self.log = ""
        self._apply(*(Import(one.name) for one in texts))

    @property
    def ran(self) -> int:
        """How many jobs have run."""
        return self._runner.worker.ran

    def add(self, path: str, function: str) -> None:
        """A new instance of `module::function`."""
        self._apply(AddInstance(path, function))

    def connect(self, source: str, target: str) -> None:
        """The target (`b:in.y`) follows the source (`a:out.x`)."""
        self._apply(Connect(source, target))

    def set(self, item: str, value: Any) -> None:
        """Set an input; files by their paths."""
        self._apply(SetValue(item, self._runner.store.keep(values.wire(value))))

    def get(self, item: str) -> Any:
        """The value of an item, None when it is not set; files as `File`."""
        found = items.value(self._graph.root, item).value
        return values.Reader(self._runner.store.local()).read(plain.wire(found), Any)

    def state(self, path: str) -> str:
        """The state of an instance."""
        return self._instance(path).state.label

    def error(self, path: str) -> str:
        """Why an instance has stopped; empty when it has not."""
        return self._instance(path).error

    def instances(self) -> list[str]:
        """The paths of all instances."""
        return [one.path for one in self._graph.root.within()]

    def run(self, check: bool = True) -> None:
        """Activate everything, and run until nothing is left to do. With `check`, Failed when an instance is in error."""
        self._apply(Activate())
        while self._ready:
            ready = self._ready.popleft()
            if ready.instance.step == ready.id:  # else it has been cancelled
                self._step(ready)
        for one in self._graph.root.within():
            if check and one.state is State.ERROR:
                raise Failed(f"{one.path}: {one.error}")

    def _step(self, ready: _Ready) -> None:
        instance = ready.instance
        one = self._runner.run(functools.partial(self._runs, code(instance.function)), ready.step)
        self.log += one.log
        outcome = self._graph.answer(instance, one, self._next, origin=ready.id)
        if one.state is not None and not outcome.refused:
            self._states[instance.id] = one.state
        following = None if outcome.refused or one.error else self._runner.finish(ready.step, one)
        self._follow(outcome)
        if instance.step == ready.id and following is not None:
            self._ready.append(_Ready(instance, ready.id, replace(following, **_outputs(instance))))
        elif instance.step == ready.id:
            self._follow(self._graph.step_closed(instance))

    def _apply(self, *edits: Edit) -> None:
        self._follow(self._graph.apply(edits, self._next))

    def _follow(self, outcome: Outcome) -> None:
        """Do what a change has led to."""
        for instance in outcome.ends:
            self._follow(self._graph.step_closed(instance))
        for instance in outcome.opens:
            self._open(instance)

    def _open(self, instance: Instance) -> None:
        controller = instance.function.controller
        if controller is None:
            raise BadInput(f"{instance.path}: {instance.function.name} runs on a server only")
        found = self._graph.step_opened(instance, self._next())

        step = StepInput(
            self._graph.name,
            instance.path,
            instance.function.name,
            instance.number,
            inputs=_wired(found.inputs),
            sub_inputs=_wired(found.sub_inputs),
            **_outputs(instance),
            instances=tuple(instance.children or ()),
            updated=found.updated,
            state=self._states.get(instance.id, b""),
        )
        self._ready.append(_Ready(instance, instance.step, step))

    def _instance(self, path: str) -> Instance:
        return items.instance(self._graph.root, path)

    def _find(self, name: str) -> ModuleText:
        return self._texts.get(name) or nothing(name)

    def _next(self) -> int:
        self._ids += 1
        return self._ids


def _outputs(instance: Instance) -> dict[str, Any]:
    """What a step is told of its instance's outputs as they are now."""
    controller = instance.function.controller
    asked = {
        "outputs": (Tree.OUT, controller is not None and controller.access_outputs),
        "sub_outputs": (Tree.SUB_OUT, controller is not None and controller.access_subnet_outputs),
    }
    return {name: _wired(instance.value(tree)) if wanted else None for name, (tree, wanted) in asked.items()}


def _wired(tree: Any) -> dict[str, Any]:
    return {name: plain.wire(one) for name, one in (tree or {}).items()}
