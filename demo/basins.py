"""The basins of alanine dipeptide: how much of the time the molecule is in each, as the model has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VISITED = 0.001  # the part of the time that makes a basin visited

# Where the basins lie, degrees. A frame belongs to the nearest one.
BASINS = {
    "C5": (-155, 160),
    "PII": (-65, 150),
    "C7eq": (-80, 75),
    "αR": (-70, -20),
    "αL": (55, 35),
    "C7ax": (65, -60),
    "PII'": (60, -150),  # the mirror image of PII
}


def populations(angles: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The part of the time, 0 to 1, in each basin; `angles` (frames, 2) in degrees, `weights` of the frames, together 1."""
    apart = (angles[:, None, :] - np.array(list(BASINS.values())) + 180) % 360 - 180
    nearest = np.argmin((apart**2).sum(axis=2), axis=1)
    return dict(zip(BASINS, np.bincount(nearest, weights, len(BASINS)).tolist(), strict=True))


def crossings(runs: list[np.ndarray]) -> int:
    """How often a run that was among the basins of phi < 0 came to be among those of phi > 0, or back."""
    total = 0
    for angles in runs:
        phi = angles[:, 0]
        side = np.where((phi > 30) & (phi < 110), 1, np.where((phi < -40) & (phi > -170), -1, 0))
        total += int(np.count_nonzero(np.diff(side[side != 0])))
    return total


def describe(model: Path) -> str:
    """What a model of msm::adaptive (model.npz) says of the molecule, in words."""
    with np.load(model) as saved:
        angles, weights, lengths = saved["plane"], saved["weights"], saved["lengths"]
    parts = populations(angles, weights)
    seen = [f"{name} {part:.1%}" for name, part in parts.items() if part >= VISITED]
    right = (angles[:, 0] > 30) & (angles[:, 0] < 110)
    crossed = crossings(np.split(angles, np.cumsum(lengths)[:-1]))
    return (
        f"{len(lengths)} runs, {len(angles)} frames\nbasins: {', '.join(seen)}\n"
        f"phi > 0 was {'' if right.any() else 'not '}visited: {right.mean():.1%} of the frames, "
        f"crossings from one side to the other: {crossed}\n"
    )
