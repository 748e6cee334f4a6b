"""The demo's job: killed at any moment, it goes on to the same trajectory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="the demo's OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np
from openmm import app

DEMO = Path(__file__).resolve().parents[2] / "demo"
STEPS = 40_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("molecule") / "system.xml"
    subprocess.run([sys.executable, DEMO / "molecule.py", DEMO / "alanine.pdb", target], check=True, timeout=60)
    return target


@pytest.fixture
def directory(tmp_path: Path, system: Path) -> Path:
    return place(tmp_path / "run", system)


def place(directory: Path, system: Path) -> Path:
    directory.mkdir()
    for file in (system, DEMO / "alanine.pdb", DEMO / "simulate.py"):
        shutil.copy(file, directory)
    return directory


@contextmanager
def started(directory: Path, steps: int = STEPS, seed: int = 3) -> Iterator[subprocess.Popen[str]]:
    words = f"simulate.py alanine.pdb --phi 55 --psi 40 --seed {seed} --steps {steps}".split()
    with subprocess.Popen([sys.executable, *words], cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def finish(directory: Path, steps: int = STEPS, seed: int = 3) -> tuple[str, dict[str, np.ndarray]]:
    with started(directory, steps, seed) as process:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    return said, dict(np.load(directory / "trajectory.npz"))


def test_a_run_killed_twice_has_the_trajectory_of_an_undisturbed_one_to_the_last_bit(
    directory: Path, tmp_path: Path, system: Path
) -> None:
    for end in ("step 10000 ", "step 30000 "):
        with started(directory) as process:
            assert any(line.startswith(end) for line in lines(process))
            process.send_signal(signal.SIGKILL)
    said, killed = finish(directory)
    _, undisturbed = finish(place(tmp_path / "undisturbed", system))

    assert said.startswith("continued at step 30000\n")
    assert killed.pop("continued").tolist() == [10_000, 30_000]
    assert undisturbed.pop("continued").tolist() == []
    assert killed["angles"].shape == (STEPS // 100, 2)
    assert killed["positions"].shape == (STEPS // 1000, 22, 3)
    assert killed.keys() == undisturbed.keys()
    for name, values in undisturbed.items():
        np.testing.assert_array_equal(killed[name], values, err_msg=name)


def test_sigterm_leaves_a_checkpoint_of_that_moment_and_a_failing_exit_code(directory: Path) -> None:
    with started(directory, steps=10_000_000) as process:
        assert any(line.startswith("step 10000 ") for line in lines(process))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "told to stop" in said
    assert not (directory / "trajectory.npz").exists()
    with np.load(directory / "checkpoint.npz") as saved:
        step = int(saved["step"])
        assert step > 10_000
        assert len(saved["angles"]) == step // 100
    said, trajectory = finish(directory, steps=step + 1000)
    assert f"continued at step {step}\n" in said
    assert len(trajectory["angles"]) == (step + 1000) // 100


def test_each_seed_gives_its_own_trajectory_and_the_same_one_each_time(directory: Path) -> None:
    first, again, other = (finish(directory, steps=1000, seed=seed)[1]["angles"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_is_at_work_in_under_a_second(directory: Path) -> None:
    usage = os.times()
    finish(directory, steps=100)
    after = os.times()
    assert (after.children_user + after.children_system) - (usage.children_user + usage.children_system) < 1.0


@pytest.mark.parametrize(("phi", "psi"), [(-155.0, 160.0), (55.0, 40.0), (60.0, -150.0), (-80.0, 75.0)])
def test_a_start_has_the_angles_asked_for_and_every_bond_as_it_was(
    phi: float, psi: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DEMO))
    import simulate

    pdb = app.PDBFile(str(DEMO / "alanine.pdb"))
    x = before = pdb.getPositions(asNumpy=True)._value
    torsions = simulate.backbone(pdb.topology, 1)
    for atoms, angle in zip(torsions, (phi, psi), strict=True):
        x = simulate.turned(x, pdb.topology, atoms, angle)
    assert [simulate.torsion(x, *atoms) for atoms in torsions] == pytest.approx([phi, psi], abs=1e-6)

    def bonds(positions: Any) -> list[float]:
        return [float(np.linalg.norm(positions[a.index] - positions[b.index])) for a, b in pdb.topology.bonds()]

    assert bonds(x) == pytest.approx(bonds(before), abs=1e-9)
