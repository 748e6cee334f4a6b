"""Projects as networks, as people have them: built with cpcc, computed by a real server and worker, killed, saved, loaded.

The black-box checks of the original that are about projects, and those that its defects suggest.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.helpers.network_of_processes import Network, Person
from tests.helpers.network_project import JOBS, Project, lab, project
from tests.helpers.toy_modules import EXAMPLE

__all__ = ["lab", "project"]


# --- without a worker ---


def test_the_example_computes_41(project: Project, tmp_path: Path) -> None:
    project.upload(EXAMPLE, tmp_path)
    assert project.get("addmul:out.q") == "35"
    assert project.get("add:out.c") == "41"
    project("set", "add:in.b", "100")
    assert project.get("add:out.c") == "135"
    assert "   mul (active)" in project("ls", "addmul")
    assert "2 in state 'active'" not in project("status", project.name)
    assert "4 in state 'active'" in project("status", project.name)


def test_subtraction_subtracts_and_division_divides(project: Project) -> None:
    """X16, first half."""
    project("import", "int")
    for function in ("sub", "div", "add", "mul"):
        project("instance", f"int::{function}", function)
        project("set", f"{function}:in.a", "7")
        project("set", f"{function}:in.b", "3" if function != "div" else "2")
    project("activate")
    assert {name: project.get(f"{name}:out.c") for name in ("sub", "div", "add", "mul")} == {
        "sub": "4", "div": "3", "add": "10", "mul": "21",
    }  # fmt: skip
    project("set", "sub:in.b", "-5")
    assert project.get("sub:out.c") == "12"


def test_what_is_wrong_is_refused_and_changes_nothing(project: Project) -> None:
    """X12."""
    project("import", "int")
    project("instance", "int::add", "a")
    project("instance", "int::add", "b")
    project("set", "a:in.a", "1")
    before = project("ls", "--json"), project("get", "a:in", "--json")
    for words, about in (
        (("set", "a:in.a", "abc"), ("a:in.a", "int")), (("set", "a:in.nosuch", "1"), ("nosuch",)),
        (("set", "nosuch:in.a", "1"), ("nosuch",)), (("set", "a:out.c", "1"), ("a:out.c",)),
        (("connect", "a:out.nosuch", "b:in.a"), ("nosuch",)), (("connect", "nosuch:out.c", "b:in.a"), ("nosuch",)),
        (("connect", "a:in.a", "b:in.a"), ("a:in.a",)), (("get", "a:out.nosuch"), ("nosuch",)),
        (("ls", "nosuch"), ("nosuch",)), (("getf", "a:in.a"), ("int",)), (("instance", "int::nosuch", "c"), ("nosuch",)),
        (("instance", "int::add", "a"), ("a",)), (("instance", "int::add", "self"), ("self",)),
        (("import", "nosuchmodule"), ("nosuchmodule",)), (("info", "int::nosuch"), ("nosuch",)),
        (("activate", "nosuch"), ("nosuch",)), (("rm-instance", "nosuch"), ("nosuch",)), (("log", "nosuch"), ("nosuch",)),
        (("disconnect", "b:in.a"), ("b:in.a",)), (("commit",), ("ransaction",)), (("rollback",), ("ransaction",)),
        (("explain", "nosuch:out.c"), ("nosuch",)), (("graph", "nosuch"), ("nosuch",)),
    ):  # fmt: skip
        said = project.refused(*words)
        assert all(word in said for word in about), f"{words}: {said}"
    assert (project("ls", "--json"), project("get", "a:in", "--json")) == before


def test_a_failing_step_in_a_transaction_leaves_no_change_behind(project: Project) -> None:
    """X13."""
    project("import", "int")
    for name in "ab":
        project("instance", "int::add", name)
    assert project("transact") == "Beginning transaction level 1\n"
    project("set", "a:in.a", "1")
    project("connect", "a:out.c", "b:in.a")
    project("set", "a:in.b", "2")
    project.network.client.network(project.name)
    assert project.get("a:in.a") == "None"
    # Somebody else takes away what the transaction counts on.
    other = Person(project.network, "cpc-admin", project.network.directory / f"{project.name}-other")
    assert other.run("rm-instance", "b", "-p", project.name).code == 0
    assert "b:in.a" in project.refused("commit") + project.network.cpcc("diff", "-p", project.name).out
    assert project.get("a:in.a") == "None"


def test_a_transaction_belongs_to_its_login_and_survives_a_restart(project: Project) -> None:
    lab = project.network
    project("import", "int")
    project("instance", "int::add", "a")
    project("activate")
    project("transact")
    project("set", "a:in.a", "1")
    project("set", "a:in.b", "2")
    other = Person(lab, "cpc-admin", lab.directory / f"{project.name}-other")
    assert other.run("commit", "-p", project.name).code == 1
    lab.kill_server()
    lab.start()
    assert "Set a:in.a to 1" in project("diff")
    assert project("commit").splitlines()[:2] == ["Set a:in.a to 1", "Set a:in.b to 2"]
    assert project.get("a:out.c") == "3"


def test_arrays_grow_in_order_and_shrink(project: Project, tmp_path: Path) -> None:
    project.upload(JOBS.format(runs="/dev/null", gate="/nosuch"), tmp_path)
    project("transact")
    for number in "123":
        project("set", "store:in.ys[+]", number)
    project("commit")
    assert project.get("store:in.ys") == "[ 1, 2, 3 ]"
    project("unset", "store:in.ys[2]")
    assert project.get("store:in.ys") == "[ 1, 2 ]"
    project("set", "store:in.ys", "[7]")
    assert project.get("store:in.ys") == "[ 7 ]"
    for name in "ab":
        (tmp_path / name).write_text(name)
    project("setf", "store:in.files[+]", str(tmp_path / "a"), str(tmp_path / "b"))
    assert project.get("store:in.files") == "[ a, b ]"
    project("getf", "store:in.files", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out/1/b").read_text() == "b"


def test_names_with_hyphens_and_the_project_anywhere(lab: Network, project: Project) -> None:
    """X22."""
    project("import", "int")
    project("instance", "int::div", "my-inst")
    assert "my_inst (held)" in project("ls")
    for command in (("transact",), ("set", "my-inst:in.a", "8"), ("set", "my_inst.in.b", "0"), ("commit",)):
        lab.cpcc(command[0], "-p", project.name, *command[1:]).done()
    assert project.get("my-inst:in.a") == "8"
    project("activate")
    assert "1 in state 'error'" in lab.cpcc("status", project.name).done()
    assert "zero" in project.get("my-inst.msg.error")
    project("set", "my-inst:in.b", "2")
    lab.cpcc("clear-error", "my-inst", "-p", project.name).done()
    assert project.get("my-inst:out.c") == "4"
    assert lab.cpcc("-p", project.name, "clear-error").done() == "No errors cleared.\n"


def test_an_error_stops_one_instance_and_the_status_leads_to_it(project: Project) -> None:
    """C6, C7, C8."""
    project("import", "float")
    for name in ("bad", "good"):
        project("instance", "float::div", name)
        project("set", f"{name}:in.a", "1")
        project("set", f"{name}:in.b", "4")
    project("activate")
    assert "2 in state 'active'" in project("status", project.name)
    project("set", "bad:in.b", "0")
    said = project("status", project.name)
    assert "1 in state 'error'" in said
    assert "cpcc get bad.msg.error" in said
    assert "zero" in project.get("bad.msg.error")
    project("set", "good:in.b", "8")
    assert project.get("good:out.c") == "0.125"
    assert project.states() == {"bad": "error", "good": "active"}


@pytest.mark.parametrize("function", ["extended_err", "external_err"])
def test_a_controller_adds_warns_stops_and_goes_on(project: Project, function: str) -> None:
    """The original's test of errors: Python of its controller objects, and a program that reads and writes XML."""
    project("import", "_test")
    project("instance", f"_test::{function}", "e")
    project("activate")
    project("transact")
    project("set", "e:in.a", "3")
    project("set", "e:in.b", "4")
    project("commit")
    project.becomes("e:out.a", "7")
    project("set", "e:in.b", "-1")
    project.network.until(lambda: project.states() == {"e": "warning"}, "it warns")
    project("set", "e:in.a", "-1")
    project.network.until(lambda: project.states() == {"e": "error"}, "it is in error")
    assert "negative" in project.get("e.msg.error")
    said = project.network.cpcc("get", "--wait", "e:out.a", "-p", project.name)
    assert said.out == "e:out.a: 2\n", "what it gave before stays"
    project("set", "e:in.a", "5")
    project("set", "e:in.b", "1")
    assert project.states() == {"e": "error"}, "a new input is no pardon"
    project("clear-error", "e")
    project.becomes("e:out.a", "6")


def test_many_jobs_are_collected_in_one_array(project: Project) -> None:
    """The original's benchmark: instances in one transaction, each with a job, and what they give in an array."""
    count = 10
    project("import", "benchmark")
    project("transact")
    project("instance", "benchmark::result_collector", "all")
    project("set", "all:in.num_samples", str(count))
    for at in range(count):
        project("instance", "benchmark::sleep", f"s{at}")
        project("set", f"s{at}:in.sleep_time", "0")
        project("connect", f"s{at}:out.exec_time", f"all:in.sleep_time_array[{at}]")
    project("activate")
    project("commit")
    project("get", "--wait", "--timeout", "300", "all:out.total_time")
    lines = project("getf", "all:out.csv_result").splitlines()
    assert len(lines) == 1 + count
    assert all(project.states()[f"s{at}"] == "active" for at in range(count))


# --- durable ---


def test_a_value_that_was_set_is_there_after_kill_9(project: Project) -> None:
    """X14."""
    project("import", "float")
    project("instance", "float::add", "a")
    project("set", "a:in.b", "0")
    project("activate")
    for number in range(3):
        project("set", "a:in.a", f"{number}.1")
        project.network.kill_server()
        project.network.start()
        assert project.get("a:in.a") == f"{number}.1"
        assert project.get("a:out.c") == f"{number}.1"


def test_what_a_job_gave_is_there_after_kill_9_and_ran_once(project: Project, tmp_path: Path) -> None:
    """X15: killed while the job runs, and when it has just ended; the worker keeps it, and it is not run again."""
    lab = project.network
    runs, gate = tmp_path / "runs", tmp_path / "gate"
    project.upload(JOBS.format(runs=runs, gate=gate), tmp_path)
    for number in range(1, 4):
        gate.touch()
        project("set", "d:in.x", str(number))
        lab.until(lambda number=number: runs.exists() and runs.read_text().count("run") == number, "it runs")  # type: ignore[misc]
        if number == 1:
            lab.kill_server()
            gate.unlink()
            lab.start()
        else:
            gate.unlink()
            lab.kill_server()
            lab.start()
        project.becomes("d:out.y", str(2 * number))
    assert runs.read_text().count("run") == 3
    assert project("getf", "d:out.copy") == "6\n"


def test_a_value_is_explained_by_its_job_worker_and_inputs(project: Project, tmp_path: Path) -> None:
    project.upload(JOBS.format(runs="/dev/null", gate="/nosuch"), tmp_path)
    project("set", "d:in.x", "21")
    assert project("get", "--wait", "--timeout", "300", "d:out.y") == "d:out.y: 42\n"
    said = project("explain", "d:out.y", "--depth", "2")
    job = json.loads(project("jobs", "--json"))["data"][0]
    assert f"by job {job['id']}, attempt 1, worker {job['worker']}" in said
    assert "with d:in.x" in said
    assert "set by user:cpc-admin" in said


def test_a_change_while_a_job_runs_is_computed_when_it_has_ended(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    project.upload(JOBS.format(runs=tmp_path / "runs", gate=gate), tmp_path)
    project("set", "d:in.x", "1")
    project.network.until((tmp_path / "runs").exists, "it runs")
    for number in (2, 3, 4):
        project("set", "d:in.x", str(number))
    gate.unlink()
    project.becomes("d:out.y", "8")
    assert (tmp_path / "runs").read_text().count("run") == 2, "changes meanwhile make one run"


def test_watching_a_project_tells_what_happens_in_its_network(project: Project) -> None:
    project("import", "float")
    watching = project.network.begin("cpcc", "watch", project.name)
    numbers = itertools.count()  # to set what is set already is no change, and nothing to tell

    def told() -> bool:
        project("set", "a:in.a", str(next(numbers)))
        return "network.edited" in watching.said

    project("instance", "float::add", "a")
    project.network.until(told, "the change is told")
    watching.kill()
