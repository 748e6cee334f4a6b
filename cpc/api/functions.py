"""Functions written in Python: `@function`, `@command` and `@controller` derive what others see of them from type hints.

Each of the three gives a `Function`. It can be called as the plain function that it was; `carry_out` does one run of a
step, and `text` is what the engine knows of it.
"""

from __future__ import annotations

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

from cpc.api import values
from cpc.api.finding import offered_as
from cpc.api.hints import Types, doc
from cpc.api.step import Step
from cpc.api.values import Member
from cpc.core.errors import BadInput
from cpc.core.resources import parse_size, parse_span
from cpc.dataflow.description import ControllerText, FunctionKind, FunctionText

P = ParamSpec("P")
R = TypeVar("R")
Members: TypeAlias = Mapping[str, Member]
#: Outputs and the like: a class with annotations (dataclass, NamedTuple), or names with their hints.
Shape: TypeAlias = type | Mapping[str, Any]

NONE: Members = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Options:
    """What the three decorators have in common.

    `eager`: runs when it is activated even if no input is set. `broadcast`: names of array inputs that may have one element where
    others have N. `time` (s, or "10m") and `memory` (bytes, or "2G") limit one run of the code itself. `persistent`: has
    `step.directory`. `cancel_on_change`: a changed input ends the step under way, with its jobs. `access_outputs`:
    `step.outputs` holds what the outputs are now.
    """

    eager: bool = False
    broadcast: Sequence[str] = ()
    time: float | str = 0.0
    memory: int | str = 0
    persistent: bool = False
    cancel_on_change: bool = False
    access_outputs: bool = False


class OptionArguments(TypedDict, total=False):
    """`Options` as keyword arguments of the decorators."""

    eager: bool
    broadcast: Sequence[str]
    time: float | str
    memory: int | str
    persistent: bool
    cancel_on_change: bool
    access_outputs: bool


class Function(ABC, Generic[P, R]):
    """A function that instances can be made of. `body` is the Python function behind it."""

    def __init__(self, body: Callable[P, R], options: Options) -> None:
        self.body = body
        self.options = options
        self.name = body.__name__
        self.__doc__ = body.__doc__
        self.__name__ = body.__name__
        self.__module__ = body.__module__
        self.__wrapped__ = body  # for inspect, and whatever else looks for the signature
        self._trees: tuple[Members, Members, Members, Members] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.body(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__module__}.{self.name}>"

    @abstractmethod
    def carry_out(self, step: Step) -> None:
        """One run of a step; what it asks for is gathered in `step`."""

    @abstractmethod
    def outputs(self) -> Members:
        """Its outputs."""

    def writes_files(self) -> bool:
        """Whether its runs need a directory to write into."""
        return any(values.holds_file(one.hint) for one in self.outputs().values())

    def inputs(self) -> Members:
        """Its inputs: the parameters of the Python function."""
        return parameters(self.body)

    def sub_inputs(self) -> Members:
        """What its own network returns to it."""
        return NONE

    def sub_outputs(self) -> Members:
        """What its own network can be connected to."""
        return NONE

    def called(self, package: str) -> str:
        """Its name as functions of the Python package `package` use it: bare in its own module, else `module::name`."""
        if self.__module__ == package or self.__module__.startswith(f"{package}."):
            return self.name
        return f"{offered_as(self, self.__module__)}::{self.name}"

    def hints(self) -> dict[str, dict[str, Any]]:
        """The hints of the four trees, as a `Step` needs them."""
        return {
            tree: {name: one.hint for name, one in members.items()}
            for tree, members in zip(("in", "out", "sub_in", "sub_out"), self._interface(), strict=True)
        }

    def text(self, types: Types) -> FunctionText:
        """What the engine knows of it. Its types are gathered in `types`; BadInput names the function and what is wrong."""
        try:
            trees = self._interface()
            inputs, outputs, sub_inputs, sub_outputs = (types.fields(one) for one in trees)
            self._check_broadcast(trees[0])
            return FunctionText(
                id=self.name,
                kind=FunctionKind.CONTROLLER,
                inputs=inputs,
                outputs=outputs,
                sub_inputs=sub_inputs,
                sub_outputs=sub_outputs,
                controller=self._controller(),
                desc=doc(self.body),
                eager=self.options.eager,
                broadcast=tuple(self.options.broadcast),
            )
        except BadInput as error:
            raise BadInput(f"function {self.name}: {error.message}", error.hint) from None

    def arguments(self, step: Step) -> dict[str, Any]:
        """The inputs as the Python function's arguments: what is not set has its default, or is None."""
        found = dict(step.inputs)
        for name, member in self._interface()[0].items():
            if found.get(name) is None:
                found[name] = member.default
        return found

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The Python function, with arguments that were read by its hints."""
        body: Callable[..., Any] = self.body
        return body(*args, **kwargs)

    def _interface(self) -> tuple[Members, Members, Members, Members]:
        if self._trees is None:
            self._trees = (self.inputs(), self.outputs(), self.sub_inputs(), self.sub_outputs())
        return self._trees

    def _check_broadcast(self, inputs: Members) -> None:
        for name in self.options.broadcast:
            if name not in inputs or not values.is_sequence(values.bare(inputs[name].hint)):
                raise BadInput(f"broadcast names {name}, which is no input that is a list")

    def _controller(self) -> ControllerText:
        options = self.options
        time, memory = options.time, options.memory
        return ControllerText(
            module=self.__module__,
            function=self.name,
            persistent_dir=options.persistent,
            output_dir=self.writes_files(),
            log=True,
            access_outputs=options.access_outputs,
            access_subnet_outputs=options.access_outputs,
            cancel_on_change=options.cancel_on_change,
            time=parse_span(time) if isinstance(time, str) else float(time),
            memory=parse_size(memory) if isinstance(memory, str) else memory,
        )


class PlainFunction(Function[P, R]):
    """Values in, values out; see `function`."""

    def __init__(self, body: Callable[P, R], options: Options, output: str) -> None:
        super().__init__(body, options)
        self.output = output

    def outputs(self) -> Members:
        """The members of what it returns, or what it returns as one output."""
        hint = self._returned()
        if hint is type(None):
            return NONE
        members = None if self.output else values.record(values.bare(hint))
        return {self.output or "result": Member(hint)} if members is None else members

    def carry_out(self, step: Step) -> None:
        """Call it, and set its outputs."""
        result = self.call(**self.arguments(step))
        if not self.output and values.record(values.bare(self._returned())) is not None:
            for name, value in named(self.outputs(), result).items():
                step.output(name, value)
        elif self.outputs():
            step.output(self.output or "result", result)

    def _returned(self) -> Any:
        hints = hints_of(self.body)
        if "return" not in hints:
            raise BadInput("it does not say what it returns", "add a hint: -> float")
        return hints["return"]


@overload
def function(body: Callable[P, R], /) -> PlainFunction[P, R]: ...


@overload
def function(
    *, output: str = "", **options: Unpack[OptionArguments]
) -> Callable[[Callable[P, R]], PlainFunction[P, R]]: ...


def function(
    body: Callable[P, R] | None = None, /, *, output: str = "", **options: Unpack[OptionArguments]
) -> PlainFunction[P, R] | Callable[[Callable[P, R]], PlainFunction[P, R]]:
    """A function of plain values. Parameters are inputs; what is returned is the output.

    A returned dataclass or NamedTuple is several outputs, one for each member; with `output="fit"`, or of any other type, it is
    one output, called `result` unless `output` says otherwise. The other options are those of `Options`. The function
    may write files into the current directory and return them as `File("name")`.

        @function(output="c")
        def add(a: float, b: float = 1.0) -> float:
            "The sum of two numbers."
            return a + b
    """
    if body is not None:
        return PlainFunction(body, Options(), output)
    return lambda given: PlainFunction(given, Options(**options), output)


def named(outputs: Members, result: Any) -> dict[str, Any]:
    """The outputs in what a Python function returned: a mapping with their names, or a record with them as members."""
    if isinstance(result, Mapping):
        found = dict(result)
    else:
        found = {name: getattr(result, name) for name in outputs if hasattr(result, name)}
    unknown = [str(name) for name in found if name not in outputs]
    if unknown:
        raise BadInput(f"there is no output {unknown[0]}", f"the outputs are {', '.join(outputs) or 'none at all'}")
    return found


def parameters(body: Callable[..., Any], skip: int = 0) -> Members:
    """The parameters of a Python function as members, without the first `skip`; BadInput for what has no hint."""
    hints = hints_of(body)
    found: dict[str, Member] = {}
    for parameter in list(inspect.signature(body).parameters.values())[skip:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise BadInput(f"parameter {parameter.name} cannot be an input", "inputs are parameters with a name each")
        if parameter.name not in hints:
            raise BadInput(
                f"parameter {parameter.name} has no type hint", f"write {parameter.name}: float, for example"
            )
        has_default = parameter.default is not parameter.empty
        default = parameter.default if has_default else None
        found[parameter.name] = Member(hints[parameter.name], has_default, default)
    return found


def hints_of(thing: Any) -> dict[str, Any]:
    """The type hints of a Python function or class; BadInput when one of them names something that is not there."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except (NameError, TypeError) as error:
        raise BadInput(f"a type hint cannot be read: {error}", "hints name types that the module imports") from None


def members_of(shape: Shape | None) -> Members:
    """The members that a decorator's `outputs=` and the like stand for."""
    if shape is None:
        return NONE
    if isinstance(shape, Mapping):
        return {name: Member(hint) for name, hint in shape.items()}
    members = values.record(shape)
    if members is None:
        raise BadInput(f"{getattr(shape, '__name__', shape)} names no outputs", "give a dataclass, or names with types")
    return members
