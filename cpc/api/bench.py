"""What takes the place of server and worker when a module is tried out: files by content, runs and jobs right here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from msgspec.structs import replace

from cpc.core import digest, manifest, plain
from cpc.core.digest import Content
from cpc.core.errors import NotFound
from cpc.core.manifest import Entry, Manifest
from cpc.core.plain import FileRef
from cpc.core.spec import Input
from cpc.dataflow import answer
from cpc.dataflow.answer import PATH, FinishedJob, StepInput

_TAIL = 20


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a Python function runs instead of a program. It may read and write files in `directory`."""

    args: tuple[str, ...]
    directory: Path
    env: Mapping[str, str]

    def text(self, path: str) -> str:
        """What one of its files says."""
        return (self.directory / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        """Write one of its files; `stdout` is one, too."""
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_text(text, encoding="utf-8")


#: How an executable runs: a command line that the job's arguments follow, or a Python function that gives the exit code.
Program: TypeAlias = Sequence[str] | Callable[[RunningJob], int | None]


class FileStore:
    """Files by their content, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, path: Path) -> Content:
        """Keep what the file holds."""
        with path.open("rb") as file:
            content = digest.of_file(file)
        kept = self._directory / content.digest.hex()
        if not kept.exists():
            shutil.copyfile(path, kept)
        return content

    def put_bytes(self, data: bytes) -> Content:
        """Keep these bytes."""
        content = digest.of_chunks([data[at : at + digest.CHUNK] for at in range(0, len(data), digest.CHUNK)])
        (self._directory / content.digest.hex()).write_bytes(data)
        return content

    def path(self, content: Content) -> Path:
        """Where a file with this content lies."""
        return self._directory / content.digest.hex()

    def local(self) -> dict[str, str]:
        """The local paths of all files, by their digests."""
        return {path.name: str(path) for path in self._directory.iterdir()}

    def keep(self, value: Any) -> Any:
        """A wire value in which files that lie somewhere are kept here, and named by their content."""
        if isinstance(value, dict):
            if PATH in value:
                return plain.wire(FileRef(value["name"], self.put(Path(value[PATH]))))
            return {name: self.keep(one) for name, one in value.items()}
        return [self.keep(one) for one in value] if isinstance(value, list) else value


class Worker:
    """Runs jobs one after the other, each in a directory of its own, as real processes or by Python functions."""

    def __init__(self, directory: Path, store: FileStore, programs: Mapping[str, Program]) -> None:
        self._directory = directory
        self._store = store
        self._programs = programs
        self.ran = 0

    def run(self, job: answer.Job, ordinal: int) -> FinishedJob:
        """Run a job to its end. NotFound when its executable is none of the programs."""
        self.ran += 1
        directory = self._directory / str(self.ran)
        directory.mkdir(parents=True)
        self._unpack(job, directory)
        code = self._execute(job, directory)
        tail = "".join((directory / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        return FinishedJob(
            ordinal=ordinal,
            job=str(self.ran),
            succeeded=code == 0,
            key=job.key,
            exit_code=code,
            reason="" if code == 0 else f"exit code {code}",
            tail="\n".join(tail.splitlines()[-_TAIL:]),
            argv=job.spec.argv,
            files=self._results(job, directory),
            directory=str(directory),
        )

    def _unpack(self, job: answer.Job, directory: Path) -> None:
        for known in job.spec.inputs:
            target = directory / known.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._store.path(known.content), target)
            target.chmod(0o755 if known.executable else 0o644)

    def _execute(self, job: answer.Job, directory: Path) -> int:
        spec = job.spec
        env = {**os.environ, **spec.env, "CPC_CORES": str(spec.need.cores)}
        program: Program = ()
        if spec.executable:
            if spec.executable not in self._programs:
                raise NotFound(
                    f"there is no program {spec.executable} to run a job with", "name it in programs={…} of the test"
                )
            program = self._programs[spec.executable]
        if callable(program):
            for name in ("stdout", "stderr"):
                (directory / name).touch()
            return program(RunningJob(spec.argv, directory, env)) or 0
        stdin = directory / spec.stdin if spec.stdin else Path(os.devnull)
        with (
            stdin.open("rb") as given,
            (directory / "stdout").open("wb") as out,
            (directory / "stderr").open("wb") as err,
        ):
            return subprocess.run(
                [*program, *spec.argv], cwd=directory, env=env, stdin=given, stdout=out, stderr=err, check=False
            ).returncode

    def _results(self, job: answer.Job, directory: Path) -> Manifest:
        given = {one.path: one.content for one in job.spec.inputs}
        entries = []
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            raw = os.fsencode(name)
            standard = name in ("stdout", "stderr")
            if path.is_file() and (standard or manifest.wanted(raw, job.spec.outputs)):
                content = self._store.put(path)
                if given.get(name) != content:  # an input that is as it was is no output
                    entries.append(Entry(raw, content=content))
        return Manifest(tuple(entries))


#: Runs the module's own Python, as the first part of a program.
PYTHON = (sys.executable,)


class Runner:
    """Carries out steps in directories of their own, with a file store and a worker."""

    def __init__(self, directory: Path, programs: Mapping[str, Program]) -> None:
        self._directory = directory = directory.absolute()
        self.store = FileStore(directory / "files")
        self.worker = Worker(directory / "jobs", self.store, programs)
        self._runs = 0

    def run(self, call: Callable[[StepInput], answer.Answer], step: StepInput) -> answer.Answer:
        """One run: `call` gets the step with its files and directories; files in the answer are kept."""
        self._runs += 1
        scratch = self._directory / "runs" / str(self._runs)
        persistent = self._directory / "persistent" / step.instance.replace(":", "_").replace(".", "_")
        for path in (scratch, persistent):
            path.mkdir(parents=True, exist_ok=True)
        step = replace(
            step,
            files=self.store.local(),
            output_dir=str(scratch),
            persistent_dir=str(persistent),
            base_dir=str(self._directory),
        )
        with contextlib.chdir(scratch):
            one = call(step)
        return replace(
            one,
            outputs=self._kept(one.outputs),
            sub_outputs=self._kept(one.sub_outputs),
            values=self._kept(one.values),
            jobs=tuple(self._stored(job) for job in one.jobs),
        )

    def finish(self, step: StepInput, one: answer.Answer) -> StepInput | None:
        """Run the jobs that a run has asked for: the next run of its step; None when it asked for none."""
        if not one.jobs:
            return None
        finished = tuple(self.worker.run(job, ordinal) for ordinal, job in enumerate(one.jobs))
        return replace(step, finished=finished, state=step.state if one.state is None else one.state)

    def _kept(self, items: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        return tuple((item, self.store.keep(value)) for item, value in items)

    def _stored(self, job: answer.Job) -> answer.Job:
        inputs = [
            Input(
                one.path,
                self.store.put(Path(one.local)) if one.local else self.store.put_bytes(one.data),
                one.executable,
            )
            for one in job.files
        ]
        return replace(job, spec=replace(job.spec, inputs=(*job.spec.inputs, *inputs)), files=())
