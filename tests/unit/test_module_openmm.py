"""openmm::simulate: killed at any moment, a run goes on to the same trajectory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np

from cpc.api import Failed, File
from cpc.api.testing import PYTHON, Bench
from cpc.plugins.modules import openmm

ALANINE = Path(__file__).resolve().parents[2] / "demo" / "alanine.pdb"
STEPS = 40_000
REQUEST = {
    "steps": STEPS, "every": 100, "checkpoint": 10_000, "temperature": 300.0, "friction": 1.0, "timestep": 0.002, "seed": 3,
    "frame": 0, "minimize": 100, "platform": "Reference",
}  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("molecule")
    made = Bench(folder, {"openmm": PYTHON}).run(openmm.build, structure=File(ALANINE), water="obc2")
    return Path(shutil.copy(made["system"], folder / "system.xml"))


@pytest.fixture
def directory(tmp_path: Path, system: Path) -> Path:
    return place(tmp_path / "run", system)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads the trajectory in a directory."""
    monkeypatch.syspath_prepend(str(openmm.JOBS))
    import dcd

    return lambda folder: dcd.read(folder / "trajectory.dcd")


def place(directory: Path, system: Path) -> Path:
    directory.mkdir()
    shutil.copy(system, directory / "system.xml")
    shutil.copy(ALANINE, directory / "structure.pdb")
    for name in ("simulate.py", "dcd.py"):
        shutil.copy(openmm.JOBS / name, directory)
    return directory


@contextmanager
def started(directory: Path, **request: Any) -> Iterator[subprocess.Popen[str]]:
    (directory / "request.json").write_text(json.dumps({**REQUEST, **request}))
    with subprocess.Popen(
        [sys.executable, "simulate.py"], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def finish(directory: Path, **request: Any) -> str:
    with started(directory, **request) as process:
        said, wrong = process.communicate(timeout=120)
        assert process.returncode == 0, wrong
    return said


def test_a_run_killed_twice_has_the_trajectory_of_an_undisturbed_one_to_the_last_bit(
    directory: Path, tmp_path: Path, system: Path, read: Any
) -> None:
    for ends in (r"step [1-4]0000 ", r"step [34]0000 "):  # it goes on until it is killed
        with started(directory) as process:
            assert any(re.match(ends, line) for line in lines(process))
            process.send_signal(signal.SIGKILL)
    assert re.match(r"continued at step [34]0000\n", finish(directory))
    undisturbed = place(tmp_path / "undisturbed", system)
    finish(undisturbed)
    np.testing.assert_array_equal(read(directory), read(undisturbed))  # the files differ in the time they were begun
    assert len(read(directory)) == STEPS // 100


def test_frames_that_a_checkpoint_does_not_know_are_written_anew_and_none_is_there_twice(
    directory: Path, read: Any
) -> None:
    finish(directory, steps=20_000)
    whole = (directory / "trajectory.dcd").read_bytes()
    with (directory / "trajectory.dcd").open("ab") as file:
        file.write(whole[-5000:])  # what a run that was killed had written after its last checkpoint
    assert finish(directory, steps=20_100).startswith("continued at step 20000\n")
    assert read(directory).shape == (201, 22, 3)


def test_sigterm_leaves_a_checkpoint_of_that_moment_and_a_failing_exit_code(directory: Path, read: Any) -> None:
    with started(directory, steps=10_000_000) as process:
        assert any(line.startswith("step 10000 ") for line in lines(process))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said.endswith("told to stop\n")
    step = 100 * len(read(directory))
    assert step > 10_000
    assert f"continued at step {step}\n" in finish(directory, steps=step + 1000)
    assert len(read(directory)) == (step + 1000) // 100


def test_each_seed_gives_its_own_trajectory_and_the_same_one_each_time(tmp_path: Path, system: Path, read: Any) -> None:
    found = []
    for number, seed in enumerate((3, 3, 4)):
        folder = place(tmp_path / str(number), system)
        finish(folder, steps=1000, seed=seed)
        found.append(read(folder))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_run_begins_at_the_frame_of_another_that_it_is_told(
    directory: Path, tmp_path: Path, system: Path, read: Any
) -> None:
    finish(directory, steps=2000)
    other = place(tmp_path / "other", system)
    shutil.copy(directory / "trajectory.dcd", other / "start")
    finish(other, steps=2, every=1, frame=7)
    assert abs(read(other)[0] - read(directory)[7]).max() < 0.02
    with started(other, frame=20) as process:
        (other / "state.chk").unlink(missing_ok=True)
        _, wrong = process.communicate(timeout=60)
    assert wrong == "there are 20 frames to start from, and none with number 20\n"


def test_a_run_in_a_box_begins_with_the_box_of_the_frame_it_begins_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(openmm.JOBS))
    import dcd

    edge = 2.5
    structure = tmp_path / "boxed.pdb"
    structure.write_text(f"CRYST1{10 * edge:9.3f}{10 * edge:9.3f}{10 * edge:9.3f}  90.00  90.00  90.00 P 1           1\n"
                         + ALANINE.read_text())  # fmt: skip
    bench = Bench(tmp_path / "bench", {"openmm": PYTHON})
    system = bench.run(openmm.build, structure=File(structure), cutoff=0.9)["system"]
    text = system.read_text().replace('x="2.5"', 'x="2.4"').replace('y="2.5"', 'y="2.4"').replace('z="2.5"', 'z="2.4"')
    (tmp_path / "smaller.xml").write_text(text)
    common = {"structure": File(structure), "platform": "Reference", "every": 1}
    first = bench.run(openmm.simulate, system=system, steps=3, **common)["trajectory"]
    assert dcd.cells(first.path) == pytest.approx(np.array([[edge, edge, edge, 90, 90, 90]] * 3))
    second = bench.run(
        openmm.simulate, system=File(tmp_path / "smaller.xml"), steps=2, start=first, frame=-1, **common
    )["trajectory"]
    assert dcd.cells(second.path) == pytest.approx(np.array([[edge, edge, edge, 90, 90, 90]] * 2))


def test_it_is_at_work_in_under_a_second(directory: Path) -> None:
    usage = os.times()
    finish(directory, steps=100)
    after = os.times()
    assert (after.children_user + after.children_system) - (usage.children_user + usage.children_system) < 1.0


def test_the_function_takes_what_a_run_leaves(tmp_path: Path, system: Path) -> None:
    bench = Bench(tmp_path, {"openmm": PYTHON})
    made = bench.run(
        openmm.simulate, structure=File(ALANINE), system=File(system), steps=1000, every=100, platform="Reference"
    )
    assert made["final"].read_text().count("ATOM") + made["final"].read_text().count("HETATM") == 22
    assert "step 1000" not in made["log"].read_text()  # a checkpoint each 50 frames
    (job,) = bench.answers[0].jobs
    assert job.spec.checkpoint == ("state.chk", "trajectory.dcd")
    with pytest.raises(Failed, match="every = 0: give 1 or more"):
        bench.run(openmm.simulate, structure=File(ALANINE), system=File(system), steps=1000, every=0)
