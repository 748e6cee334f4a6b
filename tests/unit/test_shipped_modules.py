"""The small modules that ship with the server, with the original's names."""

from __future__ import annotations

from pathlib import Path

import pytest

import cpc.plugins.modules
from cpc.api.testing import Bench, Project, RunningJob
from cpc.controller.run import run
from cpc.core.journal import Journal
from cpc.dataflow import xml
from cpc.dataflow.description import ModuleText
from cpc.dataflow.library import Library
from cpc.plugins.modules import benchmark, file

SHIPPED = Path(cpc.plugins.modules.__file__).parent


def module(name: str) -> ModuleText:
    path = next(path for path in (SHIPPED / f"{name}.xml", SHIPPED / name / "_import.xml") if path.exists())
    return xml.read(path.read_text(), name, source=str(path), directory=str(path.parent))


def test_types_alone_can_be_imported() -> None:
    library = Library(module)
    for name in ("resource", "coord", "meas"):
        library.need(name, Journal())
        assert not module(name).code
    assert [one.name for one in library.type("coord::coord_3d").fields] == ["x", "y", "z"]
    assert library.type("resource::run_desc").below("min").member is library.type("int")
    assert [one.name for one in library.type("meas::meas").fields] == ["value", "error"]


def test_files_are_joined_and_written(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "two").write_text("2\n")
    bench = Bench(tmp_path)
    assert bench.run(file.cat, a=tmp_path / "one", b=tmp_path / "two")["c"].read_text() == "1\n2\n"
    assert bench.run(file.to_file, a=[0.1, 2.0])["b"].read_text() == "0.1\n2.0\n"
    found = bench.run(file.ext_test, a=[1.0, 2.0], b=[0.5, 0.25])
    assert found["c"] == [1.5, 2.25]
    assert found["bfile"].read_text() == "0.5\n0.25\n"


def test_sleeps_are_collected(tmp_path: Path) -> None:
    def sleep(job: RunningJob) -> int:
        assert job.args == ("0",)
        return 0

    project = Project(tmp_path, benchmark, programs={"benchmark/sleep": sleep})
    project.add("results", "benchmark::result_collector")
    project.set("results:in.num_samples", 3)
    for number in range(3):
        project.add(f"sleep_{number}", "benchmark::sleep")
        project.set(f"sleep_{number}:in.sleep_time", 0)
        project.connect(f"sleep_{number}:out.exec_time", f"results:in.sleep_time_array[{number}]")
    project.run()
    times = project.get("sleep_0:out.exec_time")
    assert times["roundtrip_time"] == times["end_timestamp"] - times["start_timestamp"]
    start, end = project.get("results:out.start_time"), project.get("results:out.end_time")
    assert project.get("results:out.total_time") == end - start
    assert len(project.get("results:out.csv_result").read_text().splitlines()) == 4


def test_terms_are_added(tmp_path: Path) -> None:
    assert Bench(tmp_path).run(benchmark.multi_add, terms=[0.1] * 10) == {"sum": 1.0}


@pytest.mark.parametrize("kind", ["extended_err", "external_err"])
def test_errors_and_warnings_on_demand(tmp_path: Path, kind: str) -> None:
    project = Project(tmp_path, module("_test"), runs=run)
    project.add("e", f"_test::{kind}")
    project.set("e:in.a", 3)
    project.set("e:in.b", 4)
    project.run()
    assert (project.get("e:out.a"), project.state("e")) == (7.0, "active")
    project.set("e:in.b", -1)
    project.run()
    assert (project.get("e:out.a"), project.state("e")) == (2.0, "warning")
    project.set("e:in.a", -1)
    project.run(check=False)
    assert (project.error("e"), project.state("e")) == ("A was negative!", "error")
