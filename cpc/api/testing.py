"""Trying out a module without a server: its functions run in this process, and so do their jobs.

from cpc.api.testing import Bench

def test_it_stops_when_the_error_is_small(tmp_path):
    bench = Bench(tmp_path, programs={"mylab/sample": ["python3", "sample.py"]})
    assert bench.run(adaptive, error=0.1)["mean"] == pytest.approx(0.5, abs=0.2)
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cpc.api import running, values
from cpc.api.bench import PYTHON, FileStore, Program, RunningJob, Worker
from cpc.api.functions import Function
from cpc.api.step import Failed
from cpc.dataflow.answer import Answer, StepInput

__all__ = ["PYTHON", "Bench", "Program", "RunningJob"]


class Bench:
    """Runs single functions, with their jobs, in `directory`. `programs`: how jobs' executables run here."""

    def __init__(self, directory: Path, programs: Mapping[str, Program] | None = None) -> None:
        self.directory = directory
        self.store = FileStore(directory / "files")
        self.worker = Worker(directory / "jobs", self.store, programs or {})
        #: The answers of the latest step, in their order: what the function asked for.
        self.answers: list[Answer] = []
        self._runs = 0

    def run(self, function: Function[..., Any], **inputs: Any) -> dict[str, Any]:
        """One step to its end, jobs included: the outputs by name. Failed with the error that an instance would have had."""
        self.answers = []
        raw = {name: self.store.keep(values.wire(one)) for name, one in inputs.items()}
        given = StepInput("test", "test", function.name, 1, inputs=raw, updated=tuple(f"in.{name}" for name in raw))
        outputs: dict[str, Any] = {}
        while True:
            one = self._once(function, given)
            outputs.update((item, self.store.keep(value)) for item, value in one.outputs)
            if not one.jobs:
                return self._read(function, outputs)
            finished = tuple(self.worker.run(job, ordinal) for ordinal, job in enumerate(one.jobs))
            state = given.state if one.state is None else one.state
            given = replace(given, finished=finished, state=state)

    def _once(self, function: Function[..., Any], given: StepInput) -> Answer:
        self._runs += 1
        scratch = self.directory / "runs" / str(self._runs)
        persistent = self.directory / "persistent"
        for path in (scratch, persistent):
            path.mkdir(parents=True, exist_ok=True)
        given = replace(
            given,
            files=self.store.local(),
            output_dir=str(scratch),
            persistent_dir=str(persistent),
            base_dir=str(scratch),
        )
        with contextlib.chdir(scratch):
            one = running.run(function, given)
        self.answers.append(one)
        if one.error:
            raise Failed(one.error)
        return one

    def _read(self, function: Function[..., Any], outputs: dict[str, Any]) -> dict[str, Any]:
        reader = values.Reader(self.store.local())
        hints = function.hints()["out"]
        return {item: reader.read(value, hints.get(item, Any)) for item, value in outputs.items()}
