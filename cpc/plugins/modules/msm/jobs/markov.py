"""The Markov state model: from features of frames to states, transitions, populations, timescales, and where to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from deeptime.clustering import ClusterModel
from deeptime.markov import TransitionCountEstimator
from deeptime.markov.msm import MarkovStateModel, MaximumLikelihoodMSM

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
LEARN = 20_000  # frames that the states are learnt from, at most


@dataclass(frozen=True, slots=True)
class Model:
    """A model of all frames so far.

    `centers` (states, features); `paths`: the state of every frame, one array for each trajectory; `populations` of the states in
    equilibrium, 0 for those that are not connected with the others both ways; `timescales` in frames, longest first;
    `connected`: the part of the frames that is in connected states.
    """

    centers: Array
    paths: list[Array]
    populations: Array
    timescales: Array
    connected: float

    @property
    def counts(self) -> Array:
        """How many frames are in each state."""
        return np.bincount(np.concatenate(self.paths), minlength=len(self.centers))

    @property
    def weights(self) -> Array:
        """What each frame (of all trajectories, one after the other) weighs in equilibrium; together 1."""
        frames = np.concatenate(self.paths)
        return np.asarray((self.populations / np.maximum(self.counts, 1))[frames])


def estimate(features: list[Array], states: int, lag: int) -> Model:
    """The model of these trajectories (frames, features) with so many states and this lag (frames).

    Too few data are no error: what is not connected has population 0.
    """
    together = np.concatenate(features)
    centers = k_centers(together[:: max(1, len(together) // LEARN)], states)
    clusters = ClusterModel(centers)
    paths = [clusters.transform(one) for one in features]
    number = len(centers)
    populations, timescales = np.zeros(number), np.zeros(0)
    made = markov(paths, lag)
    if made is not None:
        populations[made.count_model.state_symbols] = made.stationary_distribution
        timescales = made.timescales()
    seen = np.bincount(np.concatenate(paths), minlength=number)
    return Model(centers, paths, populations, timescales, float(seen[populations > 0].sum() / seen.sum()))


def k_centers(points: Array, number: int) -> Array:
    """At most `number` of the points, each as far as can be from those before it.

    They lie evenly wherever anything was seen, not densest where most was, as k-means would have it: what is rare gets
    states of its own, from which the next runs can begin.
    """
    chosen = [0]
    apart = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < number and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def markov(paths: list[Array], lag: int) -> MarkovStateModel | None:
    """The reversible model of the largest set of states that are connected both ways; None where there are no two."""
    if all(len(path) <= lag for path in paths):
        return None
    counts = TransitionCountEstimator(lag, "sliding").fit_fetch([path for path in paths if len(path) > lag])
    largest = counts.submodel_largest()
    if largest.n_states < 2:
        return None
    return MaximumLikelihoodMSM(reversible=True, maxiter=100_000).fit_fetch(largest)


def implied_timescales(paths: list[Array], lags: list[int], number: int) -> Array:
    """(lags, number): the longest timescales, frames, of the model with each lag; not a number where there are fewer."""
    found = np.full((len(lags), number), np.nan)
    for row, lag in zip(found, lags, strict=True):
        made = markov(paths, lag)
        if made is not None:
            longest = made.timescales()[:number]
            row[: len(longest)] = longest
    return found


def change(before: Array, weights: Array, model: Model) -> float:
    """How far populations have moved since the last model, 0 (nothing) to 1: the total variation distance.

    `before`: the frames' weights in the last model. It knew the first frames of this one: its populations are carried to
    this one's states by them.
    """
    states = np.concatenate(model.paths)[: len(before)]
    then = np.bincount(states, before, len(model.centers))
    return float(abs(then - model.populations).sum() / 2)


def starts(model: Model, number: int, by: str, seed: int) -> list[tuple[int, int]]:
    """Where the next runs begin, as (trajectory, frame).

    By "counts": states that were seen less often are drawn more often (1/count), so that the unknown is explored. By
    "populations": the same for what is rare in equilibrium, so that barriers are.
    """
    chance = np.random.default_rng(seed)
    if by == "counts":
        rarity = 1.0 / np.maximum(model.counts, 1) * (model.counts > 0)
    elif by == "populations":
        rarity = np.where(model.populations > 0, 1.0 / np.maximum(model.populations, 1e-9), 0) * (model.counts > 0)
        rarity = rarity if rarity.any() else np.ones(len(rarity)) * (model.counts > 0)
    else:
        raise ValueError(f"starts are chosen by counts or by populations, not by {by!r}")
    drawn = chance.choice(len(rarity), number, p=rarity / rarity.sum())
    which = np.repeat(np.arange(len(model.paths)), [len(path) for path in model.paths])
    frame = np.concatenate([np.arange(len(path)) for path in model.paths])
    states = np.concatenate(model.paths)
    places = [chance.choice(np.flatnonzero(states == state)) for state in drawn]
    return [(int(which[at]), int(frame[at])) for at in places]
