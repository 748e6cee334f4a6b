"""What of a molecule's shape the Markov states are made of: numbers for each frame, from its coordinates.

A function of one's own is a Python file with `features(x, atoms)`: `x` (frames, atoms, 3) in nm, `atoms` as `atoms_of` has
them; it returns (frames, numbers).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Atom:
    """One atom of the structure: its name, and its residue's name and place in the chain of residues, from 0."""

    name: str
    residue: str
    number: int
    chain: str


def atoms_of(pdb: Path) -> list[Atom]:
    """The atoms of the first model of a PDB file, in their order."""
    found: list[Atom] = []
    last, number = "", -1
    for line in pdb.read_text().splitlines():
        if line.startswith("ENDMDL"):
            break
        if line.startswith(("ATOM", "HETATM")):
            if line[17:27] != last:
                last, number = line[17:27], number + 1
            found.append(Atom(line[12:16].strip(), line[17:20].strip(), number, line[21]))
    return found


def backbone(atoms: list[Atom]) -> list[tuple[int, int, int, int]]:
    """The atoms of phi and psi, in turn, of every residue that has both."""
    index = {(atom.chain, atom.number, atom.name): at for at, atom in enumerate(atoms)}
    found = []
    for chain, number in dict.fromkeys((atom.chain, atom.number) for atom in atoms):
        places = [(number - 1, "C"), (number, "N"), (number, "CA"), (number, "C"), (number + 1, "N")]
        five = [index.get((chain, *place)) for place in places]
        if None not in five:
            c, n, ca, c_own, n_next = (one for one in five if one is not None)
            found += [(c, n, ca, c_own), (n, ca, c_own, n_next)]
    return found


def torsions(x: Array, fours: list[tuple[int, int, int, int]]) -> Array:
    """The torsion angles (frames, len(fours)), radians from −π to π."""
    a, b, c, d = (x[:, [four[at] for four in fours]] for at in range(4))
    u, v, w = b - a, c - b, d - c
    across = np.cross(v, w)
    length = np.linalg.norm(v, axis=2)
    return np.asarray(np.arctan2(length * (u * across).sum(axis=2), (np.cross(u, v) * across).sum(axis=2)))


def angles(x: Array, atoms: list[Atom]) -> Array:
    """Every phi and psi as (cos, sin), so that −180° and 180° are one place."""
    fours = backbone(atoms)
    if not fours:
        raise ValueError("the structure has no backbone torsions; use other features")
    found = torsions(x, fours)
    return np.stack([np.cos(found), np.sin(found)], axis=2).reshape(len(x), -1)


def contacts(x: Array, atoms: list[Atom]) -> Array:
    """The distances in nm between the CA atoms of residues at least three apart."""
    carbons = [at for at, atom in enumerate(atoms) if atom.name == "CA" and atom.residue != "CA"]
    one, other = np.triu_indices(len(carbons), 3)
    if not len(one):
        raise ValueError("the structure has fewer than four residues with a CA; use other features")
    where = x[:, carbons]
    return np.asarray(np.linalg.norm(where[:, one] - where[:, other], axis=2))


KNOWN = {"backbone": angles, "contacts": contacts}


def featurize(kind: str, x: Array, atoms: list[Atom], own: Path) -> Array:
    """The features of the frames `x`: of a known kind, or by the function in the file `own`."""
    if own.exists():
        spec = importlib.util.spec_from_file_location("own", own)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = np.asarray(module.features(x, atoms), np.float32)
        if found.ndim != 2 or len(found) != len(x):
            raise ValueError(f"features() of {own.name} returned shape {found.shape} for {len(x)} frames")
        return found
    if kind not in KNOWN:
        raise ValueError(f"there are no features {kind!r}; there are {', '.join(KNOWN)}")
    return KNOWN[kind](x, atoms).astype(np.float32)
