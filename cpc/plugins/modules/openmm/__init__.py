"""Molecular dynamics with OpenMM: systems and simulations, as jobs for workers that announce `openmm`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cpc.api import BadInput, File, Job, command

JOBS = Path(__file__).parent / "jobs"


def script(*names: str) -> dict[str, bytes]:
    """Files of `jobs/`, to be put into a run directory."""
    return {name: (JOBS / name).read_bytes() for name in names}


@command(executable="openmm", outputs={"system": "system.xml"})
def build(
    structure: Annotated[File, "the molecule, with its hydrogens: .pdb"],
    force_field: Annotated[list[str] | None, "OpenMM's names of its parts; default: amber14/protein.ff14SB.xml"] = None,
    water: Annotated[str, "obc2: implicit water; none: what the force field says"] = "none",
    cutoff: Annotated[float, "of the interactions, nm; 0: none. With it and a box, PME"] = 0.0,
) -> Job:
    """The system of a molecule: its forces, bonds to hydrogen rigid."""
    request = {
        "force_field": force_field or ["amber14/protein.ff14SB.xml"],
        "water": "" if water == "none" else water,
        "cutoff": cutoff,
    }
    return Job(
        ["build.py"], files={**script("build.py"), **_request(request), "structure.pdb": structure}, name="build"
    )


@command(
    executable="openmm",
    outputs={"trajectory": "trajectory.dcd", "final": "final.pdb", "log": "stdout"},
    checkpoint=("state.chk", "trajectory.dcd"),
)
def simulate(
    structure: Annotated[File, "the molecule: .pdb"],
    system: Annotated[File, "its forces, as `build` or XmlSerializer writes them: .xml"],
    steps: int,
    start: Annotated[File | None, "begin here, not at the structure: .dcd, or .pdb of one or more models"] = None,
    frame: Annotated[int, "which frame or model of `start`, from 0; −1: the last"] = 0,
    seed: Annotated[int, "of velocities and noise"] = 0,
    temperature: Annotated[float, "K"] = 300.0,
    friction: Annotated[float, "1/ps"] = 1.0,
    timestep: Annotated[float, "ps"] = 0.002,
    every: Annotated[int, "steps between two frames"] = 500,
    checkpoint: Annotated[int, "frames between two checkpoints"] = 50,
    minimize: Annotated[int, "iterations at most, when it begins at a structure"] = 100,
    platform: Annotated[str, "of OpenMM: Reference, CPU, CUDA, …; none: the fastest there is"] = "none",
    cores: Annotated[int, "for platform CPU"] = 1,
    gpus: int = 0,
    priority: int = 0,
) -> Job:
    """Langevin dynamics. A run survives the loss of its worker; on platform Reference its trajectory stays the same, to the bit.

    Frames are in 32-bit coordinates (.dcd).
    """
    for name, number in (("steps", steps), ("every", every), ("checkpoint", checkpoint)):
        if number < 1:
            raise BadInput(f"{name} = {number}: give 1 or more")
    request = {
        "steps": steps, "every": every, "checkpoint": every * checkpoint, "temperature": temperature, "friction": friction,
        "timestep": timestep, "seed": seed, "frame": frame, "minimize": minimize,
        "platform": "" if platform == "none" else platform,
    }  # fmt: skip
    begin = {} if start is None else {"start": start}
    return Job(
        ["simulate.py"],
        files={
            **script("simulate.py", "dcd.py"), **_request(request), "structure.pdb": structure, "system.xml": system, **begin
        },
        cores=cores,
        gpus=gpus,
        priority=priority,
        name="simulate",
    )  # fmt: skip


def _request(facts: dict[str, Any]) -> dict[str, bytes]:
    return {"request.json": json.dumps(facts).encode()}
