"""What the demo says of the molecule: true to the frames and weights that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="the demo's OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture
def basins(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    import basins

    return basins


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    import turn

    return turn


def cloud(phi: float, psi: float, frames: int) -> np.ndarray:
    points = np.random.default_rng(7).normal((phi, psi), 8, (frames, 2))
    return (points + 180) % 360 - 180


def test_every_frame_counts_in_the_basin_it_lies_in_also_across_the_edge_of_the_map(basins: Any) -> None:
    frames = np.concatenate([cloud(-155, 178, 300), cloud(55, 35, 100)])
    parts = basins.populations(frames, np.full(400, 1 / 400))
    assert parts["C5"] == pytest.approx(0.75)
    assert parts["αL"] == pytest.approx(0.25)
    assert sum(parts.values()) == pytest.approx(1)


def test_frames_count_as_much_as_they_weigh(basins: Any) -> None:
    frames = np.array([[-155.0, 160.0], [55.0, 35.0]])
    assert basins.populations(frames, np.array([0.1, 0.9]))["αL"] == pytest.approx(0.9)


def test_only_a_change_from_basins_to_basins_is_a_crossing(basins: Any) -> None:
    there_and_back = np.array([[-60, 0], [10, 0], [-70, 0], [60, 0], [150, 0], [-100, 0]], float)
    assert basins.crossings([there_and_back, there_and_back[:3]]) == 2


def test_it_says_what_was_visited(basins: Any, tmp_path: Path) -> None:
    frames = np.concatenate([cloud(-65, 150, 500), cloud(-70, -20, 500), cloud(55, 35, 500)])
    np.savez(tmp_path / "model.npz", plane=frames, weights=np.full(1500, 1 / 1500), lengths=[500] * 3)
    said = basins.describe(tmp_path / "model.npz")
    assert said.startswith("3 runs, 1500 frames\n")
    assert "PII 33.3%, αR 33.3%, αL 33.3%" in said
    assert "phi > 0 was visited: 33.3%" in said


@pytest.mark.parametrize(("phi", "psi"), [(-155.0, 160.0), (55.0, 40.0), (60.0, -150.0), (-80.0, 75.0)])
def test_a_turned_molecule_has_the_angles_asked_for_and_every_bond_as_it_was(turn: Any, phi: float, psi: float) -> None:
    from openmm import app

    pdb = app.PDBFile(str(DEMO / "alanine.pdb"))
    x = before = pdb.getPositions(asNumpy=True)._value
    torsions = turn.backbone(pdb.topology, 1)
    for atoms, angle in zip(torsions, (phi, psi), strict=True):
        x = turn.turned(x, pdb.topology, atoms, angle)
    assert [turn.torsion(x, *atoms) for atoms in torsions] == pytest.approx([phi, psi], abs=1e-6)

    def bonds(positions: Any) -> list[float]:
        return [float(np.linalg.norm(positions[a.index] - positions[b.index])) for a, b in pdb.topology.bonds()]

    assert bonds(x) == pytest.approx(bonds(before), abs=1e-9)


@pytest.mark.parametrize(("name", "angles"), [("right", (-70, -20)), ("left", (55, 40))])
def test_the_demos_starts_are_what_their_names_say(turn: Any, name: str, angles: tuple[float, float]) -> None:
    from openmm import app

    pdb = app.PDBFile(str(DEMO / f"{name}.pdb"))
    x = pdb.getPositions(asNumpy=True)._value
    found = [turn.torsion(x, *atoms) for atoms in turn.backbone(pdb.topology, 1)]
    assert found == pytest.approx(angles, abs=0.5)  # coordinates have three digits after the point
