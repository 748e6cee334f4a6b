"""What every unit about networks needs: the live graphs, the queue, and who is told what can run now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.server.graphs import Graphs
from cpc.server.queue import Queue


def _nobody(number: int) -> None:
    """Nobody is told."""


@dataclass(slots=True)
class Dataflow:
    """Told after the commit: `ready`, the id of a step that can run; `ended`, of one that was cut short; `cleared`, (project,
    instance) that is gone."""

    graphs: Graphs
    queue: Queue
    ready: Callable[[int], None] = field(default=_nobody)
    ended: Callable[[int], None] = field(default=_nobody)
    cleared: Callable[[int, int], None] = field(default=lambda project, instance: None)
