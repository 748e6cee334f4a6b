"""The modules `int` and `float`, which the engine itself carries out, within the change that sets their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

from cpc.core.errors import BadInput
from cpc.dataflow.description import FieldText, FunctionKind, FunctionText, ModuleText

_MAX_INT = (1 << 63) - 1


def _whole(value: int) -> int:
    if not -_MAX_INT - 1 <= value <= _MAX_INT:
        raise BadInput("the result does not fit into 64 bits", "use float")
    return value


def _divide_whole(a: int, b: int) -> int:
    """Towards zero, as C and most of its kin do it: -7 / 2 is -3."""
    if b == 0:
        raise BadInput(f"{a} cannot be divided by zero")
    quotient = abs(a) // abs(b)
    return _whole(quotient if (a < 0) == (b < 0) else -quotient)


def _divide(a: float, b: float) -> float:
    if b == 0:
        raise BadInput(f"{a!r} cannot be divided by zero")
    return a / b


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except (ValueError, OverflowError):
        raise BadInput(f"{a!r} to the power of {b!r} is not a float") from None


def _root(a: float) -> float:
    if a < 0:
        raise BadInput(f"{a!r} has no square root")
    return math.sqrt(a)


def _exponential(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        raise BadInput(f"exp({a!r}) is too large for a float") from None


def _logarithm(a: float) -> float:
    if a <= 0:
        raise BadInput(f"{a!r} has no logarithm")
    return math.log(a)


_Whole = Callable[[int, int], int]
_INT: dict[str, tuple[_Whole, str]] = {
    "add": (lambda a, b: _whole(a + b), "a + b"),
    "sub": (lambda a, b: _whole(a - b), "a - b"),
    "mul": (lambda a, b: _whole(a * b), "a times b"),
    "div": (_divide_whole, "a divided by b, without the remainder: -7 by 2 is -3"),
}
_FLOAT: dict[str, tuple[Callable[..., float], str]] = {
    "add": (lambda a, b: a + b, "a + b"),
    "sub": (lambda a, b: a - b, "a - b"),
    "mul": (lambda a, b: a * b, "a times b"),
    "div": (_divide, "a divided by b"),
    "pow": (_power, "a to the power of b"),
}
_FLOAT_OF_ONE: dict[str, tuple[Callable[..., float], str]] = {
    "sqrt": (_root, "the square root of a"),
    "exp": (_exponential, "e to the power of a"),
    "log": (_logarithm, "the natural logarithm of a"),
}

#: Where the result goes.
RESULT = ("c",)
#: Full name → what computes `c` from the inputs in their order. BadInput: it cannot, and why.
FUNCTIONS: dict[str, Callable[..., int | float]] = {
    **{f"int::{name}": compute for name, (compute, _) in _INT.items()},
    **{f"float::{name}": compute for name, (compute, _) in (_FLOAT | _FLOAT_OF_ONE).items()},
}


def _function(type: str, name: str, desc: str, inputs: str) -> FunctionText:
    return FunctionText(
        id=name,
        kind=FunctionKind.INLINE,
        inputs=tuple(FieldText(each, type) for each in inputs),
        outputs=(FieldText("c", type, desc=desc),),
        desc=desc[0].upper() + desc[1:],
    )


#: The modules as they are imported.
MODULES: dict[str, ModuleText] = {
    "int": ModuleText(
        name="int",
        version="1",
        desc="A set of basic functions for whole numbers",
        functions=tuple(_function("int", name, desc, "ab") for name, (_, desc) in _INT.items()),
        source="built in",
    ),
    "float": ModuleText(
        name="float",
        version="1",
        desc="A set of basic functions for floating point numbers",
        functions=(
            *(_function("float", name, desc, "ab") for name, (_, desc) in _FLOAT.items()),
            *(_function("float", name, desc, "a") for name, (_, desc) in _FLOAT_OF_ONE.items()),
        ),
        source="built in",
    ),
}
