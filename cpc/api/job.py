"""Jobs as module authors write them down, and as they come back when they have ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from cpc.api.file import File
from cpc.core.digest import EMPTY, Content
from cpc.core.errors import BadInput, NotFound
from cpc.core.plain import FileRef
from cpc.core.resources import Amounts, parse_size, parse_span
from cpc.core.spec import Input, JobSpec, check
from cpc.dataflow import answer

#: What can be put into a job's run directory: a file, or what it is to hold.
Source: TypeAlias = File | os.PathLike[str] | bytes

_NOTHING = Content(EMPTY, 0)


@dataclass(frozen=True, slots=True)
class Job:
    """One command for a worker.

    With `executable` (`gromacs/mdrun`), `args` are the arguments of this program, as workers announce it; without, they are the
    whole command. `files` maps paths in the run directory to a `File`, a path, or bytes to write there. `outputs`
    and `checkpoint` are patterns of paths. `memory` is bytes or `"4G"`, `walltime` seconds or `"2h"`. None: the default of
    `@command`, or else of every job: one core, no limit, all files come back.
    """

    args: Sequence[str | int | float | os.PathLike[str]] = ()
    executable: str | None = None
    files: Mapping[str, Source] | None = None
    outputs: Sequence[str] | None = None
    cores: int | None = None
    max_cores: int | None = None
    gpus: int | None = None
    memory: int | str | None = None
    other: Mapping[str, int] | None = None
    walltime: float | str | None = None
    priority: int | None = None
    versions: str | None = None
    labels: Sequence[str] | None = None
    checkpoint: Sequence[str] | None = None
    env: Mapping[str, str] | None = None
    stdin: str | None = None
    name: str | None = None
    max_failures: int | None = None
    max_losses: int | None = None

    def over(self, defaults: Job) -> Job:
        """This job, with what it does not say taken from `defaults`."""
        missing = {
            one.name: getattr(defaults, one.name)
            for one in fields(self)
            if one.name != "args" and getattr(self, one.name) is None
        }
        return replace(self, **missing)


def ask(job: Job, key: str) -> answer.Job:
    """The job as it stands in an answer; BadInput that names what is wrong with it."""
    known, local = _files(job.files or {})
    placeholders = tuple(Input(one.path, _NOTHING, one.executable) for one in local)
    spec = check(_spec(job, (*known, *placeholders)))
    return answer.Job(msgspec.structs.replace(spec, inputs=known), key, local)


def _spec(job: Job, inputs: tuple[Input, ...]) -> JobSpec:
    need = Amounts(
        cores=job.cores or 1,
        gpus=job.gpus or 0,
        memory=parse_size(job.memory) if isinstance(job.memory, str) else job.memory or 0,
        other=dict(job.other or {}),
    )
    given: dict[str, Any] = {
        "outputs": _patterns(job.outputs),
        "checkpoint": _patterns(job.checkpoint),
        "labels": _patterns(job.labels),
        "max_failures": job.max_failures,
        "max_losses": job.max_losses,
    }
    return JobSpec(
        name=job.name or "",
        executable=job.executable or "",
        argv=tuple(_argument(one) for one in job.args),
        env=dict(job.env or {}),
        stdin=job.stdin or "",
        inputs=inputs,
        need=need,
        max_cores=job.max_cores or 0,
        walltime=parse_span(job.walltime) if isinstance(job.walltime, str) else job.walltime or 0.0,
        priority=job.priority or 0,
        versions=job.versions or "",
        **{name: value for name, value in given.items() if value is not None},
    )


def _patterns(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(texts, str):
        raise BadInput(f"{texts!r} stands where a list of texts belongs", f"write [{texts!r}]")
    return None if texts is None else tuple(texts)


def _argument(one: str | int | float | os.PathLike[str]) -> str:
    return os.fspath(one) if isinstance(one, os.PathLike) else str(one)


def _files(given: Mapping[str, Source]) -> tuple[tuple[Input, ...], tuple[answer.LocalInput, ...]]:
    known: list[Input] = []
    local: list[answer.LocalInput] = []
    for path, source in given.items():
        if isinstance(source, bytes):
            local.append(answer.LocalInput(path, data=source))
        elif isinstance(source, File) and source.ref is not None:
            known.append(Input(path, source.ref.content))
        elif isinstance(source, os.PathLike):
            local.append(_on_disk(path, Path(source).absolute()))
        else:
            raise BadInput(
                f"job file {path}: a {type(source).__name__} is no file", "give a File, a pathlib.Path, or bytes"
            )
    return tuple(known), tuple(local)


def _on_disk(path: str, local: Path) -> answer.LocalInput:
    if not local.is_file():
        raise NotFound(f"job file {path}: there is no file {local}")
    return answer.LocalInput(path, str(local), executable=os.access(local, os.X_OK))


class Finished:
    """A job that has ended. `key` is what the function called it; `job` its public id, as in `cpcc job`.

    `succeeded` tells how; `exit_code` is None when it never came to an end of its own, `reason` says why it failed and
    `tail` is the end of what it printed. Its files lie in `directory`, `stdout` and `stderr` among them; read-only.
    """

    def __init__(self, told: answer.FinishedJob) -> None:
        self.key = told.key
        self.ordinal = told.ordinal
        self.job = told.job
        self.succeeded = told.succeeded
        self.exit_code = told.exit_code
        self.reason = told.reason
        self.tail = told.tail
        self.args = told.argv
        self.cpu_seconds = told.cpu_seconds
        self.directory = Path(told.directory)
        self._contents = {os.fsdecode(entry.path): content for entry, content in told.files.files()}

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of its files."""
        return tuple(self._contents)

    def has(self, path: str) -> bool:
        """Whether it left this file."""
        return path in self._contents

    def file(self, path: str) -> File:
        """One of its files; NotFound when it left none there."""
        content = self._contents.get(path)
        if content is None:
            raise NotFound(f"job {self.job} left no file {path}", f"it left {', '.join(self._contents) or 'nothing'}")
        return File(self.directory / path, ref=FileRef(Path(path).name, content))

    def text(self, path: str = "stdout") -> str:
        """What one of its files says; what is no UTF-8 in it is replaced."""
        return self.file(path).path.read_text(encoding="utf-8", errors="replace")

    def failure(self) -> str:
        """Why it failed, with the end of what it printed, for people."""
        said = f"job {self.job} failed: {self.reason or f'exit code {self.exit_code}'}"
        return f"{said}\n{self.tail.rstrip()}" if self.tail.strip() else said
