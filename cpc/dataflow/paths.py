"""Item paths: names separated by `.` or `:`, `[N]` for an array's element, `[+]` for its next free one.

`-` and `_` are the same. `run:sim_3:mdrun.out.xtc[2]` and `run.sim-3.mdrun:out:xtc[2]` are one path.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from typing import Final, TypeAlias

from cpc.core.errors import BadInput
from cpc.dataflow.types import Path

MAX_TEXT = 4096
MAX_INDEX = 1_000_000
_INSTANCE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_PART = re.compile(r"\[(?P<index>[0-9]+|\+)\]|(?P<separator>[.:])|(?P<name>[^.:\[\]\x00-\x1f]+)")

#: Names that no instance can have: the words of the path grammar.
RESERVED = frozenset(("self", "in", "out", "sub_in", "sub_out", "ext_in", "ext_out", "msg"))


class Next(enum.Enum):
    """`[+]` in a path."""

    NEXT = "[+]"


NEXT: Final = Next.NEXT
#: A path as it was written: `NEXT` stands for an index that is not decided yet.
Written: TypeAlias = tuple[str | int | Next, ...]


def key(name: str) -> str:
    """A name as it is kept and compared: NFC, `_` for `-`."""
    if name.isascii():
        return name.replace("-", "_")
    return unicodedata.normalize("NFC", name).replace("-", "_")


def instance_name(name: str) -> str:
    """The name as an instance can have it, or BadInput."""
    name = key(name)
    if not _INSTANCE.fullmatch(name):
        raise BadInput(
            f"{name[:80]!r} cannot be an instance's name", "use letters, digits and '_', first a letter, at most 128"
        )
    if name in RESERVED:
        raise BadInput(f"{name!r} cannot be an instance's name: paths use the word", "take another name")
    return name


def entry_name(name: str) -> str:
    """The name as an entry of a dict or a field of a record can have it, or BadInput."""
    name = key(name)
    if not name or len(name) > 256 or any(char in ".:[]" or char < " " for char in name):
        raise BadInput(f"{name[:80]!r} cannot be an entry's name", "it is not empty, without '.', ':', '[' and ']'")
    return name


def parse(text: str) -> Written:
    """The parts of a path; the empty path is the project's. BadInput shows where it cannot be read."""
    if "[" not in text and "]" not in text and text.isprintable() and len(text) <= MAX_TEXT:
        parts = key(text).replace(":", ".").split(".") if text else []
        if all(parts):
            return tuple(parts)
    return _parse(text)


def _parse(text: str) -> Written:
    if len(text) > MAX_TEXT:
        raise BadInput(f"the path {text[:60]!r}… is longer than {MAX_TEXT} characters")
    parts: list[str | int | Next] = []
    place, name_expected = 0, True
    while place < len(text):
        found = _PART.match(text, place)
        if found is None or name_expected != (found["name"] is not None):
            raise BadInput(
                f"the path {text!r} cannot be read from {text[place:]!r} on",
                "names are separated by '.' or ':', elements written [0] or [+]",
            )
        if found["index"] is not None:
            parts.append(NEXT if found["index"] == "+" else _index(found["index"], text))
        elif found["name"] is not None:
            parts.append(key(found["name"]))
        name_expected = found["separator"] is not None
        place = found.end()
    if text and name_expected:
        raise BadInput(f"the path {text!r} ends in {text[-1]!r}", "name the item behind it")
    return tuple(parts)


def _index(digits: str, text: str) -> int:
    if len(digits) > len(str(MAX_INDEX)) or int(digits) > MAX_INDEX:
        raise BadInput(f"{text!r}: an array has at most {MAX_INDEX} elements")
    return int(digits)


def read(text: str) -> Path:
    """A path without `[+]`: one that `write` has written."""
    parts = parse(text)
    if NEXT in parts:
        raise BadInput(f"{text!r}: [+] names no element", "give the element's number")
    return parts  # type: ignore[return-value]


def write(path: Written) -> str:
    """The path as text: `conf[3].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif isinstance(part, Next):
            text += part.value
        else:
            text += f".{part}" if text else part
    return text
