"""Values on their way between the wire form of `cpc.core.plain` and what a Python function takes and returns."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

from cpc.api import file as files
from cpc.api.file import File
from cpc.core import plain
from cpc.core.errors import BadInput
from cpc.core.plain import FILE


class Reader:
    """Makes Python values of wire values. `local` maps the digests (hex) of files to their local paths."""

    __slots__ = ("_local",)

    def __init__(self, local: Mapping[str, str]) -> None:
        self._local = local

    def read(self, raw: Any, hint: Any) -> Any:
        """`raw` as `hint` has it: a `File`, a list, a dict, a dataclass; None stays None."""
        if raw is None:
            return None
        hint = bare(hint)
        if isinstance(raw, dict):
            return self._map(raw, hint)
        if isinstance(raw, list | tuple):
            member = bare((typing.get_args(hint) or (Any,))[0])
            return [self.read(one, member) for one in raw]
        return float(raw) if hint is float and isinstance(raw, int) else raw

    def _map(self, raw: dict[str, Any], hint: Any) -> Any:
        if FILE in raw:
            return self._file(raw)
        members = record(hint)
        if members is None:
            member = (*typing.get_args(hint), Any, Any)[1]
            return {name: self.read(one, member) for name, one in raw.items()}
        found = {name: self.read(raw.get(name), member.hint) for name, member in members.items()}
        for name, member in members.items():
            if found[name] is None and member.has_default:
                del found[name]
        return hint(**found)

    def _file(self, raw: dict[str, Any]) -> File:
        ref = plain.read(raw)
        assert isinstance(ref, plain.FileRef)
        path = self._local.get(ref.content.digest.hex())
        if path is None:
            raise BadInput(f"file {ref.name} is not here", "files of a step come with its inputs")
        return File(path, ref.name, ref)


def wire(value: Any) -> Any:
    """What a function returned, as an answer carries it; BadInput when it cannot be a value."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):  # numpy's are, too
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, File):
        return files.wire(value)
    if isinstance(value, os.PathLike):
        return files.wire(File(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: wire(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: wire(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): wire(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [wire(one) for one in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return wire(value.tolist())
    raise BadInput(
        f"a {type(value).__name__} is not a value", "values are numbers, texts, Files, lists, dicts and dataclasses"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member of a record: its hint, and its default where it has one."""

    hint: Any
    has_default: bool = False
    default: Any = None


@functools.cache
def record(hint: Any) -> dict[str, Member] | None:
    """The members of a dataclass or NamedTuple, in order; None when `hint` is neither."""
    if not isinstance(hint, type):
        return None
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return {one.name: _member(one, hints[one.name]) for one in dataclasses.fields(hint)}
    if issubclass(hint, tuple) and hasattr(hint, "_field_defaults"):
        defaults: dict[str, Any] = hint._field_defaults
        hints = typing.get_type_hints(hint, include_extras=True)
        return {name: Member(one, name in defaults, defaults.get(name)) for name, one in hints.items()}
    return None


def _member(field: dataclasses.Field[Any], hint: Any) -> Member:
    if field.default is not dataclasses.MISSING:
        return Member(hint, True, field.default)
    if field.default_factory is not dataclasses.MISSING:
        return Member(hint, True, field.default_factory())
    return Member(hint)


def bare(hint: Any) -> Any:
    """The hint without `Annotated` and without `| None`."""
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated:
            hint = typing.get_args(hint)[0]
        elif origin in (Union, types.UnionType):
            some = [one for one in typing.get_args(hint) if one is not type(None)]
            if len(some) != 1:
                return hint
            hint = some[0]
        else:
            return hint


def optional(hint: Any) -> bool:
    """Whether None is among what the hint takes."""
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return typing.get_origin(hint) in (Union, types.UnionType) and type(None) in typing.get_args(hint)


def is_sequence(hint: Any) -> bool:
    """Whether the (bare) hint is a list or another sequence of one kind of member."""
    return (typing.get_origin(hint) or hint) in (list, tuple, Sequence)


def is_mapping(hint: Any) -> bool:
    """Whether the (bare) hint is a dict or another mapping from texts."""
    return (typing.get_origin(hint) or hint) in (dict, Mapping)


def holds_file(hint: Any) -> bool:
    """Whether values of this hint are files, or hold files."""
    hint = bare(hint)
    members = record(hint)
    if members is not None:
        return any(holds_file(one.hint) for one in members.values())
    return hint is File or any(holds_file(one) for one in typing.get_args(hint))
