"""The demo's molecule: what it is, and that its fast water is the slow water's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmm", reason="the demo's OpenMM is not installed (pip install 'copernicus-computing[demo]')")

import numpy as np
import openmm as mm
from openmm import app

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture
def molecule(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEMO))
    import molecule

    return molecule


@pytest.fixture
def pdb() -> app.PDBFile:
    return app.PDBFile(str(DEMO / "alanine.pdb"))


def energy_and_forces(system: mm.System, positions: Any) -> tuple[float, np.ndarray]:
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def test_the_molecule_is_l_alanine_between_its_caps(pdb: app.PDBFile) -> None:
    assert [residue.name for residue in pdb.topology.residues()] == ["ACE", "ALA", "NME"]
    assert pdb.topology.getNumAtoms() == 22
    x = pdb.getPositions(asNumpy=True)._value
    at = {atom.name: x[atom.index] for atom in list(pdb.topology.residues())[1].atoms()}
    handedness = np.cross(at["N"] - at["CA"], at["C"] - at["CA"]) @ (at["CB"] - at["CA"])
    assert handedness > 0.001


def test_native_water_has_the_energies_and_forces_of_the_implicit_solvent_force_field(
    molecule: Any, pdb: app.PDBFile
) -> None:
    fast = molecule.build(pdb)
    slow = app.ForceField(molecule.FORCE_FIELD, "implicit/obc2.xml").createSystem(pdb.topology, constraints=app.HBonds)
    chance = np.random.default_rng(1)
    for _ in range(5):
        x = pdb.getPositions(asNumpy=True)._value + chance.normal(0, 0.01, (22, 3))
        (fast_energy, fast_forces), (slow_energy, slow_forces) = (energy_and_forces(s, x) for s in (fast, slow))
        assert fast_energy == pytest.approx(slow_energy, abs=0.01)  # kJ/mol; the constants differ in the 6th digit
        np.testing.assert_allclose(fast_forces, slow_forces, rtol=1e-3, atol=0.1)


def test_the_water_matters_to_the_energy(molecule: Any, pdb: app.PDBFile) -> None:
    wet = molecule.build(pdb)
    dry = app.ForceField(molecule.FORCE_FIELD).createSystem(pdb.topology, constraints=app.HBonds)
    x = pdb.getPositions(asNumpy=True)._value
    assert energy_and_forces(wet, x)[0] < energy_and_forces(dry, x)[0] - 20
