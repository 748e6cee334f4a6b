"""What is said, without its values: which keys there are, and of which type. A later release says at least the same."""

from __future__ import annotations

from typing import Any

LEFT_OUT = {"left out": True}  # a certificate, or a request for one

Shape = dict[str, set[str]]  # path → types that were seen there


def of(value: Any, path: str = "", into: Shape | None = None) -> Shape:
    """Every path in a value. Elements of a list are one path, and so are entries of a map with free keys."""
    found: Shape = {} if into is None else into
    found.setdefault(path, set()).add(_kind(value))
    if isinstance(value, dict) and value != LEFT_OUT:
        for key, each in value.items():
            of(each, f"{path}.{key}" if isinstance(key, str) else f"{path}.*", found)
    elif isinstance(value, list):
        for each in value[:3] if _is_lease(value) else value:
            of(each, f"{path}[]", found)
    return found


def _is_lease(value: list[Any]) -> bool:
    """A lease is written as a list, to whose end a path was added: who does not know paths reads what is before it."""
    return len(value) == 4 and value[3] == "" and all(type(part) is int for part in value[:3])


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if value == LEFT_OUT:
        return "bytes"
    if isinstance(value, bool):
        return "yes or no"
    if isinstance(value, int | float):
        return "number"
    return {str: "text", bytes: "bytes", list: "list", dict: "map"}[type(value)]


def lost(before: Shape, now: Shape) -> list[str]:
    """What is not said any more, or is of another type, in words; one line for each key, not for what is in it."""
    found = []
    for path, kinds in sorted(before.items()):
        parent = path.rpartition(".")[0] if path.endswith("[]") is False else path[:-2]
        if path not in now:
            if parent in now or not parent:
                found.append(f"{path} is not there any more")
            continue
        other = now[path] - kinds - {"nothing"}
        if other and kinds != {"nothing"}:
            found.append(f"{path} was {' or '.join(sorted(kinds))} and is {' or '.join(sorted(now[path]))}")
    return found


def merge(shapes: list[Shape]) -> Shape:
    """Of several, one."""
    found: Shape = {}
    for shape in shapes:
        for path, kinds in shape.items():
            found.setdefault(path, set()).update(kinds)
    return found
