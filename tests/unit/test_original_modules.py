"""Modules of the original, ported to Python 3, run with no other change; external programs speak its XML."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cpc.api.bench import Runner, RunningJob
from cpc.controller.run import check, run
from cpc.core import plain
from cpc.core.journal import Journal
from cpc.core.plain import FileRef
from cpc.dataflow import xml
from cpc.dataflow.answer import PATH, Answer, FinishedJob, StepInput
from cpc.dataflow.code import Code, code
from cpc.dataflow.description import ModuleText
from cpc.dataflow.library import Library

MODULES = Path(__file__).parents[1] / "fixtures" / "modules"
SHIPPED = Path(__file__).parents[2] / "cpc" / "plugins" / "modules"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(MODULES))
    yield
    sys.modules.pop("ported_code", None)


class Instance:
    """One instance of a function, with its directories, and a worker."""

    def __init__(self, directory: Path, function: str, programs: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self.runner = Runner(directory, programs or {})
        self.code = find(function)
        self.persistent = directory / "persistent" / "one"

    def file(self, name: str, text: str) -> dict[str, Any]:
        (self.directory / name).write_text(text)
        wired: dict[str, Any] = self.runner.store.keep({PATH: str(self.directory / name), "name": name})
        return wired

    def text(self, raw: dict[str, Any]) -> str:
        ref = plain.read(raw)
        assert isinstance(ref, FileRef)
        return self.runner.store.path(ref.content).read_text()

    def step(self, **facts: Any) -> StepInput:
        return StepInput("p", "one", self.code.function, 1, **facts)

    def run(self, step: StepInput) -> Answer:
        return self.runner.run(functools.partial(run, self.code), step)

    def ended(self, answer: Answer) -> tuple[FinishedJob, ...]:
        assert not answer.error, answer.error
        return tuple(self.runner.worker.run(job, ordinal) for ordinal, job in enumerate(answer.jobs))


def find(name: str) -> Code:
    library = Library(module)
    library.need(name.partition("::")[0], Journal())
    return code(library.function(name))


def module(name: str) -> ModuleText:
    path = next(path for path in (MODULES / f"{name}.xml", SHIPPED / f"{name}.xml") if path.exists())
    return xml.read(path.read_text(), name, source=str(path), directory=str(path.parent))


def test_a_python_function_gets_keyword_arguments_and_returns_a_dict(tmp_path: Path) -> None:
    multiply = Instance(tmp_path, "ported::multiply")
    assert multiply.run(multiply.step(inputs={"a": 3.0, "b": None})).outputs == (("c", 6.0), ("where", "1"))
    assert multiply.run(multiply.step(inputs={"a": 3.0, "b": 0.5})).outputs == (("c", 1.5), ("where", "2"))


def ported_run(job: RunningJob) -> int:
    assert job.env["A"] == "b"
    job.write("result", job.text("conf.gro").upper())
    job.write("leftover", "not asked for")
    return 0


def test_every_call_of_the_original_api_works(tmp_path: Path) -> None:
    everything = Instance(tmp_path, "ported::everything", {"ported/run": ported_run})
    conf = everything.file("conf.gro", "atoms")
    step = everything.step(
        inputs={
            "xs": [3, 4], "conf": [conf], "pair": {"left": 1.5, "right": None}, "names": {"a": "b"},
            "resources": {"min": {"cores": 2}, "max": None, "workers": None}, "missing": None,
        },
        sub_inputs={"back": None}, outputs={"count": 7}, sub_outputs={"forth": 0.5}, updated=("in.xs[1]",),
    )  # fmt: skip
    first = everything.run(step)
    assert not first.error, first.error
    (job,) = first.jobs
    assert first.cancel_jobs
    assert job.spec.executable == "ported/run"
    assert job.spec.argv == ("-s", "conf.gro", "-nt", "2")
    assert (job.spec.need.cores, job.spec.max_cores, job.spec.priority) == (2, 4, 3)
    assert job.spec.versions == ">=4.5,<=5"
    assert job.spec.outputs == ("result", "*.xtc")
    assert [one.path for one in job.spec.inputs] == ["conf.gro"]

    told = tuple(replace(one, cpu_seconds=2.5) for one in everything.ended(first))
    second = everything.run(replace(step, finished=told))
    assert not second.error, second.error
    outputs = dict(second.outputs)
    assert everything.text(outputs.pop("made")) == "ATOMS"
    assert outputs == {
        "flag": True, "count": 2, "mean": 3.5, "said": "é", "conf": conf, "xs": [1, 2], "names": {"a": "b"},
        "pair": {"left": 1.0, "right": conf},
    }  # fmt: skip
    assert second.sub_outputs == (("forth", 0.25),)
    assert second.instances == (("inner", "multiply"),)
    assert second.connections == (("self:sub_out.forth", "inner:in.a"),)
    assert second.values == (("inner:in.b", 3.0),)
    assert second.warning == "it was a long way"


def test_several_finished_commands_are_given_in_turn(tmp_path: Path) -> None:
    def twice(job: RunningJob) -> int:
        job.write("stdout", str(2 * int(job.args[0])))
        return 0

    double = Instance(tmp_path, "ported::double", {"ported/double": twice})
    step = double.step(inputs={"xs": [2, 5, 9]}, updated=("in.xs[0]", "in.xs[2]"))
    first = double.run(step)
    second = double.run(replace(step, finished=double.ended(first)))
    assert second.outputs == (("ys[0]", 4), ("ys[2]", 18))
    assert {path.name for path in double.persistent.iterdir()} == {"0", "2"}
    later = double.step(inputs={"xs": [2, 5, 9]}, updated=("in.xs[1]",))
    assert len(double.run(later).jobs) == 1
    assert {path.name for path in double.persistent.iterdir()} == {"1"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cpc", "A was negative!"),
        ("set", "B was negative!"),
        ("plain", "x: a int is no Value (use FloatValue, FileValue and the like)"),
    ],
)
def test_errors_are_the_modules_own_words(tmp_path: Path, how: str, said: str) -> None:
    refuse = Instance(tmp_path, "ported::refuse")
    assert refuse.run(refuse.step(inputs={"how": how})) == Answer(error=said)


def test_other_exceptions_come_with_their_traceback(tmp_path: Path) -> None:
    refuse = Instance(tmp_path, "ported::refuse")
    error = refuse.run(refuse.step(inputs={"how": "boom"})).error
    assert error.startswith("ValueError: boom")
    assert 'ported_code.py", line' in error


def test_code_is_checked_when_its_module_is_imported() -> None:
    for name in ("multiply", "everything", "double", "refuse"):
        assert check(find(f"ported::{name}")) == ""
    assert check(find("adder::add")) == ""
    assert "there_is_no_such_program is no program that can be run" in check(find("absent::missing"))
    lost = find("ported::multiply")
    assert "no Python module gone" in check(replace(lost, controller=replace(lost.controller, module="gone")))
    assert "has no gone" in check(replace(lost, controller=replace(lost.controller, function="gone")))


def test_an_external_program_gets_xml_and_answers_in_xml(tmp_path: Path) -> None:
    adder = Instance(tmp_path, "adder::add")
    answer = adder.run(adder.step(inputs={"a": 0.1, "b": [0.2]}))
    assert not answer.error, answer.error
    assert answer.outputs[0] == ("sum", 0.1 + 0.2)
    assert adder.text(answer.outputs[1][1]) == "added <&> done"
    assert adder.run(adder.step(inputs={"a": 1.0, "b": [-2.0]})).warning == "b was negative"


def test_who_gives_files_and_every_external_program_has_a_directory_for_them() -> None:
    assert find("adder::add").controller.output_dir
    assert find("absent::missing").controller.output_dir
    assert not find("ported::double").controller.output_dir


def test_an_external_program_may_ask_for_commands(tmp_path: Path) -> None:
    script = "import sys; print(sum(map(float, open(sys.argv[1]).read().split())))"
    adder = Instance(tmp_path, "adder::add", {"test/sum": [sys.executable, "-c", script]})
    step = adder.step(inputs={"a": 1.0, "b": [1.0, 2.0, 3.0]})
    first = adder.run(step)
    second = adder.run(replace(step, finished=adder.ended(first)))
    assert second.outputs[0] == ("sum", 7.0)


def test_an_external_program_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    adder = Instance(tmp_path, "adder::add")
    error = adder.run(adder.step(inputs={"a": -1.0, "b": []})).error
    assert "adder_program ended with exit code 3" in error
    assert "it does not add up" in error


def test_the_originals_names_are_not_there_before_such_a_module_runs() -> None:
    code = "import cpc.dataflow, cpc.server.controllers; assert not hasattr(cpc.dataflow, 'FloatValue')"
    subprocess.run([sys.executable, "-c", code], check=True)
