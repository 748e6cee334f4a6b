"""The demo's picture: true to the frames it is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    import picture

    return picture


def cloud(phi: float, psi: float, frames: int) -> np.ndarray:
    points = np.random.default_rng(7).normal((phi, psi), 8, (frames, 2))
    return (points + 180) % 360 - 180


def test_every_frame_is_counted_in_the_basin_it_lies_in_also_across_the_edge_of_the_map(picture: Any) -> None:
    frames = np.concatenate([cloud(-155, 178, 300), cloud(55, 35, 100)])
    parts = picture.populations(frames)
    assert parts["C5"] == pytest.approx(0.75)
    assert parts["αL"] == pytest.approx(0.25)
    assert sum(parts.values()) == pytest.approx(1)


def test_the_free_energy_is_the_logarithm_of_the_populations(picture: Any) -> None:
    frames = np.repeat([[-63.0, -21.0], [57.0, 33.0]], [8000, 1000], axis=0)
    energy = picture.free_energy(frames)
    at = {name: (int((psi + 180) // 6), int((phi + 180) // 6)) for name, phi, psi in (("R", -63, -21), ("L", 57, 33))}
    assert energy[at["R"]] == 0
    assert energy[at["L"]] == pytest.approx(picture.KT * np.log(8))
    assert np.isnan(energy[0, 0])


def test_only_a_change_from_basins_to_basins_is_a_crossing(picture: Any) -> None:
    there_and_back = np.array([[-60, 0], [10, 0], [-70, 0], [60, 0], [150, 0], [-100, 0]], float)
    assert picture.crossings([there_and_back, there_and_back[:3]]) == 2


def test_it_draws_and_says_what_was_visited(tmp_path: Path) -> None:
    for number, (phi, psi) in enumerate([(-65, 150), (-70, -20), (55, 35)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.savez(folder / "trajectory.npz", angles=cloud(phi, psi, 500), start=(phi, psi), picoseconds=100.0)
    target = tmp_path / "map.png"
    run = subprocess.run(
        [sys.executable, DEMO / "picture.py", tmp_path, target], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.startswith("0.30 ns in 3 runs, 1500 frames\n")
    assert "PII 33.3%, αR 33.3%, αL 33.3%" in run.stdout
    assert "phi > 0 was visited: 33.3%" in run.stdout
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_trajectories_is_one_clear_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, DEMO / "picture.py", tmp_path, tmp_path / "map.png"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "no trajectory.npz" in run.stderr
