"""One run of the code behind a function, whatever kind it is of. Needs no process of its own."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cpc.api import running, values
from cpc.api.file import File
from cpc.api.functions import Function
from cpc.controller import external, loading
from cpc.controller.original import running as original
from cpc.core.errors import BadInput
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code
from cpc.dataflow.description import FunctionKind


def run(code: Code, step: StepInput) -> Answer:
    """The answer of one run; whatever goes wrong is the answer's error."""
    try:
        with _within(step.output_dir):
            return _RUNNERS[code.kind](code, step)
    except Exception as error:
        return Answer(error=running.explain(error))


def check(code: Code) -> str:
    """Why the code cannot be run; empty when it can."""
    try:
        _CHECKS[code.kind](code)
    except Exception as error:
        return running.explain(error)
    return ""


def _controller(code: Code, step: StepInput) -> Answer:
    return running.run(_function(code), step)


def _function(code: Code) -> Function[..., Any]:
    found = loading.thing(code.controller.module, code.controller.function)
    if not isinstance(found, Function):
        raise BadInput(
            f"{code.controller.function} in Python module {code.controller.module} is not decorated any more",
            "import the module again",
        )
    return found


def _python(code: Code, step: StepInput) -> Answer:
    """A function of keyword arguments that returns a dict: the original's `python`."""
    function = original.load(code)
    reader = values.Reader(step.files)
    inputs = {name: _plain(reader.read(raw, Any)) for name, raw in step.inputs.items()}
    result = function(**_arguments(function, {**inputs, "_outputDir": step.output_dir}))
    if result is not None and not isinstance(result, Mapping):
        raise BadInput(f"{code.function} returned a {type(result).__name__}", "it returns a dict of its outputs")
    return Answer(outputs=tuple((str(name), values.wire(value)) for name, value in (result or {}).items()))


def _arguments(function: Callable[..., Any], known: dict[str, Any]) -> dict[str, Any]:
    """What the function takes of `known`. What is not set is left to its default, where it has one."""
    parameters = inspect.signature(function).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return known
    return {
        name: value
        for name, value in known.items()
        if name in parameters and (value is not None or parameters[name].default is inspect.Parameter.empty)
    }


def _plain(value: Any) -> Any:
    """Files as their paths, at every depth."""
    if isinstance(value, File):
        return str(value.path)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value


@contextlib.contextmanager
def _within(directory: str) -> Iterator[None]:
    if not directory:
        yield
        return
    with contextlib.chdir(os.path.abspath(directory)):
        yield


_RUNNERS: dict[FunctionKind, Callable[[Code, StepInput], Answer]] = {
    FunctionKind.CONTROLLER: _controller,
    FunctionKind.PYTHON: _python,
    FunctionKind.PYTHON_EXTENDED: original.run,
    FunctionKind.EXTERNAL: external.run,
}
_CHECKS: dict[FunctionKind, Callable[[Code], object]] = {
    FunctionKind.CONTROLLER: _function,
    FunctionKind.PYTHON: original.load,
    FunctionKind.PYTHON_EXTENDED: original.check,
    FunctionKind.EXTERNAL: external.check,
}
