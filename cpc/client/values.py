"""Values as people read them, and the files within them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cpc.client.output import harmless
from cpc.core.plain import FileRef, Plain

WIDE = 40  # columns from which on a compound takes a line for each member
STEP = "  "


def show(value: Plain, indent: str = "") -> str:
    """`12.5`, `true`, `conf.gro`, `[ a, b ]`, `{ k : v }`; None for what is not set. Floats are exact."""
    if isinstance(value, FileRef):
        return harmless(value.name)
    if isinstance(value, list):
        return _compound("[", [show(one, indent + STEP) for one in value], "]", indent)
    if isinstance(value, dict):
        members = [f"{harmless(name)} : {show(one, indent + STEP)}" for name, one in value.items()]
        return _compound("{", members, "}", indent)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return harmless("None" if value is None else value)


def _compound(begin: str, members: list[str], end: str, indent: str) -> str:
    line = f"{begin} {', '.join(members)} {end}" if members else f"{begin} {end}"
    if len(line) <= WIDE and "\n" not in line:
        return line
    inner = indent + STEP
    return f"{begin}\n{inner}" + f",\n{inner}".join(members) + f"\n{indent}{end}"


def files(path: str, value: Plain, way: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...], FileRef]]:
    """Each file in the value of the item `path`: its own item, the members and indexes that lead to it, the file."""
    if isinstance(value, FileRef):
        yield path, way, value
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from files(f"{path}[{at}]", one, (*way, str(at)))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from files(f"{path}.{name}", one, (*way, name))


def place(way: tuple[str, ...], file: FileRef) -> Path:
    """Where a file of a compound goes, below a directory: members and indexes become directories."""
    return Path(*map(_component, (*way, file.name)))


def _component(name: str) -> str:
    """A name as one component of a path, which cannot lead anywhere else."""
    safe = harmless(name).replace("/", "_")
    return f"_{safe}" if safe in ("", ".", "..") else safe[:200]
