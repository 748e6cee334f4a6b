"""Values as everybody outside the engine sees them: numbers, texts, files, lists and dictionaries.

Written down (database, wire, JSON), a file is a map with the single key `$file`, which no dictionary entry can have: `wire`
makes that form, `read` takes it back. Floats are exact in all of them; those that JSON has no number for are `{"$float": "inf"}`.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec

from cpc.core.digest import Content
from cpc.core.errors import BadInput

FILE = "$file"
FLOAT = "$float"
_NO_NUMBERS = ("inf", "-inf", "nan")


class FileRef(msgspec.Struct, frozen=True):
    """A file as a value: the base name it was given and its content."""

    name: str
    content: Content


#: None: not set. Lists are arrays (None: an element that is not set), dicts are records and dicts.
Plain: TypeAlias = bool | int | float | str | FileRef | list["Plain"] | dict[str, "Plain"] | None


def wire(value: Plain) -> Any:
    """The value as msgpack and JSON can write it."""
    if isinstance(value, FileRef):
        return {FILE: msgspec.to_builtins(value, builtin_types=(bytes,))}
    if isinstance(value, list):
        return [wire(one) for one in value]
    if isinstance(value, dict):
        return {name: wire(one) for name, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: repr(value)}
    return value


def read(raw: Any) -> Plain:
    """The value that `wire` has written, from msgpack or JSON; BadInput when it cannot be one."""
    try:
        return _read(raw)
    except RecursionError:
        raise BadInput("the value has too many lists and dictionaries within each other") from None


def _read(raw: Any) -> Plain:
    if isinstance(raw, dict):
        if FILE in raw:
            return _file(raw)
        if raw.get(FLOAT) in _NO_NUMBERS:
            return float(raw[FLOAT])
        return {str(name): _read(one) for name, one in raw.items()}
    if isinstance(raw, list | tuple):
        return [_read(one) for one in raw]
    if raw is None or isinstance(raw, bool | int | float | str):
        return raw
    raise BadInput(f"a {type(raw).__name__} is not a value", "values are numbers, texts, files, lists and dictionaries")


def files(raw: Any) -> list[FileRef]:
    """The files within a value in the wire form, at every depth."""
    found: list[FileRef] = []
    waiting = [raw]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if FILE in value:
                found.append(_file(value))
            else:
                waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return found


def _file(raw: dict[str, Any]) -> FileRef:
    try:
        found = msgspec.convert(raw[FILE], FileRef)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"this is not a file's address: {error}", "upload the file and use the address it gets"
        ) from None
    found.content.check()
    return found
