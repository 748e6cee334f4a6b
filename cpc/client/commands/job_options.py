"""The options that describe a job, for `submit` and `run`, and what they make."""

from __future__ import annotations

import csv
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cpc.core.errors import BadInput, TooLarge
from cpc.core.numbers import PRIORITY, Whole
from cpc.core.reading import UNREADABLE

if TYPE_CHECKING:
    from cpc.core.spec import Dependency, JobSpec, Table

F = TypeVar("F", bound=Callable[..., Any])

MAX_TEXT = 32 << 20  # what the server takes in one call


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be sent: where it is here, and where the job finds it."""

    source: Path
    path: str
    executable: bool


class JobCommand(click.Command):
    """`--` stands before the job's own command, so that none of its arguments is taken for ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own: list[str] = args
        words: list[str] = []
        if "--" in args:
            place = args.index("--")
            own, words = args[:place], args[place + 1 :]
        parsed = super().parse_args(ctx, [*own, "--", *words])
        given: tuple[str, ...] = ctx.params.get("argv") or ()
        if not ctx.resilient_parsing and len(given) > len(words):
            stray = given[0]
            raise click.UsageError(
                f"put -- before the job's command: cpcc {self.name} [OPTIONS] -- {stray} …"
                if not words
                else f"{stray!r} is not an option of {self.name}; the job's command follows --",
                ctx,
            )
        return parsed


_OPTIONS = (
    click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND..."),
    click.option("--name", help="What to call it."),
    click.option("--array", type=Whole(1), help="Make so many jobs, told apart by CPC_INDEX and {index}."),
    click.option("--from-csv", metavar="FILE", help="An array: a job for each row; {COLUMN} becomes its value."),
    click.option("-n", "--cores", type=Whole(1), help="The least cores that it can run with."),
    click.option("--max-cores", type=Whole(1), help="The most cores that it can use."),
    click.option("--gpus", type=Whole(0), help="GPUs."),
    click.option("--memory", metavar="SIZE", help="Memory, for example 4G."),
    click.option("--need", multiple=True, metavar="NAME=N", help="Something else that workers have amounts of."),
    click.option("--walltime", metavar="TIME", help="The longest that it may run, for example 2h."),
    click.option("--priority", type=PRIORITY, help="-30 to 30; higher comes first."),
    click.option("--executable", metavar="NAME", help="A program that workers announce; COMMAND is its arguments."),
    click.option("--versions", metavar="RANGE", help="Versions of it, for example '>=2022,<2024'."),
    click.option("--label", multiple=True, help="A label that the worker must have."),
    click.option("--input", "inputs", multiple=True, metavar="FILE[:PATH]", help="A file or directory to send along."),
    click.option("--output", "outputs", multiple=True, metavar="PATTERN", help="What to keep; all, if left out."),
    click.option("--checkpoint", multiple=True, metavar="PATTERN", help="Files to go on from after an interruption."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="An environment variable."),
    click.option("--stdin", "stdin_file", metavar="FILE", help="A file for its standard input."),
    click.option("--after", multiple=True, metavar="JOB", help="Wait until JOB has succeeded."),
    click.option("--after-end", multiple=True, metavar="JOB", help="Wait until JOB has ended, however."),
    click.option("--pairwise", is_flag=True, help="Element i waits only for element i of those arrays."),
    click.option("--max-failures", type=Whole(1), help="So many failures end it; 1 if left out."),
    click.option("--max-losses", type=Whole(1), help="So many lost workers end it; 5 if left out."),
    click.option("--spec", metavar="FILE", help="A description in JSON, as the API takes it; other options change it."),
)


def job_options(function: F) -> F:
    """All of them; the command gets them as keyword arguments for `describe`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def describe(given: dict[str, Any]) -> tuple[JobSpec, list[LocalFile]]:
    """The spec without its files, and those files. BadInput for what cannot be read."""
    import msgspec

    from cpc.core.resources import parse_size, parse_span
    from cpc.core.spec import JobSpec

    spec = _from_file(given["spec"]) if given["spec"] else JobSpec()
    fields = {
        "name": given["name"], "array": given["array"], "max_cores": given["max_cores"],
        "priority": given["priority"], "executable": given["executable"], "versions": given["versions"],
        "max_failures": given["max_failures"], "max_losses": given["max_losses"],
        "argv": given["argv"] or None, "labels": given["label"] or None, "outputs": given["outputs"] or None,
        "checkpoint": given["checkpoint"] or None,
        "walltime": parse_span(given["walltime"]) if given["walltime"] else None,
        "env": {**spec.env, **_pairs("--env", given["env"])} if given["env"] else None,
        "after": (*spec.after, *_dependencies(given)) or None,
    }  # fmt: skip
    need = {
        "cores": given["cores"], "gpus": given["gpus"],
        "memory": parse_size(given["memory"]) if given["memory"] else None,
        "other": {**spec.need.other, **_amounts(given["need"])} if given["need"] else None,
    }  # fmt: skip
    if given["from_csv"]:
        if given["array"]:
            raise click.UsageError("--array and --from-csv exclude each other: the table says how many jobs there are")
        table = read_table(given["from_csv"])
        fields["array"], fields["table"] = len(table.rows), table
    files = list(_files(given["inputs"]))
    if given["stdin_file"]:
        fields["stdin"] = _stdin(given["stdin_file"], files)
    replace = msgspec.structs.replace
    spec = replace(spec, need=replace(spec.need, **_set(need)), **_set(fields))
    if not spec.argv and not spec.executable:
        raise click.UsageError("there is no command for the job: put it after --")
    return spec, files


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _from_file(name: str) -> JobSpec:
    import msgspec

    from cpc.core.spec import JobSpec

    try:
        return msgspec.json.decode(_read(name), type=JobSpec)
    except UNREADABLE as error:
        raise BadInput(f"{name} is not a description of a job: {str(error).replace('`', chr(39))}") from None


def _read(name: str) -> bytes:
    try:
        if name == "-":
            found = sys.stdin.buffer.read(MAX_TEXT + 1)
        else:
            with open(name, "rb") as file:
                found = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise BadInput(f"cannot read {name}: {error.strerror}") from error
    if len(found) > MAX_TEXT:
        raise TooLarge(f"{name} has more than {MAX_TEXT >> 20} MiB", "send it as an input file")
    return found


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {text!r}: write NAME=VALUE")
        found[name] = value
    return found


def _amounts(given: Sequence[str]) -> dict[str, int]:
    found = {}
    for name, value in _pairs("--need", given).items():
        if not value.isascii() or not value.isdigit():
            raise click.UsageError(f"--need {name}={value}: the amount is a whole number")
        found[name] = int(value)
    return found


def _dependencies(given: dict[str, Any]) -> list[Dependency]:
    from cpc.core.spec import Dependency

    if given["pairwise"] and not (given["after"] or given["after_end"]):
        raise click.UsageError("--pairwise goes with --after or --after-end")
    return [
        *(Dependency(job, "success", given["pairwise"]) for job in given["after"]),
        *(Dependency(job, "end", given["pairwise"]) for job in given["after_end"]),
    ]


# --- the table ---


def read_table(name: str) -> Table:
    """A CSV: the first row names the columns, every other one is an element of the array."""
    from cpc.core.spec import Table

    try:
        text = _read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, tuple(row)) for row in reader if row]
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: {error}") from None
    if len(lines) < 2:
        raise BadInput(f"{name} holds no rows", "the first line names the columns, every other one makes a job")
    columns = tuple(column.strip() for column in lines[0][1])
    for line, row in lines[1:]:
        if len(row) != len(columns):
            raise BadInput(f"{name}, line {line}: {len(row)} fields where the header has {len(columns)}")
    return Table(columns, tuple(row for _, row in lines[1:]))


# --- files ---


def _files(given: Sequence[str]) -> Iterator[LocalFile]:
    for text in given:
        source, path = _source(text)
        if not source.is_dir():
            yield _file(source, path or source.name)
            continue
        top = "" if path == "." else path or source.resolve().name
        for found in _below(source):
            inner = found.relative_to(source).as_posix()
            yield _file(found, f"{top}/{inner}" if top else inner)


def _source(text: str) -> tuple[Path, str]:
    """FILE or FILE:PATH; a colon in the name of a file that is there belongs to the name."""
    if not os.path.lexists(text) and ":" in text:
        name, _, path = text.rpartition(":")
        return Path(name), path.rstrip("/") or "."
    return Path(text), ""


def _below(top: Path) -> Iterator[Path]:
    """All files in a directory, in a fixed order. Links are followed, but never in a circle."""
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from error

    for place, directories, names in os.walk(top, onerror=fail, followlinks=True):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:
            directories.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        directories.sort()
        yield from (Path(place) / name for name in sorted(names))


def _file(source: Path, path: str) -> LocalFile:
    try:
        found = os.stat(source)
    except OSError as error:
        raise BadInput(f"cannot read {source}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"cannot send {source}: it is not a file")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadInput(
            f"the name of {os.fsencode(source)!r} is not UTF-8", "rename it, or name it with FILE:PATH"
        ) from None
    return LocalFile(source, path, bool(found.st_mode & stat.S_IXUSR))


def _stdin(name: str, files: list[LocalFile]) -> str:
    """The path of the job's standard input, which is one of its files."""
    source = Path(name)
    for file in files:
        if file.source == source:
            return file.path
    if any(file.path == source.name for file in files):
        raise BadInput(f"there is another input with the name {source.name}", "give one of them another: FILE:PATH")
    files.append(_file(source, source.name))
    return source.name
