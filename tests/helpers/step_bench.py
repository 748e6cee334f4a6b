"""Instances whose steps tests look at: two that double, one that asks for two jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.edits import (
    Activate,
    AddInstance,
    Connect,
    Import,
    SetValue,
)
from cpc.core.spec import JobSpec
from cpc.dataflow.answer import Answer, Job, StepInput
from cpc.dataflow.description import ControllerText
from tests.helpers.network_bench import NetworkBench, controlled


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[NetworkBench]:
    made = NetworkBench(tmp_path, url=database_url)
    yield made
    made.close()


def doubled(step: StepInput) -> Answer:
    return Answer(outputs=(("y", step.inputs["x"] * 2),))


def two_jobs(step: StepInput) -> Answer:
    """Asks for two jobs; says how many have succeeded, and with which keys, when both have ended."""
    if step.finished:
        seen = step.state + b"".join(job.key.encode() for job in step.finished if job.succeeded)
        if step.pending:
            return Answer(state=seen)
        return Answer(outputs=(("y", len(seen)),), state=b"", log=f"{seen.decode()}\n")
    return Answer(jobs=tuple(Job(JobSpec(argv=("run", key)), key) for key in ("a", "b")), state=b"")


def chain(bench: NetworkBench) -> None:
    """f → g, both double."""
    text = controlled("f", {"x": "int"}, {"y": "int"})
    bench.define(text, f=doubled)
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), AddInstance("g", "lab::f"), Connect("f:out.y", "g:in.x"))
    bench.edit(Activate())


def asking(bench: NetworkBench, **controller: bool) -> None:
    """One instance that asks for two jobs."""
    flags = ControllerText(module="lab", function="f", **controller)
    bench.define(controlled("f", {"x": "int"}, {"y": "int"}, controller=flags), f=two_jobs)
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), SetValue("f:in.x", 1), Activate())
