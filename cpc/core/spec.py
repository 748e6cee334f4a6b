"""What a user asks for: one job, or an array of jobs that share one description."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from cpc.core import ids, names, versions
from cpc.core.digest import Content
from cpc.core.errors import BadInput, TooLarge
from cpc.core.manifest import safe_path
from cpc.core.resources import Amounts

MAX_TEXT = 1 << 20
MAX_TABLE = 16 << 20
MAX_INPUTS = 10_000
MAX_CHUNKS = 100_000  # in all inputs together: a task with its inputs must fit one frame
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file placed in the run directory before the start. `path` relative; `executable` sets the x bits."""

    path: str
    content: Content
    executable: bool = False


class Dependency(msgspec.Struct, frozen=True, omit_defaults=True):
    """Wait for `job` (`57`, an array's every element; `57[3]`, one). `pairwise`: element i waits for element i only."""

    job: str
    on: Literal["success", "end"] = "success"
    pairwise: bool = False


class Table(msgspec.Struct, frozen=True):
    """Parameters of an array, from a CSV: element i gets `rows[i]`, as variables and as `{column}` in the arguments."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One command for a worker.

    Either `executable` names an announced program (`gromacs/mdrun`) and `argv` are its arguments, or `argv` is the whole
    command. `need` is the least it can run with (cores ≥ 1; memory in bytes); `max_cores` the most it can use (0: just
    `need.cores`). `walltime` in seconds, 0 = unlimited. `versions` as in `cpc.core.versions`. `labels` must all be on the
    worker. `outputs` and `checkpoint` are path patterns. `max_failures` failures end the job; so do `max_losses`
    attempts that ended with their worker lost.
    """

    name: str = ""
    executable: str = ""
    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    stdin: str = ""  # path of an input to read standard input from
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ("**",)
    need: Amounts = Amounts(cores=1)
    max_cores: int = 0
    walltime: float = 0.0
    priority: int = 0
    versions: str = ""
    labels: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    max_failures: int = 1
    max_losses: int = 5
    after: tuple[Dependency, ...] = ()
    array: int = 0  # 0: a single job; n ≥ 1: elements 0…n−1, told apart by CPC_INDEX and {index}
    table: Table | None = None

    @property
    def size(self) -> int:
        """How many jobs this makes."""
        return max(1, self.array)


def check(spec: JobSpec) -> JobSpec:
    """The spec with its names cleaned, or BadInput that names the field and the value."""
    if not spec.executable and not spec.argv:
        raise BadInput("the job has no command", "give an argv or an executable")
    texts = [*spec.argv, *spec.env.values(), *spec.outputs, *spec.checkpoint]
    if any("\0" in text for text in texts):
        raise BadInput("a NUL character cannot be in an argument, variable or pattern")
    if sum(len(text) for text in texts) > MAX_TEXT:
        raise TooLarge("arguments, environment and patterns are longer than 1 MiB together", "send them as a file")
    for name in spec.env:
        if not _VARIABLE.fullmatch(name):
            raise BadInput(f"{name[:80]!r} cannot be an environment variable")
    _check_numbers(spec)
    _check_files(spec)
    for label in spec.labels:
        names.clean(label, "label")
    versions.check(spec.versions)
    if spec.versions and not spec.executable:
        raise BadInput("a version range needs an executable to apply to")
    for dependency in spec.after:
        ids.read(dependency.job)
    if spec.table is not None:
        _check_table(spec, spec.table)
    if len(spec.name) > 200 or not spec.name.isprintable():
        raise BadInput("the job's name is longer than 200 characters or holds control characters")
    return spec


def _check_numbers(spec: JobSpec) -> None:
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("need.cores", spec.need.cores, 1, 1 << 20),
        ("need.gpus", spec.need.gpus, 0, 1 << 16),
        ("need.memory", spec.need.memory, 0, 1 << 60),
        ("max_cores", spec.max_cores, 0, 1 << 20),
        ("walltime", spec.walltime, 0, 10 * 366 * 86400),
        ("priority", spec.priority, -30, 30),
        ("max_failures", spec.max_failures, 1, 10_000),
        ("max_losses", spec.max_losses, 1, 10_000),
        ("array", spec.array, 0, ids.MAX_ARRAY - 1),
        *((f"need.other.{name}", amount, 1, 1 << 60) for name, amount in spec.need.other.items()),
    )
    for field, value, low, high in limits:
        if not low <= value <= high:
            raise BadInput(f"{field} = {value} is not between {low} and {high}")
    if spec.max_cores and spec.max_cores < spec.need.cores:
        raise BadInput(f"max_cores = {spec.max_cores} is less than need.cores = {spec.need.cores}")


def _check_files(spec: JobSpec) -> None:
    if len(spec.inputs) > MAX_INPUTS:
        raise TooLarge(f"{len(spec.inputs)} inputs; at most {MAX_INPUTS} are taken", "pack them into an archive")
    if sum(len(entry.content.chunks) for entry in spec.inputs) > MAX_CHUNKS:
        raise TooLarge("the inputs hold more than 400 GB together", "have the job read them from a shared disk")
    paths = [entry.path for entry in spec.inputs]
    if len(set(paths)) != len(paths):
        raise BadInput("two inputs have the same path")
    for entry in spec.inputs:
        safe_path(entry.path.encode("utf-8", "surrogateescape"))
        entry.content.check()
    if spec.stdin and spec.stdin not in paths:
        raise BadInput(f"stdin {spec.stdin!r} is not one of the inputs", "add it to the inputs")


def _check_table(spec: JobSpec, table: Table) -> None:
    if len(table.rows) != spec.array:
        raise BadInput(f"the table has {len(table.rows)} rows, the array {spec.array} elements")
    for column in table.columns:
        if not _VARIABLE.fullmatch(column) or column == "index":
            raise BadInput(f"{column[:80]!r} cannot be a column", "columns become variables: letters, digits, '_'")
    if len(set(table.columns)) != len(table.columns):
        raise BadInput("two columns have the same name")
    if any(len(row) != len(table.columns) for row in table.rows):
        raise BadInput("a row has more or fewer fields than there are columns")
    if sum(len(text) for row in table.rows for text in row) > MAX_TABLE:
        raise TooLarge("the table holds more than 16 MiB of text", "send it as an input file")


def element_values(spec: JobSpec, index: int) -> dict[str, str]:
    """What sets element `index` apart: `index` and its table row. Empty for a single job."""
    if not spec.array:
        return {}
    values = {"index": str(index)}
    if spec.table is not None:
        values.update(zip(spec.table.columns, spec.table.rows[index], strict=True))
    return values


_BRACED = re.compile(r"\{(\w+)\}")


def fill(text: str, values: dict[str, str]) -> str:
    """`text` with `{name}` replaced where `name` is one of the values; other braces stay as they are."""
    if not values or "{" not in text:
        return text
    return _BRACED.sub(lambda found: values.get(found.group(1), found.group(0)), text)


def unfilled(spec: JobSpec) -> tuple[str, ...]:
    """Of an array: words in braces that stay as they are, because they are neither `index` nor a column. In their order."""
    known = element_values(spec, 0)
    if not known:
        return ()
    found = (word for text in (*spec.argv, *spec.env.values()) for word in _BRACED.findall(text))
    return tuple(dict.fromkeys(word for word in found if word not in known))
