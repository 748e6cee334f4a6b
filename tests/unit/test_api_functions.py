"""Functions written in Python: what the decorators make of them, and how they are tried out without a server."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest

from cpc.api import Failed, File, Finished, Job, Result, RunDesc, Step, TypeName, command, controller, function
from cpc.api.hints import Types
from cpc.api.modules import describe
from cpc.api.testing import Bench, RunningJob
from cpc.core.errors import BadInput
from cpc.dataflow.answer import Answer
from cpc.dataflow.description import FieldText, FunctionKind

__version__ = "1.2"


@dataclass
class Fit:
    """A straight line."""

    slope: float
    note: str | None = None


class Times(NamedTuple):
    start: float
    end: float = 0.0


@function(output="c")
def add(a: float, b: Annotated[float, "what is added"] = 1.0) -> float:
    """The sum of two numbers."""
    return a + b


@function
def fit(xs: list[float], labels: dict[str, int] | None = None) -> Fit:
    return Fit(sum(xs), None if labels is None else ",".join(labels))


@function(output="fit")
def whole(xs: list[float | None]) -> Fit:
    return Fit(len(xs))


@function
def spell(text: str) -> File:
    Path("spelt.txt").write_text(" ".join(text))
    return File("spelt.txt")


@command(executable="test/count", cores=2, outputs={"letters": Result("stdout", int), "log": "run.log"})
def count(text: File) -> Job:
    return Job(["in.txt"], files={"in.txt": text})


@command(outputs=Times)
def clock(start: int) -> Job:
    return Job([sys.executable, "-c", f"print({start}, {start} + 1)"])


@clock.collect
def times(job: Finished) -> Times:
    start, end = job.text().split()
    return Times(float(start), float(end))


@controller(outputs={"mean": float, "samples": int}, sub_inputs={"results": list[float]})
def adaptive(step: Step, *, error: float, most: int = 50) -> None:
    """Samples until the mean is known well enough."""
    samples = step.state.setdefault("samples", [])
    samples += [float(job.text()) for job in step.finished]
    spread = max(samples) - min(samples) if samples else 0.0
    if len(samples) < min(most, 4) or spread / len(samples) > error:
        step.submit(Job([str(len(samples))], executable="test/sample"), key=f"sample {len(samples)}")
    else:
        step.output("mean", sum(samples) / len(samples))
        step.output("samples", len(samples))


def sample(job: RunningJob) -> int:
    job.write("stdout", str(float(job.args[0]) % 3))
    return 0


def fields(name: str) -> dict[str, FieldText]:
    text = next(one for one in describe(sys.modules[__name__]).functions if one.id == name)
    return {one.id: one for one in (*text.inputs, *text.outputs, *text.sub_inputs)}


def test_a_function_is_still_the_function_that_it_was() -> None:
    assert add(1.0, 2.0) == 3.0
    assert count(File("x")).args == ["in.txt"]


def test_inputs_and_outputs_come_from_the_type_hints() -> None:
    assert fields("add") == {
        "a": FieldText("a", "float"),
        "b": FieldText("b", "float", opt=True, default=1.0, desc="what is added"),
        "c": FieldText("c", "float"),
    }
    assert fields("fit")["xs"] == FieldText("xs", "float_array", complete=True)
    assert fields("fit")["labels"] == FieldText("labels", "int_dict", opt=True, complete=True)
    assert fields("whole")["xs"].complete is False


def test_a_returned_record_is_several_outputs_unless_it_is_named() -> None:
    assert list(fields("fit"))[2:] == ["slope", "note"]
    assert fields("fit")["note"] == FieldText("note", "string", opt=True, default=None)
    assert fields("whole")["fit"] == FieldText("fit", "Fit", complete=True)


def test_a_module_says_what_it_offers() -> None:
    text = describe(sys.modules[__name__], "toy")
    assert (text.name, text.version) == ("toy", "1.2")
    assert [one.id for one in text.functions] == ["add", "fit", "whole", "spell", "count", "clock", "adaptive"]
    types = {one.id: one for one in text.types}
    assert (types["float_array"].base, types["float_array"].member) == ("array", "float")
    assert types["Fit"].desc == "A straight line."
    assert all(one.kind is FunctionKind.CONTROLLER for one in text.functions)
    assert text.functions[0].desc == "The sum of two numbers."
    assert text.code


def test_types_of_other_modules_are_used_by_name_and_imported() -> None:
    types = Types()
    assert types.name(Annotated[File, TypeName("gromacs::mdp")]) == "gromacs::mdp"
    assert types.name(RunDesc | None) == "resource::run_desc"
    assert types.imported == {"gromacs", "resource"}


def test_a_hint_that_stands_for_no_type_is_refused_in_words() -> None:
    @function
    def odd(a: complex) -> float:
        return abs(a)

    with pytest.raises(BadInput, match="function odd: a: there is no type for complex") as caught:
        odd.text(Types())
    assert "list[T]" in caught.value.hint


def test_a_parameter_without_a_hint_is_refused_in_words() -> None:
    @function
    def odd(a) -> float:  # type: ignore[no-untyped-def]
        return float(a)

    with pytest.raises(BadInput, match="function odd: parameter a has no type hint"):
        odd.text(Types())


def test_plain_functions_get_defaults_and_give_outputs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run(add, a=2.0) == {"c": 3.0}
    assert bench.run(fit, xs=[1.0, 2.0]) == {"slope": 3.0, "note": None}
    assert bench.run(whole, xs=[1.0, None]) == {"fit": Fit(2)}


def test_files_are_written_into_the_current_directory(tmp_path: Path) -> None:
    assert Bench(tmp_path).run(spell, text="abc")["result"].read_text() == "a b c"


def test_a_command_is_one_job_whose_files_become_outputs(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("12345")
    script = "import sys; t = open(sys.argv[1]).read(); print(len(t)); open('run.log', 'w').write('counted')"
    found = Bench(tmp_path, {"test/count": [sys.executable, "-c", script]}).run(count, text=tmp_path / "text")
    assert found["letters"] == 5
    assert found["log"].read_text() == "counted"


def test_a_command_may_parse_what_its_job_left(tmp_path: Path) -> None:
    assert Bench(tmp_path).run(clock, start=3) == {"start": 3.0, "end": 4.0}


def test_a_job_that_fails_is_the_error_of_its_command(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"test/count": [sys.executable, "-c", "raise SystemExit('no such letter')"]})
    (tmp_path / "text").write_text("12345")
    with pytest.raises(Failed, match=r"exit code 1\nno such letter"):
        bench.run(count, text=tmp_path / "text")


def test_an_output_that_the_job_did_not_leave_is_missed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("12345")
    bench = Bench(tmp_path, {"test/count": [sys.executable, "-c", "print(1)"]})
    with pytest.raises(Failed, match=r"left no file run\.log"):
        bench.run(count, text=tmp_path / "text")


def test_an_adaptive_loop_runs_until_it_is_content(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"test/sample": sample})
    found = bench.run(adaptive, error=0.25)
    assert found == {"mean": pytest.approx(7 / 8), "samples": 8}
    assert bench.ran == 8


def test_what_a_function_raises_is_told_with_the_way_that_led_there(tmp_path: Path) -> None:
    @function
    def broken(a: float) -> float:
        raise ZeroDivisionError("nothing left")

    with pytest.raises(Failed) as caught:
        Bench(tmp_path).run(broken, a=1.0)
    assert caught.value.message.startswith("ZeroDivisionError: nothing left")
    assert "test_api_functions.py" in caught.value.message
    assert "running.py" not in caught.value.message


def test_a_run_that_raises_asks_for_nothing(tmp_path: Path) -> None:
    @controller(outputs={"x": int})
    def half(step: Step, *, a: int) -> None:
        step.log("begun")
        step.output("x", a)
        if step.fresh:
            step.submit(Job(["true"]))
        step.state["a"] = a
        step.fail("no further")

    bench = Bench(tmp_path)
    with pytest.raises(Failed, match="no further"):
        bench.run(half, a=1)
    assert bench.answers == [Answer(error="no further", log="begun\n")]


def test_state_that_cannot_be_kept_is_refused_in_words(tmp_path: Path) -> None:
    @controller()
    def forgetful(step: Step, *, a: int) -> None:
        step.state["file"] = File("x")

    with pytest.raises(Failed, match=r"step\.state cannot be kept"):
        Bench(tmp_path).run(forgetful, a=1)


def test_a_job_that_cannot_be_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    @command(outputs={})
    def wrong(a: int) -> Job:
        return Job(["true"], files={"../x": b""}) if a else Job(["true"], outputs="x")

    with pytest.raises(Failed, match="unsafe path"):
        Bench(tmp_path).run(wrong, a=1)
    with pytest.raises(Failed, match="stands where a list of texts belongs"):
        Bench(tmp_path).run(wrong, a=0)


def test_a_function_is_called_by_the_module_that_offers_it() -> None:
    """Wherever in that module's package it is written."""
    from cpc.plugins.modules import benchmark, gromacs, openmm

    assert gromacs.mdrun.__module__ != gromacs.__name__
    assert gromacs.mdrun.called("mylab") == "gromacs::mdrun"
    assert gromacs.mdrun.called(gromacs.__name__) == "mdrun"
    assert openmm.simulate.called("mylab") == "openmm::simulate"
    assert benchmark.sleep.called("mylab") == "benchmark::sleep"
