"""The tools of GROMACS as jobs: what they have in common."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from cpc.api import BadInput, File, Job

GMX = "gromacs/gmx"
MDRUN = "gromacs/mdrun"
VERSIONS = ">=2022"
#: A variable of the server's environment that names labels: tools run on workers with these only, for example beside the server.
WHERE = "GMX_TOOLS_LABELS"
CHOICES = "choices"


def tool(
    name: str,
    arguments: Iterable[str | int | float],
    files: Mapping[str, File | bytes | None],
    *,
    options: str = "",
    choices: Iterable[str | None] = (),
) -> Job:
    """A job of `gmx NAME ARGUMENTS`. Files that are None are left out.

    `options`: more arguments, as one text. `choices`: what the tool's questions are answered with, in turn; None: not asked.
    """
    there = {path: file for path, file in files.items() if file is not None}
    answers = [one for one in choices if one is not None]
    if any("\n" in one for one in answers):
        raise BadInput(f"{answers!r}: the name of a group or energy term is one line")
    if answers:
        there[CHOICES] = "".join(f"{one}\n" for one in answers).encode()
    return Job(
        ["-quiet", name, *arguments, *shlex.split(options)],
        files=there,
        stdin=CHOICES if answers else None,
        labels=os.environ.get(WHERE, "").split(),
        name=f"gmx {name}",
    )


def place(name: str, file: File) -> str:
    """A path for `file` in a run directory: `name` with the ending that the file has, which tells GROMACS its format."""
    return name + PurePath(file.name).suffix


def beside(include: Iterable[File] | None, taken: Mapping[str, object]) -> dict[str, File]:
    """Files that a topology includes, each under its own name; BadInput when two have one name."""
    found: dict[str, File] = {}
    for file in include or ():
        if file.name in found or file.name in taken:
            raise BadInput(f"include: there are two files {file.name}", "each must have a name of its own")
        found[file.name] = file
    return found
