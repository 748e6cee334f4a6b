"""One molecular dynamics run: a job that may be killed at any moment and goes on where it was.

    python simulate.py alanine.pdb --phi 55 --psi 45 --seed 4 --steps 250000

Reads the molecule and system.xml (see molecule.py), turns the backbone to the given angles and runs Langevin dynamics
at 300 K in steps of 2 fs. Writes trajectory.npz at the end and, on the way, checkpoint.npz: with that in the directory
the same command continues as if nothing had happened, to the last bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from openmm import Context, LangevinMiddleIntegrator, LocalEnergyMinimizer, Platform, XmlSerializer, app

TEMPERATURE = 300.0  # K
FRICTION = 1.0  # 1/ps
STEP = 0.002  # ps
FRAME = 100  # steps between two frames (phi, psi)
SNAPSHOT = 1000  # steps between two sets of coordinates
CHECKPOINT = 10_000  # steps between two checkpoints, and two lines of progress; about 0.4 s
TERMINATED = 128 + signal.SIGTERM


@dataclass
class Run:
    """All there is to know about a run, apart from OpenMM's own state."""

    step: int = 0
    angles: list[np.ndarray] = field(default_factory=list)  # (phi, psi) in degrees, every FRAME steps
    positions: list[np.ndarray] = field(default_factory=list)  # (atoms, 3) in nm, every SNAPSHOT steps
    continued: list[int] = field(default_factory=list)  # the steps at which it was picked up from a checkpoint

    def save(self, path: str, **more: Any) -> None:
        """Write everything to one .npz: all of it or nothing, whenever we are killed."""
        with open("unfinished.tmp", "wb") as file:
            np.savez(
                file,
                step=self.step,
                angles=np.array(self.angles, np.float32).reshape(-1, 2),
                positions=np.array(self.positions, np.float32),
                continued=np.array(self.continued, np.int64),
                **more,
            )
        os.replace("unfinished.tmp", path)


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


def begin(context: Context, pdb: app.PDBFile, phi: float, psi: float, residue: int, seed: int) -> Run:
    """A new run, or the one in checkpoint.npz."""
    if Path("checkpoint.npz").exists():
        with np.load("checkpoint.npz") as saved:
            step = int(saved["step"])
            context.loadCheckpoint(saved["state"].tobytes())  # random numbers included
            print(f"continued at step {step}", flush=True)
            return Run(step, [*saved["angles"]], [*saved["positions"]], [*saved["continued"], step])
    x = pdb.getPositions(asNumpy=True)._value
    for atoms, angle in zip(backbone(pdb.topology, residue), (phi, psi), strict=True):
        x = turned(x, pdb.topology, atoms, angle)
    context.setPositions(x)
    LocalEnergyMinimizer.minimize(context, maxIterations=100)
    context.setVelocitiesToTemperature(TEMPERATURE, seed)
    return Run()


def main() -> None:
    words = argparse.ArgumentParser(description="One molecular dynamics run.")
    words.add_argument("pdb")
    words.add_argument("--residue", type=int, default=1, help="whose phi and psi to follow, counted from 0")
    words.add_argument("--phi", type=float, required=True, help="at the start, degrees")
    words.add_argument("--psi", type=float, required=True, help="at the start, degrees")
    words.add_argument("--seed", type=int, required=True)
    words.add_argument("--steps", type=int, required=True)
    wanted = words.parse_args()

    pdb = app.PDBFile(wanted.pdb)
    phi, psi = backbone(pdb.topology, wanted.residue)
    seed = wanted.seed + 1  # to OpenMM, 0 means another one each time
    integrator = LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP)
    integrator.setRandomNumberSeed(seed)
    system = XmlSerializer.deserialize(Path("system.xml").read_text())
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    run = begin(context, pdb, wanted.phi, wanted.psi, wanted.residue, seed)

    told_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_stop.append(number))
    began, first = time.perf_counter(), run.step
    stop = False
    while run.step < wanted.steps and not stop:
        integrator.step(FRAME)
        run.step += FRAME
        stop = bool(told_to_stop)  # looked at once, so that there is a checkpoint of this step whenever the signal came
        x = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        run.angles.append(np.array([torsion(x, *phi), torsion(x, *psi)]))
        if not np.isfinite(run.angles[-1]).all():
            sys.exit(f"the molecule flew apart at step {run.step}: try a shorter time step")
        if run.step % SNAPSHOT == 0:
            run.positions.append(x)
        if run.step % CHECKPOINT == 0 or stop:
            run.save("checkpoint.npz", state=np.frombuffer(context.createCheckpoint(), np.uint8))
            speed = (run.step - first) / (time.perf_counter() - began)
            print(
                f"step {run.step} of {wanted.steps}  {run.step * STEP:.0f} ps  "
                f"phi {run.angles[-1][0]:4.0f}  psi {run.angles[-1][1]:4.0f}  {speed:.0f} steps/s",
                flush=True,
            )
    if run.step < wanted.steps:
        print("told to stop", flush=True)
        sys.exit(TERMINATED)
    start = np.array([wanted.phi, wanted.psi])
    run.save("trajectory.npz", start=start, seed=wanted.seed, picoseconds=run.step * STEP)


if __name__ == "__main__":
    main()
