"""Functions of modules on a real server: what their code computes and breaks, and what a kill of the server leaves of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.network_of_processes import Network
from tests.helpers.network_project import Project

MODULES = Path(__file__).parents[1] / "fixtures" / "modules"


@pytest.fixture(scope="module")
def lab(make_network: Callable[..., Network]) -> Iterator[Network]:
    """A network with this repository's test modules installed, and a worker."""
    network = make_network()
    library = network.place.parent.parent / "lib"
    library.mkdir()
    for name in ("toys.py", "adder.xml", "adder_program", "absent.xml"):
        shutil.copy(MODULES / name, library)
    with network.working():
        yield network


@pytest.fixture
def project(lab: Network, request: pytest.FixtureRequest) -> Project:
    """A project of the test's own."""
    if not lab.alive:
        lab.start()
    return Project(lab, request.node.name[:60].replace("[", "-").rstrip("]"))


def build(project: Project, module: str, *instances: tuple[str, str]) -> None:
    project("import", module)
    for function, name in instances:
        project("instance", f"{module}::{function}", name)
    project("activate")


CODE = """<cpc><function id="f" type="python"><inputs><field id="x" type="float"/></inputs>
<outputs><field id="result" type="float"/></outputs><controller import="math" function="math.{}"/></function></cpc>"""


def test_what_names_code_that_is_not_there_is_refused_and_leaves_nothing(project: Project, tmp_path: Path) -> None:
    said = project.refused("import", "absent")
    assert "absent.xml, function missing: " in said
    assert "there_is_no_such_program is no program that can be run" in said
    (tmp_path / "bad.xml").write_text(CODE.format("nosuch"))
    said = project.refused("upload", str(tmp_path / "bad.xml"))
    assert "the upload, function f: Python module math has no nosuch" in said
    assert project.refused("info", "absent")
    (tmp_path / "good.xml").write_text(CODE.format("sqrt"))
    project("upload", str(tmp_path / "good.xml"))
    project("instance", "f", "f")


@pytest.mark.parametrize("kind", ["extended_err", "external_err"])
def test_errors_and_warnings_are_shown_and_cleared(project: Project, kind: str) -> None:
    build(project, "_test", (kind, "e"))
    project("transact")
    project("set", "e:in.a", "3")
    project("set", "e:in.b", "4")
    project("commit")
    project.becomes("e:out.a", "7")
    project("set", "e:in.b", "-1")
    project.becomes("e.msg.warning", "B was negative!")
    project("set", "e:in.a", "-1")
    project.becomes("e.msg.error", "A was negative!")
    project("set", "e:in.a", "1")
    project("set", "e:in.b", "1")
    project("clear-error")
    project.becomes("e:out.a", "2")
    assert project.states() == {"e": "active"}


def test_sleeps_run_on_workers_and_are_collected(project: Project) -> None:
    names = [f"sleep_{number}" for number in range(3)]
    build(project, "benchmark", ("result_collector", "results"), *(("sleep", name) for name in names))
    project("transact")
    project("set", "results:in.num_samples", "3")
    for number, name in enumerate(names):
        project("set", f"{name}:in.sleep_time", "0")
        project("connect", f"{name}:out.exec_time", f"results:in.sleep_time_array[{number}]")
    project("commit")
    project.network.until(lambda: project.get("results:out.total_time") != "None", "all have slept")
    assert len(project("getf", "results:out.csv_result").splitlines()) == 4


def test_code_that_crashes_hurts_one_instance_only(project: Project) -> None:
    build(project, "toys", ("crash", "bad"), ("endless", "long"), ("add", "good"))
    for item, value in (("bad:in.a", "1"), ("long:in.a", "1"), ("good:in.a", "1")):
        project("set", item, value)
    project.becomes("good:out.c", "2")
    project.network.until(lambda: "crashed (SIGSEGV)" in project.get("bad.msg.error"), "the crash is told")
    project.network.until(lambda: "longer than its limit" in project.get("long.msg.error"), "the endless loop is told")
    assert project.states() == {"bad": "error", "long": "error", "good": "active"}


def test_what_is_printed_is_in_the_log(project: Project, tmp_path: Path) -> None:
    build(project, "toys", ("spell", "s"))
    project("set", "s:in.text", "abc")
    project.network.until(lambda: project.get("s:out.result") != "None", "it is spelt")
    assert "spelling abc" in project("log", "s")
    project("getf", "-f", str(tmp_path / "spelt"), "s:out.result")
    assert (tmp_path / "spelt").read_text() == "a b c"


def test_files_of_the_server_are_no_outputs(project: Project) -> None:
    build(project, "toys", ("steal", "s"))
    project("set", "s:in.path", str(project.network.place / "authority.key"))
    project.network.until(lambda: project.get("s.msg.error") != "None", "it is refused")
    assert project.get("s:out.result") == "None"


def test_an_external_program_computes(project: Project) -> None:
    build(project, "adder", ("add", "x"))
    project("set", "x:in.a", "0.1")
    project("set", "x:in.b[+]", "0.2")
    project.becomes("x:out.sum", "0.30000000000000004")
    assert project("getf", "x:out.report") == "added <&> done"


def controllers(network: Network) -> list[int]:
    """The controller processes of this test's server."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"cpc.controller" in words and str(network.place.parent.parent / "lib").encode() in words:
                found.append(int(process.name))
    return found


def test_a_step_under_way_when_the_server_is_killed_is_run_again(project: Project) -> None:
    network = project.network
    build(project, "toys", ("nap", "n"))
    project("set", "n:in.seconds", "2")
    network.until(lambda: controllers(network), "its process has begun")
    network.kill_server()
    network.until(lambda: not controllers(network), "controllers end with their server")
    network.start()
    network.until(lambda: project.get("n:out.result") != "None", "it has napped")
    assert project.states() == {"n": "active"}


def test_a_backup_has_what_functions_keep_on_disk(project: Project, tmp_path: Path) -> None:
    network, saved = project.network, tmp_path / "saved.tar"
    build(project, "toys", ("tally", "c"))
    for run in ("1", "2"):
        project("set", "c:in.n", run)
        project.becomes("c:out.count", run)
    made = network.run("cpc-server", "backup", str(saved))
    assert made.code == 0
    assert "/elsewhere is no file, nor a link that stays within its directory" in made.err
    assert "do not have all of its directory: elsewhere is no file" in project("log", "c")
    project("set", "c:in.n", "3")
    project.becomes("c:out.count", "3")
    network.stop_server()
    network.run("cpc-server", "restore", "--force", str(saved)).done()
    network.start()
    assert project.get("c:out.count") == "2"
    (directory,) = network.run_directory.glob("projects/*/*/persistent-*")
    assert (os.readlink(directory / "last"), (directory / "last").read_text()) == ("runs/count", "2")
    assert not (directory / "elsewhere").is_symlink()
    project("set", "c:in.n", "4")
    project.becomes("c:out.count", "3")
    assert project.get("c.msg.warning") == "None"
    for directory in network.run_directory.glob("projects/*/*/persistent-*"):
        shutil.rmtree(directory)
    project("set", "c:in.n", "5")
    project.becomes("c:out.count", "1")
    assert "begun with an empty one" in project.get("c.msg.warning")
