"""What a backup and a saved project have of a persistent directory: its files, and links that stay within it.

A link is kept as a link. It stays within when it is relative and goes up only at its beginning, and not further than to
the top: whatever lies there, and whatever that leads to, is within as well. Where it leads out, and of other things than
files, only the name is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpc.core.errors import BadInput
from cpc.core.manifest import safe_path

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Content:
    """Of a directory: files as (path, file, size), links as (path, target), and the paths of what cannot be kept."""

    files: tuple[tuple[str, Path, int], ...]
    links: tuple[tuple[str, str], ...]
    left: tuple[str, ...]


def content(directory: Path) -> Content:
    """All that is below a directory, in order."""
    files: list[tuple[str, Path, int]] = []
    links: list[tuple[str, str]] = []
    left: list[str] = []
    for path, file in _below(directory):
        if file.is_symlink():
            target = os.readlink(file)
            if stays(path, target):
                links.append((path, target))
            else:
                left.append(path)
        elif file.is_file():
            files.append((path, file, file.stat().st_size))
        elif not file.is_dir():
            left.append(path)
    return Content(tuple(files), tuple(links), tuple(left))


def left_out(directory: Path) -> tuple[str, ...]:
    """The paths of what neither a backup nor a saved project would have."""
    return content(directory).left


def words(left: Sequence[str]) -> str:
    """What is left out, for people; "" when that is nothing."""
    if not left:
        return ""
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    verb = "is" if len(left) == 1 else "are"
    return f"{', '.join(left[:MOST_NAMED])}{more} {verb} no file, nor a link that stays within its directory"


def stays(path: str, target: str) -> bool:
    """Whether a link at `path` below a directory stays within it, whatever else lies there."""
    up = path.count("/")
    parts = target.split("/")
    while parts and parts[0] == "..":
        parts.pop(0)
        up -= 1
    try:
        return up >= 0 and (not parts or bool(safe_path(os.fsencode("/".join(parts)))))
    except BadInput:
        return False


def make(directory: Path, links: Iterable[tuple[str, str]]) -> None:
    """Make links, (path, target), when all files are there. BadInput names one that leads out, or is in another's way."""
    made: set[str] = set()
    for path, target in links:
        safe_path(os.fsencode(path))
        above = path.split("/")
        if not stays(path, target):
            raise BadInput(f"the link {path[:200]!r} leads out of its directory")
        if any("/".join(above[:size]) in made for size in range(1, len(above))):
            raise BadInput(f"{path[:200]!r} lies behind a link")
        place = directory / path
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.symlink(target, place)
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"{path[:200]!r} is there twice") from error
        made.add(path)


def _below(directory: Path) -> Iterator[tuple[str, Path]]:
    for where, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files + names):
            file = Path(where, name)
            yield str(file.relative_to(directory)), file
