"""The pictures of a Markov state model: free energy, implied timescales, the network of its states."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
BINS = 60
DEEPEST = 20.0  # kJ/mol: the top of the colour scale
GAS = 0.0083145  # kJ/mol/K


def free_energy(at: Array, weights: Array, edges: tuple[Array, Array], temperature: float, around: bool) -> Array:
    """−kT ln p above its minimum, kJ/mol, (y, x); not a number where no weight is. `around`: the axes are angles."""
    density, _, _ = np.histogram2d(at[:, 1], at[:, 0], [edges[1], edges[0]], weights=weights)
    for axis in (0, 1):
        before, after = np.roll(density, 1, axis), np.roll(density, -1, axis)
        if not around:
            np.moveaxis(before, axis, 0)[0] = 0
            np.moveaxis(after, axis, 0)[-1] = 0
        density = (before + 2 * density + after) / 4
    energy = -GAS * temperature * np.log(np.where(density > 0, density, np.nan))
    return np.asarray(energy - np.nanmin(energy)) if np.isfinite(energy).any() else energy


def edges_of(at: Array, around: bool) -> tuple[Array, Array]:
    """The edges of the map's fields along x and y."""
    if around:
        return np.linspace(-180, 180, BINS + 1), np.linspace(-180, 180, BINS + 1)
    low, high = at.min(axis=0), at.max(axis=0)
    room = np.maximum((high - low) * 0.05, 1e-6)
    return np.linspace(low[0] - room[0], high[0] + room[0], BINS + 1), np.linspace(
        low[1] - room[1], high[1] + room[1], BINS + 1
    )


def surface(
    target: Path, at: Array, weights: Array, starts: Array, names: tuple[str, str], title: str, temperature: float
) -> None:
    """The free energy on the plane of two coordinates, with the places from which the runs began."""
    around = "degrees" in names[0]
    edges = edges_of(at, around)
    energy = np.ma.masked_invalid(free_energy(at, weights, edges, temperature, around))
    figure, axes = plt.subplots(figsize=(8, 6.8), layout="constrained")
    mesh = axes.pcolormesh(*edges, energy, cmap="viridis", vmin=0, vmax=DEEPEST)
    middles = [(one[1:] + one[:-1]) / 2 for one in edges]
    if energy.count() > 1:
        axes.contour(*middles, energy, np.arange(2.5, DEEPEST, 2.5), colors="white", linewidths=0.5, alpha=0.6)
    axes.scatter(
        starts[:, 0],
        starts[:, 1],
        s=24,
        color="white",
        edgecolor="black",
        linewidths=0.7,
        zorder=3,
        label="start of a run",
    )
    _frame(axes, names, title, around)
    axes.legend(loc="upper right")
    figure.colorbar(mesh, label="free energy  −kT ln p  (kJ/mol)", shrink=0.85)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def timescales(target: Path, lags: Array, found: Array, chosen: float) -> None:
    """The longest implied timescales, (lags, number), against the lag; both ps. `chosen`: the model's lag."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for number, line in enumerate(found.T, 1):
        axes.plot(lags, line, "o-", label=f"process {number}")
    axes.fill_between(lags, lags, color="lightgrey", label="faster than the lag")
    axes.axvline(chosen, color="grey", linestyle="--", linewidth=0.8)
    axes.set(
        yscale="log", xlabel="lag (ps)", ylabel="implied timescale (ps)", title="Do the timescales depend on the lag?"
    )
    axes.legend()
    figure.savefig(target, dpi=130)
    plt.close(figure)


def network(
    target: Path, places: Array, populations: Array, inside: Array, flux: Array, names: tuple[str, str], title: str
) -> None:
    """The network of the states: a dot for each (area: population), a line where there are transitions (width: how many).

    `inside`: which states are in the largest connected set.
    """
    around = "degrees" in names[0]
    figure, axes = plt.subplots(figsize=(8, 6.8), layout="constrained")
    strongest = max(flux.max(), 1e-300)
    for one, other in zip(*np.nonzero(np.triu(flux + flux.T, 1)), strict=True):
        if around and (abs(places[one] - places[other]) > 180).any():
            continue  # it leads round the edge of the map
        part = (flux[one, other] + flux[other, one]) / (2 * strongest)
        axes.plot(
            *places[[one, other]].T, color="steelblue", alpha=0.3 + 0.5 * part, linewidth=0.3 + 4 * part, zorder=1
        )
    for which, colour, label in ((inside, "orange", "connected"), (~inside, "lightgrey", "not connected with these")):
        if which.any():
            x, y = places[which].T
            axes.scatter(
                x,
                y,
                s=10 + 2000 * populations[which],
                color=colour,
                edgecolor="black",
                linewidths=0.7,
                label=label,
                zorder=2,
            )
    _frame(axes, names, title, around)
    if not inside.all():
        axes.legend(loc="upper right", markerscale=0.5)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def _frame(axes: Any, names: tuple[str, str], title: str, around: bool) -> None:
    axes.set(xlabel=names[0], ylabel=names[1], title=title)
    if around:
        ticks = range(-180, 181, 60)
        axes.set(xlim=(-180, 180), ylim=(-180, 180), xticks=ticks, yticks=ticks)
        axes.set_aspect("equal")
