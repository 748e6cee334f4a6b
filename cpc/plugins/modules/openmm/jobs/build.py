"""The molecule as OpenMM computes it: force field and water, written to one file that every run reads.

python build.py          (reads request.json and structure.pdb, writes system.xml)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypedDict

from openmm import GBSAOBCForce, NonbondedForce, System, XmlSerializer, app

NATIVE = "obc2"  # implicit water that is built here

# Generalised Born radii in nm ("mbondi2": a hydrogen on nitrogen is larger) and Hawkins-Cramer-Truhlar overlap
# factors, as Amber uses them with igb=5: Onufriev, Bashford, Case, Proteins 55 (2004) 383; Tsui, Case, Biopolymers 56
# (2000) 275.
RADIUS = {"H": 0.12, "C": 0.17, "N": 0.155, "O": 0.15, "S": 0.18}
RADIUS_OF_H_ON_N = 0.13
OVERLAP = {"H": 0.85, "C": 0.72, "N": 0.79, "O": 0.85, "S": 0.96}


class Request(TypedDict):
    """request.json."""

    force_field: list[str]  # names of OpenMM's files
    water: str  # "obc2", or "" for what the force field says
    cutoff: float  # nm; 0: none


def build(pdb: app.PDBFile, request: Request) -> System:
    """The system, bonds to hydrogen rigid. A structure with a box is periodic: PME where there is a cutoff."""
    box = pdb.topology.getPeriodicBoxVectors() is not None
    method = (app.PME if box else app.CutoffNonPeriodic) if request["cutoff"] else app.NoCutoff
    system = app.ForceField(*request["force_field"]).createSystem(
        pdb.topology, nonbondedMethod=method, nonbondedCutoff=request["cutoff"] or 1.0, constraints=app.HBonds
    )
    if request["water"]:
        system.addForce(implicit_water(pdb.topology, system))
    return system


def implicit_water(topology: app.Topology, system: System) -> GBSAOBCForce:
    """OBC2 implicit water at 78.5, with its surface term.

    OpenMM's own implicit/obc2.xml gives the same energies, but through an interpreted formula: 30 times slower on the Reference
    platform.
    """
    charges = next(force for force in system.getForces() if isinstance(force, NonbondedForce))
    water = GBSAOBCForce()
    for atom, radius in zip(topology.atoms(), radii(topology), strict=True):
        charge, _, _ = charges.getParticleParameters(atom.index)
        water.addParticle(charge, radius, OVERLAP[atom.element.symbol])
    if charges.getNonbondedMethod() != NonbondedForce.NoCutoff:
        water.setNonbondedMethod(GBSAOBCForce.CutoffNonPeriodic)
        water.setCutoffDistance(charges.getCutoffDistance())
    return water


def radii(topology: app.Topology) -> list[float]:
    """The Born radius of every atom, nm; KeyError names an element that has none here."""
    found = [RADIUS[atom.element.symbol] for atom in topology.atoms()]
    for bond in topology.bonds():
        for one, other in (bond, reversed(bond)):
            if one.element.symbol == "H" and other.element.symbol == "N":
                found[one.index] = RADIUS_OF_H_ON_N
    return found


def main() -> None:
    request: Request = json.loads(Path("request.json").read_text())
    if request["water"] not in ("", NATIVE):
        sys.exit(f"there is no water {request['water']!r}; there is {NATIVE!r}, or none and what the force field says")
    try:
        system = build(app.PDBFile("structure.pdb"), request)
    except KeyError as error:
        sys.exit(f"implicit water knows no radius for {error}; it knows {', '.join(RADIUS)}")
    except (ValueError, OSError) as error:  # what OpenMM says of residues and files that it does not know
        sys.exit(f"the force field does not fit the structure: {error}")
    Path("system.xml").write_text(XmlSerializer.serialize(system))


if __name__ == "__main__":
    main()
