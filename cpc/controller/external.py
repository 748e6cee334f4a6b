"""Programs that are controllers: started for each run, XML in, XML out, as the original had them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cpc.controller.external_xml import function_input, function_output
from cpc.controller.original import running
from cpc.controller.original.command import Command
from cpc.controller.original.function_output import FunctionOutput
from cpc.controller.original.values import Files
from cpc.core.errors import CopernicusError, NotFound, TooLarge
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code
from cpc.dataflow.elements import MAX_TEXT


class Failed(CopernicusError):
    """The program did not end as it should; with what it printed."""


def run(code: Code, step: StepInput) -> Answer:
    """One run: once for fresh inputs, or for each command that has ended, one after the other."""

    def call(files: Files, ended: Command | None) -> FunctionOutput:
        return function_output(_execute(code, function_input(step, code.trees, files, ended)))

    return running.carry_out(step, call)


def check(code: Code) -> None:
    """Run the program with an empty input, as the original did when its module was imported."""
    with tempfile.TemporaryDirectory() as scratch:
        step = StepInput("", "", code.function, 0, output_dir=scratch)
        _execute(code, function_input(step, (), Files({}), None), scratch)


def _execute(code: Code, given: bytes, cwd: str | None = None) -> str:
    """What the program prints. Its stderr goes where this process's own does: into the instance's log."""
    program = Path(code.directory) / code.controller.executable
    if not os.access(program, os.X_OK) or program.is_dir():
        raise NotFound(f"{program} is no program that can be run", "it lies beside the module's file, executable")
    with tempfile.TemporaryFile() as stderr:
        done = subprocess.run([program], input=given, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd, check=False)
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
