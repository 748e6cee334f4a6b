"""Whole networks tried out without a server: the engine is the real one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cpc.api import Failed
from cpc.api.testing import Project, RunningJob
from cpc.controller import loading
from cpc.controller.run import run
from cpc.core.errors import BadInput, NotFound
from tests.unit.test_original_modules import MODULES, module


@pytest.fixture
def sampling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(MODULES))
    return loading.module("sampling")


def sample(job: RunningJob) -> int:
    job.write("stdout", str(float(job.args[0]) % 3))
    return 0


def test_a_controller_builds_a_network_of_its_own(tmp_path: Path, sampling: ModuleType) -> None:
    project = Project(tmp_path, sampling, programs={"toy/sample": sample})
    project.add("a", "sampling::adaptive")
    project.add("d", "sampling::double")
    project.connect("a:out.mean", "d:in.a")
    project.set("a:in.most", 8)
    project.run()
    assert project.get("a:out.rounds") == 4
    assert project.get("a:out.mean") == pytest.approx(0.875)
    assert project.get("d:out.c") == pytest.approx(1.75)
    assert project.ran == 8
    assert len(project.instances()) == 10


def test_a_changed_input_runs_again_what_depends_on_it_and_nothing_else(tmp_path: Path, sampling: ModuleType) -> None:
    project = Project(tmp_path, sampling, programs={"toy/sample": sample})
    for name in ("one", "two"):
        project.add(name, "sampling::sample")
        project.set(f"{name}:in.seed", 2)
    project.run()
    project.set("one:in.seed", 4)
    project.run()
    assert (project.get("one:out.value"), project.get("two:out.value")) == (1.0, 2.0)
    assert project.ran == 3


def test_one_element_serves_for_all_where_a_function_says_so(tmp_path: Path, sampling: ModuleType) -> None:
    project = Project(tmp_path, sampling)
    project.add("s", "sampling::sums")
    project.set("s:in.xs", [1.0, 2.0, 3.0])
    project.set("s:in.ys", [10.0])
    project.run()
    assert project.get("s:out.result") == [11.0, 12.0, 13.0]
    project.set("s:in.ys", [10.0, 20.0])
    project.run()
    assert project.get("s:out.result") == [11.0, 12.0, 13.0], "three and two do not go together: it waits"


def test_an_error_stops_one_instance_and_is_told(tmp_path: Path, sampling: ModuleType) -> None:
    project = Project(tmp_path, sampling)
    for name in ("bad", "good"):
        project.add(name, "sampling::negative")
    project.set("bad:in.a", -1.0)
    project.set("good:in.a", 1.0)
    with pytest.raises(Failed, match="bad: ValueError: A was negative!"):
        project.run()
    assert (project.state("bad"), project.state("good")) == ("error", "active")
    assert project.get("good:out.result") == -1.0


def test_what_cannot_be_is_refused_as_on_a_server(tmp_path: Path, sampling: ModuleType) -> None:
    project = Project(tmp_path, sampling)
    project.add("d", "sampling::double")
    with pytest.raises(BadInput):
        project.set("d:in.a", "much")
    with pytest.raises(NotFound):
        project.add("e", "sampling::no_such_thing")


def test_ported_modules_can_be_tried_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(job: RunningJob) -> int:
        job.write("stdout", str(2 * int(job.args[0])))
        return 0

    monkeypatch.syspath_prepend(str(MODULES))
    project = Project(tmp_path, module("resource"), module("ported"), programs={"ported/double": twice}, runs=run)
    project.add("db", "ported::double")
    project.set("db:in.xs[+]", 2)
    project.run()
    project.set("db:in.xs[+]", 5)
    project.run()
    assert project.get("db:out.ys") == [4, 10]
    assert project.ran == 2
