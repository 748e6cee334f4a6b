"""Steps: functions run on what their inputs are, ask for jobs, and go on when those have ended; each answer counts once."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.edits import (
    Activate,
    AddInstance,
    ClearError,
    Import,
    SetValue,
)
from cpc.core.outcome import Outcome
from cpc.core.plain import FileRef
from cpc.core.spec import Input, JobSpec
from cpc.dataflow.answer import Answer, Job, StepInput
from cpc.dataflow.description import CommandText, FunctionKind
from cpc.server.principal import SERVER
from cpc.store import schema
from cpc.store.statement import Statement
from tests.helpers.network_bench import NetworkBench, controlled
from tests.helpers.step_bench import asking, bench, chain, doubled

__all__ = ["bench"]

_STEP_JOBS = Statement(sa.select(schema.step_jobs.c.array).order_by(schema.step_jobs.c.ordinal))
_STEPS = Statement(sa.select(schema.steps.c.instance).order_by(schema.steps.c.id))
LOST = JobSpec(argv=("x",), inputs=(Input("in", Content(b"\1" * 32, 4, (b"\1" * 32,))),))


def test_a_function_runs_when_its_inputs_are_complete_and_its_outputs_flow_on(bench: NetworkBench) -> None:
    chain(bench)
    assert bench.here.calls == []
    bench.edit(SetValue("f:in.x", 3))
    assert (bench.get("f:out.y"), bench.get("g:out.y")) == (6, 12)
    assert [(call.instance, call.number, call.updated) for call in bench.here.calls] == [
        ("f", 1, ("in.x",)),
        ("g", 1, ("in.x",)),
    ]
    bench.check()


def test_changes_of_one_call_make_one_step(bench: NetworkBench) -> None:
    bench.define(controlled("s", {"a": "int", "b": "int"}, {"y": "int"}), s=lambda step: Answer())
    bench.edit(
        Import("lab"), AddInstance("s", "lab::s"), Activate(), SetValue("s:in.a", 1), SetValue("s:in.b", 2),
        SetValue("s:in.a", 3),
    )  # fmt: skip
    assert [call.inputs for call in bench.here.calls] == [{"a": 3, "b": 2}]


def test_what_changes_while_a_function_runs_is_one_more_step(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 1))
    bench.edit(SetValue("f:in.x", 2))
    bench.edit(SetValue("f:in.x", 5))
    assert bench.item("f").running == "runs its controller"
    bench.here.hold = False
    bench.here.go()
    assert [call.inputs["x"] for call in bench.here.calls if call.instance == "f"] == [1, 5]
    assert (bench.get("f:out.y"), bench.get("g:out.y")) == (10, 20)
    bench.check()


# --- jobs ----------------------------------------------------------------------------------------------------------------


def test_a_step_waits_for_its_jobs_and_goes_on_with_each(bench: NetworkBench) -> None:
    asking(bench)
    item = bench.item("f")
    assert (item.running, len(item.jobs)) == ("waits for 2 jobs", 2)
    worker = bench.worker()
    assert sorted(bench.finish(worker)) == [("run", "a"), ("run", "b")]
    assert bench.get("f:out.y") == 2
    assert [len(call.finished) for call in bench.here.calls] == [0, 1, 1]
    assert [call.inputs for call in bench.here.calls] == [{"x": 1}] * 3
    assert [call.updated for call in bench.here.calls] == [("in.x",), (), ()]
    assert bench.item("f").running == ""
    assert bench.item("f").cpu_seconds == 4.0
    assert bench.wait(bench.networks.log(SERVER, "p", "f", 0, 100)).data in ("ab\n", "ba\n")
    bench.check()


def test_jobs_that_end_while_the_function_runs_are_for_its_next_run(bench: NetworkBench) -> None:
    asking(bench)
    bench.here.hold = True
    bench.finish(bench.worker())
    assert len(bench.here.held) == 1
    bench.here.hold = False
    bench.here.go()
    assert [len(call.finished) for call in bench.here.calls] == [0, 1, 1]
    assert bench.get("f:out.y") == 2
    bench.check()


def test_the_files_of_a_job_are_there_for_the_function(bench: NetworkBench) -> None:
    seen: list[str] = []

    def body(step: StepInput) -> Answer:
        if not step.finished:
            return Answer(jobs=(Job(JobSpec(argv=("run",))),))
        (job,) = step.finished
        seen.append(Path(job.directory, "data", "out.txt").read_text())
        entry = job.files.find(b"data/out.txt")
        assert entry is not None
        assert entry.content is not None
        return Answer(outputs=(("y", plain.wire(FileRef("out.txt", entry.content))),))

    bench.define(controlled("f", {"x": "int"}, {"y": "file"}), f=body)
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), SetValue("f:in.x", 1), Activate())
    bench.finish(bench.worker(), **{"data/out.txt": b"energies"})
    assert seen == ["energies"]
    assert bench.wait(bench.networks.file(SERVER, "p", "f:out.y")).name == "out.txt"
    bench.check()


def test_the_inputs_of_a_step_with_jobs_stay_as_they_were(bench: NetworkBench) -> None:
    def body(step: StepInput) -> Answer:
        content = plain.read(step.inputs["x"])
        assert isinstance(content, FileRef)
        if step.finished:
            return Answer(outputs=(("y", Path(step.files[content.content.digest.hex()]).read_text()),))
        return Answer(jobs=(Job(JobSpec(argv=("run",))),))

    bench.define(controlled("f", {"x": "file"}, {"y": "string"}), f=body)
    first, second = bench.file(b"first"), bench.file(b"second")
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), SetValue("f:in.x", plain.wire(first)), Activate())
    bench.edit(SetValue("f:in.x", plain.wire(second)))
    worker = bench.worker()
    lease = next(iter(worker.leases.values()))
    bench.report(worker, lease)
    assert bench.get("f:out.y") == "first"
    bench.finish(worker)
    assert bench.get("f:out.y") == "second"
    assert bench.count(schema.references, kind=7) == 0
    bench.check()


@pytest.mark.parametrize(
    ("spec", "words"), [(JobSpec(argv=("x",), array=3), "single jobs"), (JobSpec(), "has no command"), (LOST, "upload")]
)
def test_a_job_that_cannot_be_submitted_is_the_error_of_its_instance(
    bench: NetworkBench, spec: JobSpec, words: str
) -> None:
    bench.define(
        controlled("f", {"x": "int"}, {"y": "int"}), f=lambda step: Answer(jobs=(Job(spec),), outputs=(("y", 1),))
    )
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), Activate(), SetValue("f:in.x", 1))
    assert words in bench.item("f").error
    assert (bench.get("f:out.y"), bench.count(schema.arrays)) == (None, 0)
    bench.check()


# --- commands ------------------------------------------------------------------------------------------------------------


def test_a_command_is_a_job_whose_files_are_the_outputs(bench: NetworkBench) -> None:
    command = CommandText(
        spec={"argv": ["count", "--limit={limit}", "{extra}", "in.txt"]},
        files=(("in.txt", "text"),),
        outputs=(("lines", "lines.txt"), ("report", "report.txt")),
    )
    text = controlled(
        "count", {"text": "file", "limit": "float", "extra": "string?"},
        {"lines": "int", "report": "file", "stdout": "string", "exit_code": "int"},
        kind=FunctionKind.COMMAND, controller=None, command=command,
    )  # fmt: skip
    bench.define(text)
    bench.edit(Import("lab"), AddInstance("c", "lab::count"), SetValue("c:in.limit", 0.1), Activate())
    bench.edit(SetValue("c:in.text", plain.wire(bench.file(b"a\nb\n", "poem.txt"))))
    assert bench.item("c").running == "waits for 1 job"
    ran = bench.finish(bench.worker(), **{"lines.txt": b"2\n", "report.txt": b"fine", "stdout": b"counted\n"})
    assert ran == [("count", "--limit=0.1", "", "in.txt")]
    assert (bench.get("c:out.lines"), bench.get("c:out.stdout"), bench.get("c:out.exit_code")) == (2, "counted", 0)
    assert bench.wait(bench.networks.file(SERVER, "p", "c:out.report")).name == "report.txt"
    bench.check()


def test_a_command_that_fails_stops_its_instance_with_the_last_lines(bench: NetworkBench) -> None:
    command = CommandText(spec={"argv": ["x"]}, outputs=(("y", "y"),))
    bench.define(
        controlled("c", {"x": "int"}, {"y": "int"}, kind=FunctionKind.COMMAND, controller=None, command=command)
    )
    bench.edit(Import("lab"), AddInstance("c", "lab::c"), SetValue("c:in.x", 1), Activate())
    worker = bench.worker()
    bench.finish(worker, Outcome.FAILED)
    item = bench.item("c")
    assert item.own == "error"
    assert "has failed" in item.error
    assert item.error.endswith("the last line")
    bench.edit(ClearError())
    bench.finish(worker, y=b"7")
    assert (bench.item("c").own, bench.get("c:out.y")) == ("active", 7)
    bench.check()


# --- errors --------------------------------------------------------------------------------------------------------------


def test_an_error_stops_one_instance_and_can_be_cleared(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.bodies["lab::f"] = lambda step: Answer(error="Traceback …\nValueError: no", log="tried\n")
    bench.edit(SetValue("f:in.x", 3))
    assert (bench.item("f").own, bench.item("g").own, bench.item().state) == ("error", "active", "error")
    assert bench.get("f:msg.error") == "Traceback …\nValueError: no"
    assert bench.wait(bench.networks.log(SERVER, "p", "f", 0, 100)).data == "tried\n"
    assert bench.wait(bench.projects.get(SERVER, "p")).errors == ("f",)
    bench.edit(SetValue("f:in.x", 4))
    assert len(bench.here.calls) == 1
    bench.here.bodies["lab::f"] = doubled
    assert bench.edit(ClearError()).lines == ("Cleared error state on f",)
    assert (bench.get("g:out.y"), bench.item().state) == (16, "active")
    bench.check()


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(outputs=(("nix", 1),)),
        Answer(outputs=(("y", "text"),)),
        Answer(instances=(("a", "lab::nix"),)),
        Answer(outputs=(("y", 1),), connections=(("a:out.y", "b:in.x"),)),
        Answer(values=(("nix:in.x", 1),)),
    ],
)
def test_an_answer_that_cannot_be_carried_out_leaves_only_an_error(bench: NetworkBench, wrong: Answer) -> None:
    chain(bench)
    bench.here.bodies["lab::f"] = lambda step: wrong
    bench.edit(SetValue("f:in.x", 3))
    assert bench.item("f").own == "error"
    assert "cannot be carried out" in bench.item("f").error
    assert bench.get("f:out.y") is None
    bench.check()


def test_an_answer_with_a_file_that_the_project_does_not_have_is_an_error(bench: NetworkBench) -> None:
    lost = plain.wire(FileRef("x", Content(b"\1" * 32, 4, (b"\1" * 32,))))
    bench.define(controlled("f", {"x": "int"}, {"y": "file"}), f=lambda step: Answer(outputs=(("y", lost),)))
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), Activate(), SetValue("f:in.x", 1))
    assert "is not in this project" in bench.item("f").error
    assert bench.get("f:out.y") is None
    bench.check()


def test_an_instance_makes_others_which_run_at_once(bench: NetworkBench) -> None:
    def grow(step: StepInput) -> Answer:
        return Answer(
            instances=(("one", "f"), ("two", "f")),
            connections=(("one:out.y", "two:in.x"), ("two:out.y", "self:ext_out.y")),
            values=(("one:in.x", step.inputs["x"]),),
        )

    bench.define(controlled("f", {"x": "int"}, {"y": "int"}), controlled("grow", {"x": "int"}, {"y": "int"}))
    bench.here.bodies |= {"lab::f": doubled, "lab::grow": grow}
    bench.edit(Import("lab"), AddInstance("g", "lab::grow"), Activate(), SetValue("g:in.x", 5))
    assert (bench.get("g:out.y"), bench.item("g").count, bench.item().states) == (20, 2, {"active": 3})
    bench.check()
