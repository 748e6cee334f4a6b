"""The picture: where on the map of phi and psi the molecule has been.

    python picture.py FOLDER PICTURE.png

Reads every trajectory.npz below FOLDER, prints what was found and draws the free energy, -kT ln p.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

KT = 0.0083145 * 300  # kJ/mol
BINS = 60  # of 6 degrees
DEEPEST = 20.0  # kJ/mol: the top of the colour scale
VISITED = 0.001  # the part of the frames that makes a basin visited

# Where the basins of alanine dipeptide lie, degrees. A frame belongs to the nearest one.
BASINS = {
    "C5": (-155, 160),
    "PII": (-65, 150),
    "C7eq": (-80, 75),
    "αR": (-70, -20),
    "αL": (55, 35),
    "C7ax": (65, -60),
    "PII'": (60, -150),  # the mirror image of PII
}


def populations(angles: np.ndarray) -> dict[str, float]:
    """The part of the frames, 0 to 1, in each basin; `angles` (frames, 2) in degrees."""
    apart = (angles[:, None, :] - np.array(list(BASINS.values())) + 180) % 360 - 180
    nearest = np.argmin((apart**2).sum(axis=2), axis=1)
    return dict(zip(BASINS, np.bincount(nearest, minlength=len(BASINS)) / len(angles), strict=True))


def free_energy(angles: np.ndarray) -> np.ndarray:
    """-kT ln p above its minimum, kJ/mol, (BINS, BINS) with psi upwards; not a number where nobody has been."""
    counts, _, _ = np.histogram2d(angles[:, 1], angles[:, 0], BINS, [[-180, 180], [-180, 180]])
    smooth = counts
    for axis in (0, 1):
        smooth = (np.roll(smooth, 1, axis) + 2 * smooth + np.roll(smooth, -1, axis)) / 4
    energy = -KT * np.log(np.where(smooth >= 0.5, smooth, np.nan))
    return energy - np.nanmin(energy)


def crossings(runs: list[np.ndarray]) -> int:
    """How often a run that was among the basins of phi < 0 came to be among those of phi > 0, or back."""
    total = 0
    for angles in runs:
        phi = angles[:, 0]
        side = np.where((phi > 30) & (phi < 110), 1, np.where((phi < -40) & (phi > -170), -1, 0))
        total += int(np.count_nonzero(np.diff(side[side != 0])))
    return total


def draw(runs: list[np.ndarray], starts: np.ndarray, nanoseconds: float, target: Path) -> None:
    """Write the picture as a PNG."""
    angles = np.concatenate(runs)
    edges = np.linspace(-180, 180, BINS + 1)
    plt.rcParams.update({"font.size": 11, "axes.titlesize": 13})
    figure, axes = plt.subplots(figsize=(8, 6.8), layout="constrained")
    energy = np.ma.masked_invalid(free_energy(angles))
    mesh = axes.pcolormesh(edges, edges, energy, cmap="viridis", vmin=0, vmax=DEEPEST)
    middles = (edges[1:] + edges[:-1]) / 2
    axes.contour(middles, middles, energy, np.arange(2.5, DEEPEST, 2.5), colors="white", linewidths=0.5, alpha=0.6)
    spread = starts + np.random.default_rng(1).normal(0, 3, starts.shape)  # equal starts side by side
    axes.scatter(spread[:, 0], spread[:, 1], s=45, color="white", edgecolor="black", zorder=3, label="start of a run")
    for name, part in populations(angles).items():
        if part >= VISITED:
            phi, psi = BASINS[name]
            where = (phi - 20, psi - 40) if name == "C5" else (phi + 33, psi)  # beside the basin, where nobody goes
            box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "lightgrey", "alpha": 0.9}
            axes.text(*where, f"{name}  {part:.1%}", va="center", bbox=box)
    axes.axvline(0, color="grey", linewidth=0.6)
    ticks = range(-180, 181, 60)
    axes.set(xlim=(-180, 180), ylim=(-180, 180), xticks=ticks, yticks=ticks, xlabel="φ (degrees)", ylabel="ψ (degrees)")
    axes.set_aspect("equal")
    axes.set_title(f"Alanine dipeptide in implicit water: {len(runs)} runs, {nanoseconds:.1f} ns together")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.72))
    figure.colorbar(mesh, label="free energy  −kT ln p  (kJ/mol)", shrink=0.85)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def main() -> None:
    folder, target = (Path(word) for word in sys.argv[1:])
    files = sorted(folder.rglob("trajectory.npz"))
    if not files:
        sys.exit(f"there is no trajectory.npz below {folder}")
    saved = [np.load(file) for file in files]
    runs, starts = [one["angles"] for one in saved], np.array([one["start"] for one in saved])
    nanoseconds = sum(float(one["picoseconds"]) for one in saved) / 1000
    draw(runs, starts, nanoseconds, target)

    angles = np.concatenate(runs)
    parts = populations(angles)
    seen = [name for name, part in parts.items() if part >= VISITED]
    print(f"{nanoseconds:.2f} ns in {len(runs)} runs, {len(angles)} frames")
    print("basins visited: " + ", ".join(f"{name} {parts[name]:.1%}" for name in seen))
    right = (angles[:, 0] > 30) & (angles[:, 0] < 110)
    print(
        f"phi > 0 was {'' if right.any() else 'not '}visited: {right.mean():.1%} of the frames, "
        f"crossings from one side to the other: {crossings(runs)}"
    )
    print("(runs this short remember where they started: the balance between the two sides is not converged)")


if __name__ == "__main__":
    main()
