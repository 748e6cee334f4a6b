"""The Markov state model: from features of frames to states, transitions, populations, timescales, and where to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from deeptime.clustering import ClusterModel
from deeptime.markov import TransitionCountEstimator, TransitionCountModel
from deeptime.markov.msm import MarkovStateModel, MaximumLikelihoodMSM

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
LEARN = 20_000  # frames that the states are learnt from, at most
APART = 0.01  # the part of the frames that a set of states must hold to be worth a bridge to it


@dataclass(frozen=True, slots=True)
class Model:
    """A model of all frames so far.

    `centers` (states, features); `paths`: the state of every frame, one array for each trajectory; `sets`: states that are
    connected with each other both ways, the set with most frames first; `timescales` of this set in frames, longest first.

    `populations` of the states are those in equilibrium within each set. What the balance between sets is, nobody has seen:
    each has the part of the population that it has of the frames. `connected` is that of the largest.
    """

    centers: Array
    paths: list[Array]
    populations: Array
    timescales: Array
    sets: list[Array]

    @property
    def connected(self) -> float:
        """The part of the frames that is in the largest connected set."""
        return float(self.counts[self.sets[0]].sum() / self.counts.sum()) if self.sets else 0.0

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
    """The model of these trajectories (frames, features) with so many states and this lag (frames)."""
    together = np.concatenate(features)
    centers = k_centers(together[:: max(1, len(together) // LEARN)], states)
    clusters = ClusterModel(centers)
    paths = [clusters.transform(one) for one in features]
    counts = transitions(paths, lag)
    sets = [] if counts is None else by_frames(counts, paths)
    seen = np.bincount(np.concatenate(paths), minlength=len(centers))
    populations, timescales = seen / seen.sum(), np.zeros(0)
    for place, states_of_it in enumerate(sets):
        made = markov(counts, states_of_it)
        if made is not None:
            part = populations[states_of_it].sum()
            populations[made.count_model.state_symbols] = part * made.stationary_distribution
            timescales = timescales if place else made.timescales()
    return Model(centers, paths, populations, timescales, sets)


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


def transitions(paths: list[Array], lag: int) -> TransitionCountModel | None:
    """The transitions between states after `lag` frames; None where every trajectory is shorter."""
    long = [path for path in paths if len(path) > lag]
    return TransitionCountEstimator(lag, "sliding").fit_fetch(long) if long else None


def by_frames(counts: TransitionCountModel, paths: list[Array]) -> list[Array]:
    """The sets of states that are connected both ways, the one with most frames first."""
    seen = np.bincount(np.concatenate(paths), minlength=counts.n_states)
    return sorted((np.asarray(one) for one in counts.connected_sets()), key=lambda one: -seen[one].sum())


def markov(counts: TransitionCountModel, states: Array) -> MarkovStateModel | None:
    """The reversible model of these states, which are connected both ways; None where it is one state only."""
    if len(states) < 2:
        return None
    return MaximumLikelihoodMSM(reversible=True, maxiter=100_000).fit_fetch(counts.submodel(np.sort(states)))


def implied_timescales(paths: list[Array], lags: list[int], number: int) -> Array:
    """(lags, number): the longest timescales, frames, of the model with each lag; not a number where there are fewer."""
    found = np.full((len(lags), number), np.nan)
    for row, lag in zip(found, lags, strict=True):
        counts = transitions(paths, lag)
        made = None if counts is None else markov(counts, by_frames(counts, paths)[0])
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
    "populations": the same for what is rare in equilibrium, so that barriers are. As long as there are parts that are not
    connected both ways, half of the runs begin at the gap between the two largest.
    """
    if by not in ("counts", "populations"):
        raise ValueError(f"starts are chosen by counts or by populations, not by {by!r}")
    chance = np.random.default_rng(seed)
    drawn = gap(model, number // 2, chance)
    much = model.counts if by == "counts" else np.maximum(model.populations, 1e-9)
    rarity = np.where(model.counts > 0, 1 / np.maximum(much, 1e-9), 0)
    drawn += list(chance.choice(len(rarity), number - len(drawn), p=rarity / rarity.sum()))
    which = np.repeat(np.arange(len(model.paths)), [len(path) for path in model.paths])
    frame = np.concatenate([np.arange(len(path)) for path in model.paths])
    states = np.concatenate(model.paths)
    places = [chance.choice(np.flatnonzero(states == state)) for state in drawn]
    return [(int(which[at]), int(frame[at])) for at in places]


def gap(model: Model, number: int, chance: np.random.Generator) -> list[int]:
    """At most `number` states on both sides of the gap between the two largest connected sets, nearest to the other side."""
    counts = model.counts
    large = [one for one in model.sets if counts[one].sum() >= APART * counts.sum()]
    if len(large) < 2:
        return []
    one, other = large[:2]
    apart = np.linalg.norm(model.centers[one][:, None] - model.centers[other][None], axis=2)
    nearest = np.unravel_index(np.argsort(apart, axis=None)[:number], apart.shape)
    pairs = list(zip(one[nearest[0]], other[nearest[1]], strict=True))
    chance.shuffle(pairs)
    return [int(state) for pair in pairs for state in pair][:number]
