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
from cpc.controller.original.values import Files
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


def check(code: Code) -> None:
    """Call the function with no inputs at all, as the original did when its module was imported."""
    install()
    loading.thing(code.controller.module, code.controller.function)(FunctionInput())


def run(code: Code, step: StepInput) -> Answer:
    """One run of a Python function: once for fresh inputs, or for each command that has ended, one after the other."""
    install()
    function = loading.thing(code.controller.module, code.controller.function)

    def call(files: Files, ended: Command | None) -> FunctionOutput:
        given = FunctionInput(step, code.trees, files, ended)
        output = function(given)
        output = given.getFunctionOutput() if output is None else output
        if not isinstance(output, FunctionOutput):
            raise BadInput(f"{code.function} returned a {type(output).__name__}", "it returns inp.getFunctionOutput()")
        return output

    return carry_out(step, call)


def carry_out(step: StepInput, call: Callable[[Files, Command | None], FunctionOutput]) -> Answer:
    """What a function asks for that gets one ended command at a time: all of it together."""
    files = Files(step.files)
    if not step.finished:
        _tidy(step.persistent_dir)
    answer = Answer()
    commands: list[Command | None] = [command.finished(one, step, files) for one in step.finished]
    for ended in commands or [None]:
        output = call(files, ended)
        if output.error:
            return Answer(error=output.error)
        answer = _add(answer, output, step, files)
    return answer


def _add(answer: Answer, output: FunctionOutput, step: StepInput, files: Files) -> Answer:
    jobs = [command.job(one, step, files, len(answer.jobs) + index) for index, one in enumerate(output.commands)]
    return Answer(
        outputs=(*answer.outputs, *((item, values.wire(value, files)) for item, value in output.outputs)),
        sub_outputs=(*answer.sub_outputs, *((item, values.wire(value, files)) for item, value in output.subnetOutputs)),
        instances=(*answer.instances, *output.instances),
        connections=(*answer.connections, *output.connections),
        values=(*answer.values, *((target, values.wire(value, files)) for target, value in output.values)),
        jobs=(*(() if output.cancel else answer.jobs), *jobs),
        cancel_jobs=answer.cancel_jobs or output.cancel,
        warning="\n".join(filter(None, (answer.warning, output.warning))),
    )


def _tidy(directory: str) -> None:
    """Directories that commands of former steps have left; files of the module's own stay."""
    for path in Path(directory).iterdir() if directory else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
