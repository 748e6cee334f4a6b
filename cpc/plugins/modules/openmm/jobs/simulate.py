"""One molecular dynamics run: a job that may be killed at any moment and goes on where it was.

    python simulate.py          (reads request.json, structure.pdb, system.xml, and the file `start` where there is one)

Langevin dynamics. Writes trajectory.dcd and final.pdb and, on the way, state.chk: with that and the trajectory in the
directory the same command continues as if nothing had happened: on the Reference platform to the last bit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

import dcd
import numpy as np
from openmm import (
    Context,
    LangevinMiddleIntegrator,
    LocalEnergyMinimizer,
    OpenMMException,
    Platform,
    XmlSerializer,
    app,
)
from openmm.app.internal.unitcell import computePeriodicBoxVectors

TERMINATED = 128 + signal.SIGTERM
TRAJECTORY, STATE = Path("trajectory.dcd"), Path("state.chk")


class Request(TypedDict):
    """request.json. Temperature in K, friction in 1/ps, timestep in ps; the others are steps or numbers."""

    steps: int
    every: int  # steps between two frames
    checkpoint: int  # steps between two checkpoints, a multiple of `every`
    temperature: float
    friction: float
    timestep: float
    seed: int
    frame: int  # of `start`; negative ones count from its end
    minimize: int  # iterations, when the run starts from a structure
    platform: str  # "": the fastest


def context_of(request: Request) -> Context:
    """The system on its platform, without positions yet."""
    integrator = LangevinMiddleIntegrator(request["temperature"], request["friction"], request["timestep"])
    integrator.setRandomNumberSeed(request["seed"] + 1)  # to OpenMM, 0 means another one each time
    system = XmlSerializer.deserialize(Path("system.xml").read_text())
    platform = [Platform.getPlatformByName(request["platform"])] if request["platform"] else []
    return Context(system, integrator, *platform)


def begin(context: Context, pdb: app.PDBFile, request: Request) -> None:
    """Positions and velocities: of a frame of `start`, a trajectory, or of a structure with its worst strains taken out."""
    start = Path("start")
    if start.exists() and dcd.is_one(start):
        context.setPositions(frame(dcd.read(start), request["frame"]).astype(np.float64))
        boxes = dcd.cells(start)
        if boxes is not None and context.getSystem().usesPeriodicBoundaryConditions():
            a, b, c, *angles = boxes[request["frame"]]
            context.setPeriodicBoxVectors(*computePeriodicBoxVectors(a, b, c, *np.radians(angles)))
    else:
        models = app.PDBFile(str(start)) if start.exists() else pdb
        every = [models.getPositions(asNumpy=True, frame=at)._value for at in range(models.getNumFrames())]
        context.setPositions(frame(every, request["frame"]))
        if request["minimize"]:
            LocalEnergyMinimizer.minimize(context, maxIterations=request["minimize"])
    context.setVelocitiesToTemperature(request["temperature"], request["seed"] + 1)
    context.setStepCount(0)


def frame(frames: Any, number: int) -> Any:
    """One of the frames; SystemExit when there is none with this number."""
    if not -len(frames) <= number < len(frames):
        sys.exit(f"there are {len(frames)} frames to start from, and none with number {number}")
    return frames[number]


def trajectory(context: Context, pdb: app.PDBFile, request: Request) -> Any:
    """Where frames are written: the file as the checkpoint knew it, or a new one."""
    goes_on = context.getStepCount() > 0
    if goes_on:
        dcd.cut(TRAJECTORY, context.getStepCount() // request["every"])
    file = TRAJECTORY.open("r+b" if goes_on else "w+b")
    every, timestep = request["every"], request["timestep"]
    return app.DCDFile(file, pdb.topology, timestep, every, every, append=goes_on), file


def save(context: Context, file: Any) -> None:
    """The frames so far, then the state that follows them: all of it or nothing, whenever we are killed."""
    file.flush()
    unfinished = Path("state.unfinished")
    unfinished.write_bytes(context.createCheckpoint())
    os.replace(unfinished, STATE)


def run(context: Context, pdb: app.PDBFile, request: Request) -> None:
    """From the step that `context` is at, to the end; SystemExit when told to stop or when the molecule flies apart."""
    told_to_stop: list[int] = []

    def stop_soon(number: int, _: FrameType | None) -> None:
        told_to_stop.append(number)

    signal.signal(signal.SIGTERM, stop_soon)
    frames, file = trajectory(context, pdb, request)
    periodic = context.getSystem().usesPeriodicBoundaryConditions()
    first, began = context.getStepCount(), time.perf_counter()
    while (step := context.getStepCount()) < request["steps"]:
        context.getIntegrator().step(min(request["every"], request["steps"] - step))
        step = context.getStepCount()
        state = context.getState(getPositions=True)
        if not np.isfinite(state.getPositions(asNumpy=True)._value).all():
            sys.exit(f"the molecule flew apart at step {step}: try a shorter time step")
        stop = bool(told_to_stop)  # looked at once, so that there is a checkpoint of this step whenever the signal came
        if step % request["every"] == 0:
            box = state.getPeriodicBoxVectors() if periodic else None
            frames.writeModel(state.getPositions(), periodicBoxVectors=box)
            if step % request["checkpoint"] == 0 or stop:
                save(context, file)
                speed = (step - first) / (time.perf_counter() - began)
                picoseconds = step * request["timestep"]
                print(f"step {step} of {request['steps']}  {picoseconds:.0f} ps  {speed:.0f} steps/s", flush=True)
        if stop and step < request["steps"]:
            print("told to stop", flush=True)
            sys.exit(TERMINATED)
    file.close()


def main() -> None:
    request: Request = json.loads(Path("request.json").read_text())
    pdb = app.PDBFile("structure.pdb")
    context = context_of(request)
    if STATE.exists() and TRAJECTORY.exists():
        try:
            context.loadCheckpoint(STATE.read_bytes())  # random numbers included
            print(f"continued at step {context.getStepCount()}", flush=True)
        except OpenMMException as error:  # of another platform or version: the run begins again
            print(f"the checkpoint cannot be used here: {error}", flush=True)
            context.reinitialize()
            begin(context, pdb, request)
    else:
        begin(context, pdb, request)
    run(context, pdb, request)
    with Path("final.pdb").open("w") as file:
        positions = context.getState(getPositions=True).getPositions()
        app.PDBFile.writeFile(pdb.topology, positions, file, keepIds=True)


if __name__ == "__main__":
    main()
