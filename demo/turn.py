"""Turn the backbone of a peptide to given angles: another place for runs to begin at.

python turn.py alanine.pdb --phi 55 --psi 40 > left.pdb
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from openmm import app


def torsion(x: np.ndarray, a: int, b: int, c: int, d: int) -> float:
    """The torsion angle of four atoms, degrees."""
    u, v, w = x[b] - x[a], x[c] - x[b], x[d] - x[c]
    across = np.cross(v, w)
    return float(np.degrees(np.arctan2(np.linalg.norm(v) * u @ across, np.cross(u, v) @ across)))


def turned(x: np.ndarray, topology: app.Topology, atoms: tuple[int, ...], angle: float) -> np.ndarray:
    """The coordinates with this torsion at `angle`: what hangs on its third atom is rotated about the middle bond."""
    _, b, c, _ = atoms
    bonds = [{one.index, other.index} for one, other in topology.bonds()]
    moved, size = {c}, 0
    while size < len(moved):
        size = len(moved)
        moved |= set().union(*(bond for bond in bonds if bond & moved and bond != {b, c}))
    rows, axis = sorted(moved), (x[c] - x[b]) / np.linalg.norm(x[c] - x[b])
    by = np.radians(angle - torsion(x, *atoms))
    arm, result = x[rows] - x[b], x.copy()
    along = np.outer(arm @ axis, axis)
    result[rows] = x[b] + along + np.cos(by) * (arm - along) + np.sin(by) * np.cross(axis, arm)
    return result


def backbone(topology: app.Topology, residue: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The atoms of phi and psi of a residue (numbered from 0)."""
    three = list(topology.residues())[residue - 1 : residue + 2]
    before, here, after = ({atom.name: atom.index for atom in one.atoms()} for one in three)
    return (before["C"], here["N"], here["CA"], here["C"]), (here["N"], here["CA"], here["C"], after["N"])


def main() -> None:
    words = argparse.ArgumentParser(description="Turn the backbone of a peptide to given angles.")
    words.add_argument("pdb")
    words.add_argument("--residue", type=int, default=1, help="whose phi and psi, counted from 0 (default: 1)")
    words.add_argument("--phi", type=float, required=True, help="degrees")
    words.add_argument("--psi", type=float, required=True, help="degrees")
    wanted = words.parse_args()
    pdb = app.PDBFile(wanted.pdb)
    x = pdb.getPositions(asNumpy=True)._value
    for atoms, angle in zip(backbone(pdb.topology, wanted.residue), (wanted.phi, wanted.psi), strict=True):
        x = turned(x, pdb.topology, atoms, angle)
    app.PDBFile.writeFile(pdb.topology, 10 * x, sys.stdout, keepIds=True)


if __name__ == "__main__":
    main()
