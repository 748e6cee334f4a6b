"""Executables: named, versioned programs that a worker announces. Entry point group `cpc.executables.v1`.

An entry point is a subclass of `Executable`. Simple programs need no Python: a TOML file does (see
`cpc.worker.executable_files`).
"""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from cpc.api.variables import Value, fill, fill_all
from cpc.core.errors import BadInput

_NAME = re.compile(r"[^\W_][\w.+-]{0,63}(/[^\W_][\w.+-]{0,63}){0,4}")
_VERSION = re.compile(r"[vV]?\d[\w.+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """A program that this worker can start, or, with `why_not`, one that it cannot.

    `template`: the command line, argument by argument, with variables; a job's own arguments follow it. `env`: added to
    the job's environment, with variables too. `source`: the file or package that described it.
    """

    name: str
    version: str = ""
    platform: str = "smp"
    template: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Value] = field(default_factory=dict)
    source: str = ""
    why_not: str = ""
    fills_arguments: bool = False  # replace variables in the job's arguments too, as original executable.xml files do

    def all_variables(self, variables: Mapping[str, Value]) -> dict[str, Value]:
        """`variables` of the attempt with this program's own."""
        return {"VERSION": self.version, "PLATFORM": self.platform, **self.variables, **variables}

    def command(self, args: Sequence[str], variables: Mapping[str, Value]) -> tuple[str, ...]:
        """The whole command line for a job's `args`, each of which stays one argument."""
        known = self.all_variables(variables)
        own = fill_all(self.template, known)
        return own + (fill_all(args, known) if self.fills_arguments else tuple(args))

    def environment(self, variables: Mapping[str, Value]) -> dict[str, str]:
        """What to add to the job's environment."""
        known = self.all_variables(variables)
        return {name: fill(value, known) for name, value in self.env.items()}


class Search(Protocol):
    """How programs are looked for; handed to executables, so that tests can look elsewhere."""

    def which(self, program: str) -> str | None:
        """The path of a program in the search path, or None."""

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """(exit code, what it printed to stdout and stderr); −1 and the reason when it cannot run or takes too long."""

    def pythons(self) -> tuple[str, ...]:
        """Python interpreters: those of the search path first, then the worker's own."""


class Executable(abc.ABC):
    """Finds one program. Version 1 of this interface."""

    name: ClassVar[str]

    @abc.abstractmethod
    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """The program for `platform`: one Found per version, or one that says `why_not`; nothing at all when this
        platform is none of its business. Called in a thread, beside those of other executables."""


def check_name(name: str) -> str:
    """`name` if it can be an executable's name (`gromacs/mdrun`), else BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name[:80]!r} cannot be the name of an executable", "use words like gromacs/mdrun")
    return name


def check_version(version: str) -> str:
    """`version` if it can be compared, else BadInput."""
    if not _VERSION.fullmatch(version):
        raise BadInput(f"{version[:80]!r} is not a version", "use numbers like 2022.5")
    return version
