"""adaptive: generations of simulations, each begun where the model of those before knows least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cpc.api import BadInput, File, Step, controller
from cpc.plugins.modules.msm.modelling import Model, Start

SIMULATE = "openmm::simulate"
#: What all simulations, and all models, get of this function's own inputs: files through connections, so that a new file makes
#: everything new; numbers as they are when a generation begins, so that new ones are for the generations to come.
FILES_FOR_RUNS = ("structure", "system")
FILES_FOR_MODELS = ("structure", "own_features")
FOR_RUNS = ("steps", "every", "temperature", "timestep", "platform", "cores", "gpus")
FOR_MODELS = ("features", "clusters", "lag", "temperature", "choose")


@dataclass(frozen=True, slots=True)
class Sampling:
    """What adaptive sampling has come to: the latest model, and all trajectories."""

    generation: int
    converged: bool
    nanoseconds: float
    connected: float
    change: float
    populations: list[float]
    timescales: list[float]
    model: File
    free_energy: File
    implied_timescales: File
    network: File
    trajectories: list[File]


@controller(outputs=Sampling, sub_inputs={"models": list[Model | None]})
def adaptive(
    step: Step,
    *,
    structure: Annotated[File, "the molecule: .pdb"],
    system: Annotated[File, "its forces, as openmm::build makes them"],
    starts: Annotated[list[File] | None, "where the first runs begin, in turn; default: the structure"] = None,
    runs: Annotated[int, "simulations in each generation"] = 10,
    steps: Annotated[int, "of each simulation"] = 50_000,
    generations: Annotated[int, "at most"] = 10,
    tolerance: Annotated[float, "stop when populations change less than this from one model to the next"] = 0.0,
    every: Annotated[int, "steps between two frames"] = 500,
    clusters: Annotated[int, "Markov states"] = 100,
    lag: Annotated[int, "of the models, frames"] = 10,
    features: Annotated[str, "what states are made of: backbone or contacts"] = "backbone",
    own_features: Annotated[File | None, "a Python file with features(x, atoms), instead"] = None,
    choose: Annotated[str, "starts: by counts, or by populations"] = "counts",
    temperature: Annotated[float, "K"] = 300.0,
    timestep: Annotated[float, "ps"] = 0.002,
    platform: Annotated[str, "of OpenMM; none: the fastest there is"] = "none",
    cores: Annotated[int, "for each simulation"] = 1,
    gpus: Annotated[int, "for each simulation"] = 0,
    seed: Annotated[int, "of everything"] = 0,
) -> None:
    """Adaptive sampling with Markov state models.

    Each generation is `runs` simulations and a model of all that was simulated so far, which chooses where those of the next one
    begin. It ends with the last of `generations`, or when populations change by no more than `tolerance`. Raise `generations` and
    it goes on.
    """
    models = [one for one in step.sub_input("models", []) if one is not None]
    made = sum(name.startswith("model_") for name in step.instances)
    if runs < 1 or generations < 1:
        raise BadInput(f"runs = {runs}, generations = {generations}: give 1 or more")
    if len(models) < made:
        return  # its simulations, or the model itself, are still at work
    if models:
        report(step, models[-1], len(models), tolerance)
        if len(models) >= generations or converged(models[-1], len(models), tolerance):
            return
    generate(step, made, models[-1].starts if models else None)


def converged(latest: Model, generation: int, tolerance: float) -> bool:
    """Whether the latest model is much the same as the one before."""
    return generation > 1 and latest.change <= tolerance


def report(step: Step, latest: Model, generation: int, tolerance: float) -> None:
    """Set the outputs to the latest model."""
    done = converged(latest, generation, tolerance)
    step.output("generation", generation)
    step.output("converged", done)
    step.output("model", latest.data)
    for name in (
        "nanoseconds", "connected", "change", "populations", "timescales", "free_energy", "implied_timescales", "network"
    ):  # fmt: skip
        step.output(name, getattr(latest, name))
    step.log(
        f"generation {generation}: {latest.nanoseconds:.2f} ns, {latest.connected:.1%} of the frames connected, "
        f"populations changed by {latest.change:.3f}{', converged' if done else ''}"
    )


def generate(step: Step, generation: int, starts: list[Start] | None) -> None:
    """A new generation, from 0: simulations from `starts` (the first one: from given files), and their model."""
    estimate = step.add(f"model_{generation}", "model")
    runs, given = step.input("runs"), step.input("starts", [])
    share(step, estimate, FILES_FOR_MODELS, FOR_MODELS)
    step.set(f"{estimate}:in.every", step.input("every") * step.input("timestep"))
    step.set(f"{estimate}:in.starts", runs)
    step.set(f"{estimate}:in.seed", step.input("seed") + generation)
    if generation:
        step.connect(f"model_{generation - 1}:out.data", f"{estimate}:in.before")
    first = sum(name.startswith("run_") for name in step.instances)
    for place in range(runs):
        index = first + place  # the model numbers trajectories in this order, too
        run = step.add(f"run_{index}", SIMULATE)
        share(step, run, FILES_FOR_RUNS, FOR_RUNS)
        step.set(f"{run}:in.seed", step.input("seed") * 1_000_000 + index)
        if starts:
            start = starts[place % len(starts)]
            step.connect(f"run_{start.trajectory}:out.trajectory", f"{run}:in.start")
            step.set(f"{run}:in.frame", start.frame)
        elif given:
            step.connect(f"self:ext_in.starts[{place % len(given)}]", f"{run}:in.start")
        step.connect(f"{run}:out.trajectory", f"{estimate}:in.trajectories[{place}]")
        step.connect(f"{run}:out.trajectory", f"self:ext_out.trajectories[{index}]")
    step.connect(f"{estimate}:out", f"self:sub_in.models[{generation}]")


def share(step: Step, name: str, files: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    """Give an instance those inputs of this function that it has under the same names."""
    for item in files:
        if step.input(item) is not None:
            step.connect(f"self:ext_in.{item}", f"{name}:in.{item}")
    for item in numbers:
        step.set(f"{name}:in.{item}", step.input(item))
