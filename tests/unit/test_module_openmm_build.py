"""openmm::build: the molecule is what it should be, and its fast water is the slow water's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np
import openmm as mm
from openmm import app

from cpc.api import Failed, File
from cpc.api.testing import PYTHON, Bench
from cpc.plugins.modules import openmm as module

ALANINE = Path(__file__).resolve().parents[2] / "demo" / "alanine.pdb"
FORCE_FIELD = "amber14/protein.ff14SB.xml"
WET = {"force_field": [FORCE_FIELD], "water": "obc2", "cutoff": 0.0}


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(module.JOBS))
    import build

    return build


@pytest.fixture
def pdb() -> app.PDBFile:
    return app.PDBFile(str(ALANINE))


def energy_and_forces(system: mm.System, positions: Any) -> tuple[float, np.ndarray]:
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def test_the_molecule_of_the_demo_is_l_alanine_between_its_caps(pdb: app.PDBFile) -> None:
    assert [residue.name for residue in pdb.topology.residues()] == ["ACE", "ALA", "NME"]
    assert pdb.topology.getNumAtoms() == 22
    x = pdb.getPositions(asNumpy=True)._value
    at = {atom.name: x[atom.index] for atom in list(pdb.topology.residues())[1].atoms()}
    handedness = np.cross(at["N"] - at["CA"], at["C"] - at["CA"]) @ (at["CB"] - at["CA"])
    assert handedness > 0.001


def test_native_water_has_the_energies_and_forces_of_the_implicit_solvent_force_field(
    build: Any, pdb: app.PDBFile
) -> None:
    fast = build.build(pdb, WET)
    slow = app.ForceField(FORCE_FIELD, "implicit/obc2.xml").createSystem(pdb.topology, constraints=app.HBonds)
    chance = np.random.default_rng(1)
    for _ in range(5):
        x = pdb.getPositions(asNumpy=True)._value + chance.normal(0, 0.01, (22, 3))
        (fast_energy, fast_forces), (slow_energy, slow_forces) = (energy_and_forces(s, x) for s in (fast, slow))
        assert fast_energy == pytest.approx(slow_energy, abs=0.01)  # kJ/mol; the constants differ in the 6th digit
        np.testing.assert_allclose(fast_forces, slow_forces, rtol=1e-3, atol=0.1)


def test_the_water_matters_to_the_energy(build: Any, pdb: app.PDBFile) -> None:
    wet, dry = build.build(pdb, WET), build.build(pdb, {**WET, "water": ""})
    x = pdb.getPositions(asNumpy=True)._value
    assert energy_and_forces(wet, x)[0] < energy_and_forces(dry, x)[0] - 20


def test_a_cutoff_is_taken_by_the_water_too(build: Any, pdb: app.PDBFile) -> None:
    system = build.build(pdb, {**WET, "cutoff": 0.9})
    (water,) = [force for force in system.getForces() if isinstance(force, mm.GBSAOBCForce)]
    assert water.getCutoffDistance()._value == 0.9


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"force_field": ["amber14/nosuch.xml"]}, "the force field does not fit the structure:"),
        ({"water": "heavy"}, "there is no water 'heavy'; there is 'obc2'"),
    ],
)
def test_what_cannot_be_built_is_said_in_the_error(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Failed, match=said):
        Bench(tmp_path, {"openmm": PYTHON}).run(module.build, structure=File(ALANINE), **wrong)
