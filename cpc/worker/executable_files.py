"""Files that describe executables: TOML, and the original system's executable.xml.

A TOML file describes one program::

    name = "gromacs/mdrun"                  # as in a job's `executable`
    programs = ["gmx", "gmx_d"]             # the first that is in the search path becomes $PROGRAM
    command = ["$PROGRAM", "mdrun"]         # the job's arguments follow
    version = "2022.5"                      # or, to ask the program:
    version_command = ["$PROGRAM", "--version"]
    version_pattern = 'GROMACS version:\\s*(\\S+)'
    platforms = ["smp"]                     # those it can run on; this is the default
    env = { OMP_NUM_THREADS = "$NCORES" }

Variables: PROGRAM, EXECUTABLE_DIR (where the file is), NCORES, NGPUS, RUN_DIR, CMD_ID, ARCH, PLATFORM, VERSION, and the
platform's, such as MPIRUN; written $NAME or ${NAME}.
"""

from __future__ import annotations

import platform as machine
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec

from cpc.api import BadInput, Found, Search, Value, check_name, check_version, fill_all
from cpc.core.errors import Damaged

MAX_FILE = 1 << 20
MAX_DEPTH = 16
MAX_ELEMENTS = 10_000
ARCH = f"{sys.platform}_{machine.machine()}"


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML file's content."""

    name: str
    command: tuple[str, ...]
    programs: tuple[str, ...] = ()
    version: str = ""
    version_command: tuple[str, ...] = ()
    version_pattern: str = r"(\d+(?:\.\d+)+)"
    platforms: tuple[str, ...] = ("smp",)
    env: dict[str, str] = {}


def read_text(path: Path) -> str:
    """A description's text, or BadInput: unreadable, too large, not text."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise BadInput("it is larger than 1 MiB")
        return data.decode("utf-8")
    except OSError as error:
        raise BadInput(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput("it is not UTF-8 text") from None


def from_toml(path: Path, platform: str, search: Search) -> tuple[Found, ...]:
    """What the file at `path` offers for `platform`. BadInput for a file that does not make sense."""
    try:
        told = msgspec.convert(tomllib.loads(read_text(path)), Description)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise BadInput(f"it is not a description of an executable: {error}") from None
    check_name(told.name)
    if not told.command or not told.command[0]:
        raise BadInput("its command is empty")
    if bool(told.version) == bool(told.version_command):
        raise BadInput("it needs either version or version_command")
    pattern = _pattern(told.version_pattern)
    if platform not in told.platforms:
        return ()
    variables: dict[str, Value] = {"EXECUTABLE_DIR": str(path.parent), "ARCH": ARCH, "PLATFORM": platform}

    def missing(why: str) -> tuple[Found, ...]:
        return (Found(told.name, platform=platform, source=str(path), why_not=why),)

    if told.programs:
        wanted = fill_all(told.programs, variables)
        there = [found for found in map(search.which, wanted) if found]
        if not there:
            return missing(f"none of {', '.join(wanted)} is in the search path")
        variables["PROGRAM"] = there[0]
    version = told.version
    if not version:
        code, output = search.run(fill_all(told.version_command, variables))
        said = pattern.search(output)
        if code != 0 or said is None:
            lines = output.strip().splitlines() or ["nothing"]
            return missing(f"it did not tell its version: {lines[-1][:200]}")
        version = said.group(1)
    check_version(version)
    return (Found(told.name, version, platform, told.command, told.env, variables, str(path)),)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise BadInput(f"version_pattern is not a regular expression: {error}") from None
    if pattern.groups != 1:
        raise BadInput("version_pattern needs exactly one (group): the version")
    return pattern


class _Reader:
    """Elements of a small XML text as (name, attributes, parent). No DTD, so no entities of its own, is taken."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, str], int]] = []
        self._open: list[int] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH or len(self.found) >= MAX_ELEMENTS:
            raise BadInput(f"it holds more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
        self.found.append((name, attributes, self._open[-1] if self._open else -1))
        self._open.append(len(self.found) - 1)

    def end(self, name: str) -> None:
        self._open.pop()

    def doctype(self, *what: Any) -> None:
        raise BadInput("it holds a DOCTYPE, which descriptions do not need")


def _elements(text: str) -> list[tuple[str, dict[str, str], int]]:
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise BadInput(f"it is not XML: {error}") from None
    return reader.found


def from_xml(text: str, directory: Path, platform: str, source: str) -> tuple[Found, ...]:
    """What an executable.xml, or the output of an original plugin script, offers for `platform`.

    The command line is cut into arguments before variables are replaced, so a value with blanks stays one argument.
    """
    elements = _elements(text)
    if not elements or elements[0][0] not in ("executable-list", "executable"):
        raise BadInput("it is not a description of executables: its root must be <executable-list> or <executable>")
    found = []
    for index, (kind, attributes, _) in enumerate(elements):
        if kind != "executable":
            continue
        one = _from_element(attributes, [e for e in elements if e[2] == index], directory, platform, source)
        if one is not None:
            found.append(one)
    if not any(kind == "executable" for kind, _, _ in elements):
        raise BadInput("it describes no executable")
    return tuple(found)


def _from_element(
    attributes: dict[str, str],
    below: list[tuple[str, dict[str, str], int]],
    directory: Path,
    platform: str,
    source: str,
) -> Found | None:
    for needed in ("name", "platform", "version"):
        if not attributes.get(needed):
            raise BadInput(f"an <executable> has no {needed}")
    name = check_name(attributes["name"])
    if attributes["platform"] != platform:
        return None
    arch = attributes.get("arch", "")
    if arch and arch != ARCH:
        return Found(name, platform=platform, source=source, why_not=f"it is for {arch}, this is {ARCH}")
    lines = [one["cmdline"] for kind, one, _ in below if kind == "run" and one.get("cmdline")]
    if len(lines) != 1:
        raise BadInput(f"executable {name} needs one <run> with a cmdline")
    try:
        template = tuple(shlex.split(lines[0]))
    except ValueError as error:
        raise BadInput(f"the cmdline of executable {name} cannot be cut into arguments: {error}") from None
    if not template:
        raise BadInput(f"the cmdline of executable {name} is empty")
    variables: dict[str, Value] = {"EXECUTABLE_DIR": str(directory), "ARCH": ARCH}
    version = check_version(attributes["version"])
    return Found(name, version, platform, template, {}, variables, source, fills_arguments=True)


def load(path: Path, platform: str, search: Search) -> tuple[Found, ...]:
    """What the description at `path` (.toml or .xml) offers. BadInput, without the path, for a broken one."""
    try:
        if path.suffix == ".toml":
            return from_toml(path, platform, search)
        return from_xml(read_text(path), path.parent, platform, str(path))
    except (RecursionError, MemoryError):
        raise Damaged("it is nested too deeply or too large") from None
