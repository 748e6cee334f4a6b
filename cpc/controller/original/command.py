"""The original's commands: what module code asks a worker for, and gets back."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from cpc.controller.original.values import Files
from cpc.core.plain import FileRef
from cpc.core.resources import Amounts
from cpc.core.spec import Input, JobSpec, check
from cpc.dataflow.answer import FinishedJob, Job, LocalInput, StepInput

_ALL_CORES = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """A command's directory, from run to run: `path` below the persistent directory (`base` "persistent") or the output
    directory ("output"); with `base` "" nobody has promised that it stays."""

    id: str
    base: str
    path: str


class Command:
    """A command for a worker, as the original has it: the whole content of directory `dir` goes there, and results come back
    over it.

    Its arguments are joined with blanks and split again by the rules of a shell. `minRequired` and `maxAllowed` are dicts
    of whole numbers (`cores`, `gpus`, `memory` in bytes); without a maximum of cores it takes what is free.
    """

    def __init__(
        self,
        dir: str,
        executable: str,
        args: Sequence[object] = (),
        addPriority: int = 0,
        minVersion: str | None = None,
        maxVersion: str | None = None,
        env: Mapping[str, str] | None = None,
        outputFiles: Sequence[str] | None = None,
    ) -> None:
        self.dir = dir
        self.executable = executable
        self.args = [str(one) for one in args]
        self.addPriority = addPriority
        self.minVersion = minVersion
        self.maxVersion = maxVersion
        self.env = dict(env or {})
        self.outputFiles = outputFiles
        self.minRequired: dict[str, int] = {"cores": 1}
        self.maxAllowed: dict[str, int] = {}
        self.id = ""
        self.returncode: int | None = None
        self.cputime = 0.0

    def getDir(self) -> str:
        """Its directory, with the files that came back, `stdout` and `stderr` among them."""
        return self.dir

    def getExecutable(self) -> str:
        """The name of its executable."""
        return self.executable

    def getArgs(self) -> list[str]:
        """Its arguments."""
        return self.args

    def getReturncode(self) -> int | None:
        """The exit code; None when the command was lost, not ended."""
        return self.returncode

    def getCputime(self) -> float:
        """CPU seconds that it has used."""
        return self.cputime


def jobs(commands: Sequence[Command], step: StepInput, files: Files, ended: Command | None) -> tuple[Job, ...]:
    """The commands as jobs of this network. `ended`: the one whose end has caused them."""
    for number, command in enumerate(commands):
        seed = f"{step.project}/{step.instance}/{step.number}/{'' if ended is None else ended.id}/{number}"
        command.id = command.id or hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
    return tuple(_job(command, step, files) for command in commands)


def _job(command: Command, step: StepInput, files: Files) -> Job:
    base, path = _place(os.path.realpath(command.dir), step)
    inputs: list[Input] = []
    local: list[LocalInput] = []
    for name, place in _content(command.dir):
        executable = os.access(place, os.X_OK)
        ref = files.known(place)
        if ref is not None:
            inputs.append(Input(name, ref.content, executable))
        else:
            local.append(LocalInput(name, place, executable=executable))
    spec = JobSpec(
        executable=command.executable,
        argv=tuple(shlex.split(" ".join(command.args))),
        env=command.env,
        inputs=tuple(inputs),
        outputs=("**",) if command.outputFiles is None else tuple(command.outputFiles),
        need=_amounts(command.minRequired),
        max_cores=command.maxAllowed.get("cores", _ALL_CORES),
        priority=max(-30, min(30, command.addPriority)),
        versions=_versions(command),
    )
    return Job(check(spec), msgspec.json.encode(Place(command.id, base, path)).decode(), tuple(local))


def finished(told: FinishedJob, step: StepInput, files: Files) -> Command:
    """A command that has ended: what came back lies over what was in its directory."""
    place = msgspec.json.decode(told.key, type=Place)
    base = {"persistent": step.persistent_dir, "output": step.output_dir}.get(place.base, "")
    directory = told.directory
    if base:
        directory = os.path.join(base, place.path)
        os.makedirs(directory, exist_ok=True)
    for entry, content in told.files.files():
        name = os.fsdecode(entry.path)
        source, target = os.path.join(told.directory, name), os.path.join(directory, name)
        if source != target:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
        else:
            files.learn(target, FileRef(os.path.basename(name), content))
    command = Command(directory, "", told.argv)
    command.id = place.id
    command.returncode = told.exit_code
    command.cputime = told.cpu_seconds
    return command


def _place(directory: str, step: StepInput) -> tuple[str, str]:
    for base, path in (("persistent", step.persistent_dir), ("output", step.output_dir)):
        if path and os.path.commonpath((os.path.realpath(path), directory)) == os.path.realpath(path):
            return base, os.path.relpath(directory, os.path.realpath(path))
    return "", ""


def _content(directory: str) -> Iterator[tuple[str, str]]:
    """All files below a directory: (relative path, path)."""
    for parent, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, directory), os.path.abspath(path)


def _amounts(given: Mapping[str, int]) -> Amounts:
    other = {name: amount for name, amount in given.items() if name not in ("cores", "gpus", "memory")}
    return Amounts(cores=given.get("cores", 1), gpus=given.get("gpus", 0), memory=given.get("memory", 0), other=other)


def _versions(command: Command) -> str:
    limits = ((">=", command.minVersion), ("<=", command.maxVersion))
    return ",".join(f"{operator}{version}" for operator, version in limits if version)
