"""Programs that are controllers: started for each run, XML in, XML out, as the original had them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cpc.controller.original import running
from cpc.controller.original.command import Command, jobs
from cpc.controller.original.values import Files
from cpc.core.errors import CopernicusError, NotFound, TooLarge
from cpc.dataflow import external
from cpc.dataflow.answer import PATH, Answer, FinishedJob, StepInput
from cpc.dataflow.code import Code
from cpc.dataflow.elements import MAX_TEXT


class Failed(CopernicusError):
    """The program did not end as it should; with what it printed."""


def run(code: Code, step: StepInput) -> Answer:
    """One run: once for fresh inputs, or for each command that has ended, one after the other."""

    def call(files: Files, ended: Command | None) -> Answer:
        answer, commands = external.read(_execute(code, external.write(step, code.trees, _told(ended))))

        def known(items: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
            return tuple((item, _placed(value, files)) for item, value in items)

        return replace(
            answer,
            outputs=known(answer.outputs),
            sub_outputs=known(answer.sub_outputs),
            values=known(answer.values),
            jobs=jobs([_command(one) for one in commands], step, files, ended),
        )

    return running.carry_out(step, call)


def _told(ended: Command | None) -> FinishedJob | None:
    if ended is None:
        return None
    return FinishedJob(
        ordinal=0,
        job=ended.id,
        succeeded=ended.returncode == 0,
        exit_code=ended.returncode,
        argv=tuple(ended.args),
        cpu_seconds=ended.cputime,
        directory=ended.dir,
    )


def _placed(value: Any, files: Files) -> Any:
    """The value with its files as an answer has them; the program wrote paths from where it ran."""
    if isinstance(value, dict):
        return files.wire(value[PATH]) if PATH in value else {name: _placed(one, files) for name, one in value.items()}
    return [_placed(one, files) for one in value] if isinstance(value, list) else value


def _command(asked: external.Command) -> Command:
    command = Command(
        os.path.abspath(asked.directory),
        asked.executable,
        asked.args,
        addPriority=asked.priority,
        minVersion=asked.min_version,
        maxVersion=asked.max_version,
        env=asked.env,
        outputFiles=asked.output_files or None,
    )
    command.minRequired.update(asked.least)
    command.maxAllowed.update(asked.most)
    return command


def check(code: Code) -> None:
    """Run the program with an empty input, as the original did when its module was imported."""
    with tempfile.TemporaryDirectory() as scratch:
        step = StepInput("", "", code.function, 0, output_dir=scratch)
        _execute(code, external.write(step, code.trees, None), scratch)


def _execute(code: Code, given: str, cwd: str | None = None) -> str:
    """What the program prints. Its stderr goes where this process's own does: into the instance's log."""
    program = Path(code.directory) / code.controller.executable
    if not os.access(program, os.X_OK) or program.is_dir():
        raise NotFound(f"{program} is no program that can be run", "it lies beside the module's file, executable")
    with tempfile.TemporaryFile() as stderr:
        done = subprocess.run(
            [program], input=given.encode(), stdout=subprocess.PIPE, stderr=stderr, cwd=cwd, check=False
        )
        stderr.seek(0)
        said = stderr.read(MAX_TEXT).decode("utf-8", "replace")
    print(said, end="", file=sys.stderr)
    printed = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise Failed("\n".join(filter(None, (f"{program.name} ended with {ended}", printed.strip(), said.strip()))))
    if len(printed) > MAX_TEXT:
        raise TooLarge(f"{program.name} printed more than {MAX_TEXT >> 20} MiB")
    return printed
