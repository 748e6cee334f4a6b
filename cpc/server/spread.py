"""A histogram for /metrics that takes many values at a time: those of prometheus_client take two locks for each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import inf

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Spread:
    """How many values are at most each of `bounds`, and their sum. On the reactor only."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = (*bounds, inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """All of these."""
        for value in values:
            self.observe(value)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        buckets, below = [], 0
        for bound, count in zip(self._bounds, self._counts, strict=True):
            below += count
            buckets.append((floatToGoString(bound), below))  # type: ignore[no-untyped-call]
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric([], buckets=buckets, sum_value=self._sum)
        yield family
