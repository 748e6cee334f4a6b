"""A pool's nodes as its batch system told of them last: for a few seconds all of it, for an hour their free memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpc.api.scheduler import Scheduler
from cpc.core.allocation import NodeSeen
from cpc.pools.facts import HOUR

#: Nodes are asked for again after so long: many people may look at them at once.
REMEMBERED = 3.0
#: Samples of a node's free memory, by which its trend is known, are at least so far apart.
SAMPLE = 60.0


@dataclass(frozen=True, slots=True)
class _Told:
    """The nodes of a queue, as they were at a time; never where the answer is still to come."""

    queue: str
    at: float | None
    nodes: tuple[NodeSeen, ...] = ()


class NodesSeen:
    """`now`: the time, in seconds. Nothing is lost with what is remembered here."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: _Told | None = None
        self._cores: dict[str, int] = {}
        self._memory: dict[str, tuple[float, int]] = {}  # node → (when, free): the oldest look of the last hour

    async def ask(self, scheduler: Scheduler, queue: str) -> tuple[NodeSeen, ...]:
        """The nodes of a queue as they are, or were a few seconds ago."""
        told = self._told
        if told is not None and told.queue == queue and told.at is not None and self._now() - told.at < REMEMBERED:
            return told.nodes
        asked = self._told = _Told(queue, None)
        found = await scheduler.nodes(queue)
        now = self._now()
        if self._told is asked:  # nothing has been changed since it was asked
            self._told = _Told(queue, now, found)
        for one in found:
            self._cores[one.name] = one.cores
            when, _ = self._memory.get(one.name, (0.0, 0))
            if one.memory_free < 0:
                self._memory.pop(one.name, None)
            elif now - when > HOUR:
                self._memory[one.name] = (now, one.memory_free)
        return found

    def changed(self) -> None:
        """What was told of them is not so any more."""
        self._told = None

    @property
    def largest(self) -> int:
        """Cores of the largest node; 0 as long as none is known."""
        return max(self._cores.values(), default=0)

    def cores(self, names: tuple[str, ...], each: int) -> int:
        """What these nodes have in all; `each`: one that nobody has told of."""
        return sum(self._cores.get(name, each) for name in names)

    def trend(self, one: NodeSeen) -> float:
        """Bytes an hour by which a node's free memory has changed; 0 as long as it is not known."""
        when, free = self._memory.get(one.name, (self._now(), one.memory_free))
        past = self._now() - when
        return (one.memory_free - free) / past * HOUR if past >= SAMPLE and one.memory_free >= 0 else 0.0
