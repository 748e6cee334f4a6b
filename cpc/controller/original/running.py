"""Functions of modules that were written for the original: checked, and run with the names that they import."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cpc
import cpc.dataflow
from cpc.controller import loading
from cpc.controller.original import command, values
from cpc.controller.original.command import Command
from cpc.controller.original.function_input import FunctionInput
from cpc.controller.original.function_output import FunctionOutput
from cpc.controller.original.helpers import CpcError, Persistence, Resources
from cpc.controller.original.values import Files, Value
from cpc.core.errors import BadInput
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code

_DATAFLOW: dict[str, Any] = {
    **{name: getattr(values, name) for name in vars(values) if name.endswith("Value")},
    "FunctionInput": FunctionInput,
    "FunctionOutput": FunctionOutput,
    "Persistence": Persistence,
    "Resources": Resources,
}
_MODULES: dict[str, dict[str, Any]] = {"command": {"Command": Command}, "util": {"CpcError": CpcError}}


def install() -> None:
    """Put the original's names in place, in this process."""
    for name, thing in _DATAFLOW.items():
        setattr(cpc.dataflow, name, thing)
    for name, things in _MODULES.items():
        module = ModuleType(f"cpc.{name}")
        vars(module).update(things)
        sys.modules[module.__name__] = module
        setattr(cpc, name, module)


def load(code: Code) -> Callable[..., Any]:
    """The Python function, with the names that its module imports in place."""
    install()
    function: Callable[..., Any] = loading.thing(code.controller.module, code.controller.function)
    return function


def check(code: Code) -> None:
    """Call the function with no inputs at all, as the original did when its module was imported."""
    load(code)(FunctionInput())


def run(code: Code, step: StepInput) -> Answer:
    """One run of a Python function: once for fresh inputs, or for each command that has ended, one after the other."""
    function = load(code)

    def call(files: Files, ended: Command | None) -> Answer:
        given = FunctionInput(step, code.trees, files, ended)
        output = function(given)
        output = given.getFunctionOutput() if output is None else output
        if not isinstance(output, FunctionOutput):
            raise BadInput(f"{code.function} returned a {type(output).__name__}", "it returns inp.getFunctionOutput()")
        return _answer(output, step, files, ended)

    return carry_out(step, call)


def carry_out(step: StepInput, call: Callable[[Files, Command | None], Answer]) -> Answer:
    """What a function asks for that gets one ended command at a time: all of it together."""
    files = Files(step.files)
    if not step.finished:
        _tidy(step.persistent_dir)
    answer = Answer()
    commands: list[Command | None] = [command.finished(one, step, files) for one in step.finished]
    for ended in commands or [None]:
        one = call(files, ended)
        if one.error:
            return Answer(error=one.error)
        answer = _joined(answer, one)
    return answer


def _answer(output: FunctionOutput, step: StepInput, files: Files, ended: Command | None) -> Answer:
    def told(items: list[tuple[str, Value]]) -> tuple[tuple[str, Any], ...]:
        return tuple((item, values.wire(value, files)) for item, value in items)

    return Answer(
        outputs=told(output.outputs),
        sub_outputs=told(output.subnetOutputs),
        instances=tuple(output.instances),
        connections=tuple(output.connections),
        values=told(output.values),
        jobs=command.jobs(output.commands, step, files, ended),
        cancel_jobs=output.cancel,
        error=output.error,
        warning=output.warning,
    )


def _joined(first: Answer, then: Answer) -> Answer:
    return Answer(
        outputs=first.outputs + then.outputs,
        sub_outputs=first.sub_outputs + then.sub_outputs,
        instances=first.instances + then.instances,
        connections=first.connections + then.connections,
        values=first.values + then.values,
        jobs=(() if then.cancel_jobs else first.jobs) + then.jobs,
        cancel_jobs=first.cancel_jobs or then.cancel_jobs,
        warning="\n".join(filter(None, (first.warning, then.warning))),
    )


def _tidy(directory: str) -> None:
    """Directories that commands of former steps have left; files of the module's own stay."""
    for path in Path(directory).iterdir() if directory else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
