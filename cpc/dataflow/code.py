"""What a controller process is told of a function: the code to be run, and the types that older code wants to know."""

from __future__ import annotations

import msgspec

from cpc.dataflow.description import ControllerText, FunctionKind
from cpc.dataflow.functions import Function
from cpc.dataflow.types import Type

#: Kinds whose code sees its values with their types.
_TYPED = (FunctionKind.PYTHON_EXTENDED, FunctionKind.EXTERNAL)


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type, written out: its `name`, the built-in type (`kind`) that it comes from, and the shapes of its members."""

    name: str
    kind: str
    member: Shape | None = None
    fields: tuple[tuple[str, Shape], ...] = ()

    def below(self, part: str | int) -> Shape | None:
        """The shape of one member; None when there is no such."""
        return dict(self.fields).get(str(part)) if self.kind == "record" else self.member


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """What runs the steps of `function` (`module::name`). `directory`: of the module's file, where its programs lie.

    `trees`: the shapes of in, out, sub_in and sub_out, for code that sees types.
    """

    function: str
    kind: FunctionKind
    controller: ControllerText
    directory: str = ""
    trees: tuple[Shape, ...] = ()


def code(function: Function) -> Code:
    """The code behind a function that is run by a controller."""
    assert function.controller is not None
    trees = tuple(shape(one) for one in function.types) if function.kind in _TYPED else ()
    return Code(function.name, function.kind, function.controller, function.directory, trees)


def shape(type: Type) -> Shape:
    """The shape of a type."""
    return Shape(
        type.name,
        type.kind.value,
        None if type.member is None else shape(type.member),
        tuple((one.name, shape(one.type)) for one in type.fields),
    )
