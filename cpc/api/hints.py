"""From type hints to the types of a module: what a function written in Python takes and gives, as others see it."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from cpc.api import values
from cpc.api.file import File
from cpc.core.errors import BadInput
from cpc.dataflow.description import FieldText, TypeText

_SIMPLE: dict[Any, str] = {bool: "bool", int: "int", float: "float", str: "string", File: "file", Any: "value"}


@dataclass(frozen=True, slots=True)
class TypeName:
    """`Annotated[File, TypeName("mylab::trajectory")]`: the field has this type of a module, instead of one made for it.

    On a dataclass, `cpc_type: ClassVar[str] = "resource::run_desc"` does the same for all fields of the class.
    """

    name: str


class Types:
    """Gathers the types that a module's fields need: `found` by name, and the modules that others are `imported` from."""

    def __init__(self) -> None:
        self.found: dict[str, TypeText] = {}
        self.imported: set[str] = set()
        self._made_for: dict[str, Any] = {}

    def field(self, name: str, hint: Any, has_default: bool = False, default: Any = None) -> FieldText:
        """An input, an output or a member. `T | None` and defaults make it optional.

        A text in `Annotated[…]` describes it. Arrays, dicts and records are complete, all that is in them is set before the
        function runs, unless their members may be None.
        """
        try:
            return FieldText(
                name,
                self.name(hint),
                opt=has_default or values.optional(hint),
                complete=_complete(hint),
                desc=next((one for one in _extras(hint) if isinstance(one, str)), ""),
                default=values.wire(default) if has_default else None,
            )
        except BadInput as error:
            raise BadInput(f"{name}: {error.message}", error.hint) from None

    def fields(self, members: typing.Mapping[str, values.Member]) -> tuple[FieldText, ...]:
        """All members as fields."""
        return tuple(self.field(name, one.hint, one.has_default, one.default) for name, one in members.items())

    def name(self, hint: Any) -> str:
        """The name of the type that `hint` stands for; BadInput when values cannot be like that."""
        given = next((one.name for one in _extras(hint) if isinstance(one, TypeName)), "")
        if given:
            return self._of_module(given)
        hint = values.bare(hint)
        if hint in _SIMPLE:
            return _SIMPLE[hint]
        arguments = typing.get_args(hint)
        if values.is_sequence(hint) and arguments and set(arguments[1:]) <= {Ellipsis}:
            return self._compound("array", arguments[0])
        if values.is_mapping(hint) and len(arguments) == 2 and arguments[0] is str:
            return self._compound("dict", arguments[1])
        members = values.record(hint)
        if members is not None:
            return self._record(hint, members)
        raise BadInput(
            f"there is no type for {getattr(hint, '__name__', hint)}",
            "hints are bool, int, float, str, File, list[T], dict[str, T], dataclasses of them, and T | None",
        )

    def _of_module(self, name: str) -> str:
        module = name.rpartition("::")[0]
        if module:
            self.imported.add(module)
        return name

    def _compound(self, base: str, member: Any) -> str:
        inner = self.name(member)
        name = f"{inner.replace('::', '_')}_{base}"
        self.found.setdefault(name, TypeText(name, base, member=inner))
        return name

    def _record(self, cls: Any, members: typing.Mapping[str, values.Member]) -> str:
        given = vars(cls).get("cpc_type", "")
        if given:
            return self._of_module(given)
        name: str = cls.__name__
        if self._made_for.setdefault(name, cls) is not cls:
            raise BadInput(f"two classes are called {name}", "give one of them another name")
        if name not in self.found:
            self.found[name] = TypeText(name, "record", desc=doc(cls))  # in its place before its members
            self.found[name] = TypeText(name, "record", fields=self.fields(members), desc=doc(cls))
        return name


def doc(thing: Any) -> str:
    """The docstring that somebody wrote, without its indentation; not the one that `dataclass` makes."""
    text: str = thing.__doc__ or ""
    made = isinstance(thing, type) and text.startswith(f"{thing.__name__}(")
    return "" if made else inspect.cleandoc(text)


def _extras(hint: Any) -> list[Any]:
    """What `Annotated` adds to the hint, also within `… | None`."""
    if typing.get_origin(hint) is Annotated:
        inner, *own = typing.get_args(hint)
        return [*own, *_extras(inner)]
    return [one for part in typing.get_args(hint) for one in _extras(part)] if values.optional(hint) else []


def _complete(hint: Any) -> bool:
    hint = values.bare(hint)
    arguments = typing.get_args(hint)
    if values.is_sequence(hint) or values.is_mapping(hint):
        member = arguments[1] if values.is_mapping(hint) else arguments[0]
        compound = typing.get_origin(values.bare(member)) is not None
        return not values.optional(member) and (not compound or _complete(member))
    return values.record(hint) is not None
