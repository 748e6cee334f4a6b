"""model: one Markov state model of all trajectories so far, and where to go on; a job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cpc.api import BadInput, File, Finished, Job, command
from cpc.plugins.modules.openmm import script as simulation_script

JOBS = Path(__file__).parent / "jobs"
PICTURES = {"free_energy": "free_energy.png", "implied_timescales": "timescales.png", "network": "network.png"}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins: a frame of a trajectory, both counted from 0."""

    trajectory: int
    frame: int


@dataclass(frozen=True, slots=True)
class Model:
    """A Markov state model.

    `data`: everything about it (.npz): features, states and weights of all frames, populations. `populations` of the states in
    equilibrium, 0 for those that nothing connects with the others both ways. `timescales`: the longest, ps. `connected`: the
    part of the frames in connected states. `change`: how much the populations differ from the model before, 0 to 1.
    `starts`: where to go on. `nanoseconds`: of all trajectories together.
    """

    data: File
    populations: list[float]
    timescales: list[float]
    connected: float
    change: float
    starts: list[Start]
    nanoseconds: float
    free_energy: File
    implied_timescales: File
    network: File


@command(executable="deeptime", outputs=Model)
def model(
    structure: Annotated[File, "the molecule: .pdb"],
    trajectories: Annotated[list[File], "those that `before` does not know: .dcd"],
    every: Annotated[float, "time between two frames, ps"],
    before: Annotated[File | None, "the data of the model before, which this one continues"] = None,
    features: Annotated[str, "what states are made of: backbone (torsions) or contacts (of CA atoms)"] = "backbone",
    own_features: Annotated[File | None, "a Python file with features(x, atoms), instead"] = None,
    clusters: Annotated[int, "Markov states"] = 100,
    lag: Annotated[int, "of the model, frames"] = 10,
    temperature: Annotated[float, "K"] = 300.0,
    starts: Annotated[int, "how many starts to choose"] = 10,
    choose: Annotated[
        str, "starts where states were seen least (counts) or are least populated (populations)"
    ] = "counts",
    seed: int = 0,
) -> Job:
    """Features, states, transitions, populations, timescales, pictures; and the places from which the next runs should begin."""
    for name, value in (("clusters", clusters), ("lag", lag), ("starts", starts)):
        if value < 1:
            raise BadInput(f"{name} = {value}: give 1 or more")
    request = {
        "features": features, "clusters": clusters, "lag": lag, "frame": every, "temperature": temperature, "starts": starts,
        "choose": choose, "seed": seed,
    }  # fmt: skip
    given = {"before.npz": before, "featurize.py": own_features}
    return Job(
        ["estimate.py"],
        files={
            **{name: (JOBS / name).read_bytes() for name in ("estimate.py", "features.py", "markov.py", "draw.py")},
            **simulation_script("dcd.py"),
            "request.json": json.dumps(request).encode(),
            "structure.pdb": structure,
            **{f"trajectories/{place:05}.dcd": file for place, file in enumerate(trajectories)},
            **{name: file for name, file in given.items() if file is not None},
        },
        outputs=("model.npz", "result.json", *PICTURES.values()),
        name="model",
    )


@model.collect
def made(job: Finished) -> dict[str, Any]:
    """The model as the job has left it."""
    pictures = {name: job.file(path) for name, path in PICTURES.items()}
    return {**json.loads(job.text("result.json")), "data": job.file("model.npz"), **pictures}
