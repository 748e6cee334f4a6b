"""Steps: functions run on what their inputs are, ask for jobs, and go on when those have ended; each answer counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.edits import (
    Activate,
    AddInstance,
    ClearError,
    Connect,
    Deactivate,
    Import,
    RemoveInstance,
    Rerun,
    SetValue,
)
from cpc.core.outcome import Outcome
from cpc.core.plain import FileRef
from cpc.core.spec import Input, JobSpec
from cpc.dataflow.answer import Answer, Job, StepInput
from cpc.dataflow.description import CommandText, ControllerText, FunctionKind
from cpc.server import steps, submission
from cpc.server.principal import SERVER
from cpc.store import history, schema
from cpc.store.jobs import Range
from cpc.store.statement import Statement
from tests.helpers.network_bench import NetworkBench, controlled

_STEP_JOBS = Statement(sa.select(schema.step_jobs.c.array).order_by(schema.step_jobs.c.ordinal))
_STEPS = Statement(sa.select(schema.steps.c.instance).order_by(schema.steps.c.id))
LOST = JobSpec(argv=("x",), inputs=(Input("in", Content(b"\1" * 32, 4, (b"\1" * 32,))),))


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


# --- holding, cancelling, removing ---------------------------------------------------------------------------------------


def test_jobs_of_a_held_instance_that_wait_are_withdrawn_and_come_back(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    assert len(worker.leases) == 1
    bench.edit(Deactivate())
    assert bench.item("f").running == "waits for 1 job, 1 withdrawn while it is held"
    assert len(bench.finish(worker)) == 1
    assert (bench.get("f:out.y"), len(bench.here.calls)) == (None, 1)
    bench.restart()
    worker = bench.worker(cores=1)
    assert not worker.leases
    bench.check()
    bench.edit(Activate())
    assert [len(call.finished) for call in bench.here.calls] == [0, 1]
    bench.finish(worker)
    assert bench.get("f:out.y") == 2
    bench.check()


def test_a_withdrawn_job_that_somebody_has_retried_is_not_submitted_again(bench: NetworkBench) -> None:
    asking(bench)
    bench.edit(Deactivate())
    job = bench.do(lambda tx: tx.rows(_STEP_JOBS))[0][0]
    bench.do(lambda tx: submission.retry(bench.queue, tx, job, Range.of(job, False), "user:t"))
    worker = bench.worker()
    bench.finish(worker)
    bench.edit(Activate())
    bench.turn(worker)
    bench.finish(worker)
    assert bench.get("f:out.y") == 2
    bench.check()


def test_a_changed_input_cancels_what_became_out_of_date_if_the_function_says_so(bench: NetworkBench) -> None:
    asking(bench, cancel_on_change=True)
    worker = bench.worker(cores=1)
    first = bench.item("f").jobs
    bench.edit(SetValue("f:in.x", 2))
    assert set(bench.item("f").jobs).isdisjoint(first)
    assert bench.count(schema.finished, state=5) == 2
    bench.turn(worker)
    bench.finish(worker)
    assert (bench.get("f:out.y"), bench.here.calls[-1].inputs) == (2, {"x": 2})
    bench.check()


def test_the_answer_of_a_run_that_was_cut_short_is_dropped(bench: NetworkBench) -> None:
    asking(bench, cancel_on_change=True)
    bench.here.hold = True
    bench.here.bodies["lab::f"] = doubled
    bench.edit(Rerun("f"))
    bench.edit(SetValue("f:in.x", 7))
    bench.here.hold = False
    bench.here.go()
    assert bench.get("f:out.y") == 14
    assert bench.count(schema.steps, state=4) == 1
    bench.check()


def test_an_answer_counts_once_and_only_while_its_step_is_open(bench: NetworkBench) -> None:
    """Two runs of one step: of a server that was killed under the first, or of a pool that gave it out twice."""
    asking(bench)
    bench.edit(Rerun("f"))
    bench.dispatcher.stop()
    bench.edit(SetValue("f:in.x", 2), Rerun("f"))
    number = bench.graph.instances[bench.do(lambda tx: tx.rows(_STEPS))[-1][0]].step
    first, second = (bench.do(lambda tx: steps.take(bench.flow, tx, number)) for _ in range(2))
    assert first is not None
    assert second is not None
    asked = Answer(jobs=(Job(JobSpec(argv=("run",))),), outputs=(("y", 1),))
    before = bench.count(schema.arrays)
    assert not bench.do(lambda tx: steps.answer(bench.flow, tx, first, asked))
    assert bench.do(lambda tx: steps.answer(bench.flow, tx, second, Answer(outputs=(("y", 2),))))
    assert (bench.get("f:out.y"), bench.count(schema.arrays)) == (1, before + 1)
    third = bench.do(lambda tx: steps.take(bench.flow, tx, number))
    assert third is None, "it waits for its job"
    bench.edit(Rerun("f"))
    assert bench.do(lambda tx: steps.answer(bench.flow, tx, first, Answer(outputs=(("y", 3),))))
    assert bench.get("f:out.y") == 1
    bench.check()


def test_what_is_removed_takes_its_jobs_along(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    bench.edit(RemoveInstance("f"))
    assert bench.count(schema.jobs) == 0
    bench.turn(worker)
    assert not worker.leases
    bench.check()


def test_jobs_of_an_open_step_are_not_forgotten(bench: NetworkBench) -> None:
    asking(bench)
    bench.edit(Deactivate())
    assert bench.do(lambda tx: history.closed_arrays(tx, 0, 1 << 62, 10)) == []
    bench.edit(RemoveInstance("f"))
    assert len(bench.do(lambda tx: history.closed_arrays(tx, 0, 1 << 62, 10))) == 2


# --- kill -9 -------------------------------------------------------------------------------------------------------------


def test_a_function_that_was_running_runs_again_and_counts_once(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 3))
    assert len(bench.here.held) == 1
    bench.here.hold = False
    bench.restart()
    assert [(call.instance, call.updated) for call in bench.here.calls] == [
        ("f", ("in.x",)),
        ("f", ("in.x",)),
        ("g", ("in.x",)),
    ]
    assert (bench.get("g:out.y"), bench.count(schema.steps)) == (12, 2)
    bench.check()


def test_what_came_before_the_kill_is_not_missed_by_the_run_after_it(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 3))
    bench.edit(SetValue("f:in.x", 4))
    bench.here.hold = False
    bench.restart()
    assert (bench.here.calls[1].inputs, bench.here.calls[1].updated) == ({"x": 4}, ("in.x",))
    assert bench.get("g:out.y") == 16
    bench.check()


def test_results_that_came_in_before_a_kill_are_given_to_the_step(bench: NetworkBench) -> None:
    asking(bench)
    bench.here.hold = True
    bench.finish(bench.worker())
    bench.here.hold = False
    bench.restart()
    assert bench.get("f:out.y") == 2
    assert bench.count(schema.arrays) == 2
    bench.check()


def test_a_step_is_explained_by_its_jobs_and_the_version_of_its_module(bench: NetworkBench) -> None:
    asking(bench)
    bench.finish(bench.worker("node7"))
    found = bench.wait(bench.networks.explain(SERVER, "p", "f:out.y")).step
    assert found is not None
    assert (found.instance, found.number, found.function, found.version) == ("f", 1, "lab::f", "1.2")
    assert [(job.attempt, job.worker, job.host) for job in found.jobs] == [(1, "node7", "h")] * 2
    assert [(link.source, link.target) for link in found.inputs] == [("", "f:in.x")]


def test_the_record_tells_answers_and_errors(bench: NetworkBench) -> None:
    chain(bench)
    bench.edit(SetValue("f:in.x", 3))
    bench.here.bodies["lab::f"] = lambda step: Answer(error="no")
    bench.edit(SetValue("f:in.x", 4))
    rows = bench.wait(bench.networks.record(SERVER, "p", 0, 100)).items
    assert [row.kind for row in rows] == ["edited"] * 3 + ["answered"] * 2 + ["edited", "stopped"]
    assert rows[3].details["answer"] == {"outputs": [["y", 6]]}
    assert rows[-1].details == {"instance": "f", "step": 2, "error": "no"}


def test_a_defect_of_the_server_stops_one_instance_in_words(
    bench: NetworkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not wait for ever, and nothing of the answer may stay."""
    chain(bench)

    def broken(*_: object) -> bool:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_go_on", broken)
        bench.edit(SetValue("f:in.x", 3))
    assert "inside the server" in bench.item("f").error
    assert bench.get("f:out.y") is None
    bench.edit(ClearError("f"))
    assert bench.get("g:out.y") == 12
