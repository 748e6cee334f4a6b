"""One model of all that was simulated so far: a job.

    python estimate.py        (reads request.json, structure.pdb, trajectories/NNNNN.dcd, before.npz of the last generation)

Writes model.npz (features, states and weights of every frame), result.json (what the controller needs), and the pictures
free_energy.png, timescales.png and network.png.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import dcd
import draw
import features
import markov
import numpy as np
from deeptime.decomposition import TICA

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
SHOWN = 4  # timescales in the picture
LAGS = 8  # of the picture


class Request(TypedDict):
    """request.json."""

    features: str
    clusters: int
    lag: int  # frames
    frame: float  # ps between two frames
    temperature: float  # K
    starts: int  # how many to choose
    choose: str  # by counts or by populations
    seed: int


@dataclass(frozen=True, slots=True)
class Past:
    """What the generation before has left: features of all frames, lengths of the trajectories, weights of the frames."""

    features: Array
    lengths: list[int]
    plane: Array
    weights: Array


def past(path: Path) -> Past | None:
    """The file of the generation before; None at the first."""
    if not path.exists():
        return None
    with np.load(path) as saved:
        return Past(saved["features"], saved["lengths"].tolist(), saved["plane"], saved["weights"])


def plane(kind: str, x: Array, atoms: list[features.Atom], own: bool) -> Array | None:
    """Phi and psi in degrees where these two are all there is; else None."""
    fours = features.backbone(atoms)
    return np.degrees(features.torsions(x, fours)) if kind == "backbone" and len(fours) == 2 and not own else None


def slowest(together: list[Array], lag: int) -> Array:
    """The two slowest coordinates (TICA) of every frame; the second is 0 where there is one feature only."""
    long = [one for one in together if len(one) > lag]
    found = TICA(lagtime=lag, dim=2).fit_fetch(long).transform(np.concatenate(together))
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def main() -> None:
    request: Request = json.loads(Path("request.json").read_text())
    atoms = features.atoms_of(Path("structure.pdb"))
    own = Path("featurize.py")
    before = past(Path("before.npz"))
    new = [dcd.read(path) for path in sorted(Path("trajectories").glob("*.dcd"))]
    for x in new:
        if x.shape[1] != len(atoms):
            sys.exit(f"the structure has {len(atoms)} atoms, a trajectory {x.shape[1]}")
    try:
        found = [features.featurize(request["features"], x, atoms, own) for x in new]
    except ValueError as error:
        sys.exit(f"features: {error}")
    lengths = [*(before.lengths if before else []), *(len(x) for x in new)]
    whole = np.concatenate([*([before.features] if before else []), *found])
    parts = np.split(whole, np.cumsum(lengths)[:-1])

    model = markov.estimate(parts, request["clusters"], request["lag"])
    moved = 1.0 if before is None else markov.change(before.weights, model.weights, model)
    chosen = markov.starts(model, request["starts"], request["choose"], request["seed"])

    angles = [plane(request["features"], x, atoms, own.exists()) for x in new]
    if angles and angles[0] is not None:
        at = np.concatenate([*([before.plane] if before else []), *angles])
        names = ("φ (degrees)", "ψ (degrees)")
    else:
        at, names = slowest(parts, request["lag"]), ("slowest coordinate", "second slowest coordinate")
    pictures(request, model, at, lengths, names)
    np.savez_compressed(
        "model.npz", features=whole, lengths=lengths, plane=at, weights=model.weights, centers=model.centers,
        states=np.concatenate(model.paths), populations=model.populations,
    )  # fmt: skip
    Path("result.json").write_text(
        json.dumps(
            {
                "populations": model.populations.tolist(),
                "timescales": (model.timescales[:SHOWN] * request["frame"]).tolist(),
                "connected": model.connected,
                "change": moved,
                "starts": [{"trajectory": trajectory, "frame": frame} for trajectory, frame in chosen],
                "nanoseconds": len(whole) * request["frame"] / 1000,
            }
        )
    )
    print(f"{len(lengths)} trajectories, {len(whole)} frames, {model.connected:.1%} connected, change {moved:.3f}")


def pictures(request: Request, model: markov.Model, at: Array, lengths: list[int], names: tuple[str, str]) -> None:
    """All three."""
    frame = request["frame"]
    apart = "" if model.connected == 1 else f", {model.connected:.0%} connected"
    title = f"{len(lengths)} runs, {len(at) * frame / 1000:.1f} ns together{apart}"
    begins = at[np.cumsum([0, *lengths[:-1]])]
    draw.surface(Path("free_energy.png"), at, model.weights, begins, names, title, request["temperature"])
    lags = np.unique(np.geomspace(1, max(request["lag"] * 4, 2), LAGS).astype(int))
    lags = lags[lags < max(lengths)]
    found = markov.implied_timescales(model.paths, lags.tolist(), SHOWN)
    draw.timescales(Path("timescales.png"), lags * frame, found * frame, request["lag"] * frame)
    frames = np.concatenate(model.paths)
    number = len(model.centers)
    flux = np.zeros((number, number))
    for path in model.paths:
        np.add.at(flux, (path[: -request["lag"]], path[request["lag"] :]), 1)
    places = np.array([_middle(at[frames == state], "degrees" in names[0]) for state in range(number)])
    inside = np.isin(np.arange(number), model.sets[0] if model.sets else [])
    draw.network(Path("network.png"), places, model.populations, inside, flux, names, f"{number} states, {title}")


def _middle(points: Array, around: bool) -> Array:
    """The middle of points; of angles, on the circle."""
    if not len(points):
        return np.full(2, np.nan)
    if not around:
        return np.asarray(points.mean(axis=0))
    turned = np.radians(points)
    return np.asarray(np.degrees(np.arctan2(np.sin(turned).mean(axis=0), np.cos(turned).mean(axis=0))))


if __name__ == "__main__":
    main()
