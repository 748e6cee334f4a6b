"""Small things with files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cpc.api import BadInput, File, function


class Written(NamedTuple):
    """Two lists in files, and their sums."""

    afile: File
    bfile: File
    c: list[float]


@function(output="c")
def cat(a: File, b: File) -> File:
    """One file behind the other."""
    with open("cat", "wb") as out:
        for one in (a, b):
            with open(one, "rb") as file:
                while piece := file.read(1 << 20):
                    out.write(piece)
    return File("cat", a.name)


@function(output="b")
def to_file(a: list[float]) -> File:
    """Numbers as a text, one in a line."""
    return _numbers("numbers.txt", a)


@function
def ext_test(a: list[float], b: list[float]) -> Written:
    """Both lists as files, and the sums of their elements."""
    if len(a) != len(b):
        raise BadInput(f"a has {len(a)} elements, b {len(b)}", "give both as many")
    return Written(_numbers("a.txt", a), _numbers("b.txt", b), [x + y for x, y in zip(a, b, strict=True)])


@function(output="a")
def test_network(a: float) -> float:
    """Passes its input on."""
    return a


def _numbers(name: str, numbers: Sequence[float]) -> File:
    Path(name).write_text("".join(f"{one!r}\n" for one in numbers))
    return File(name)
