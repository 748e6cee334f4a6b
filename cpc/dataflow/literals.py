"""Values as people write and read them on a command line."""

from __future__ import annotations

import json
import re

from cpc.core import plain
from cpc.core.errors import BadInput
from cpc.core.plain import FileRef, Plain
from cpc.dataflow.types import Kind, Type

_WORDS = {"true": True, "1": True, "false": False, "0": False}
_INT = re.compile(r"\s*[+-]?[0-9]{1,20}\s*")
#: Longer than this, a compound is shown with one member a line.
LINE = 40


def read(type: Type, text: str, where: str) -> Plain:
    """The value that `cpcc set` means by a text: as the type has it; arrays, dicts and records as JSON.

    BadInput names the item (`where`) and its type.
    """
    if type.kind is Kind.STRING:
        return text
    if type.kind is Kind.BOOL and text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    if type.kind is Kind.INT and _INT.fullmatch(text):
        return int(text)
    if type.kind is Kind.FLOAT and "_" not in text:
        try:
            return float(text)
        except ValueError:
            pass
    if type.kind is Kind.FILE:
        raise BadInput(f"{where} takes a file", "`cpcc setf` uploads one")
    if type.kind.compound:
        try:
            return plain.read(json.loads(text))
        except (ValueError, RecursionError):
            raise BadInput(
                f"{where} is {type.words}; {_short(text)} cannot be read as one",
                "set its members, or give it as JSON",
            ) from None
    raise BadInput(f"{where} takes {type.words}; {_short(text)} is none", _HINTS.get(type.kind, ""))


_HINTS = {
    Kind.BOOL: "write true or false",
    Kind.INT: "write a whole number",
    Kind.FLOAT: "write a number, such as 2.5e-3",
}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def show(value: Plain) -> str:
    """A value as `cpcc get` prints it. Floats are exact; a file is its name; what is not set is `None`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, FileRef):
        return value.name
    if isinstance(value, list):
        return _compound("[", [show(each) for each in value], "]")
    if isinstance(value, dict):
        return _compound("{", [f"{name} : {show(each)}" for name, each in value.items()], "}")
    return value if isinstance(value, str) else repr(value)


def _compound(begin: str, members: list[str], end: str) -> str:
    line = f"{begin} {', '.join(members)} {end}"
    if len(line) <= LINE:
        return line
    inner = [member.replace("\n", "\n  ") for member in members]
    return f"{begin}\n  " + ",\n  ".join(inner) + f"\n{end}"
