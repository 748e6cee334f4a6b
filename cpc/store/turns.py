"""Units that wait for the writer: this server's own first, then those that its peers cause, each peer in its turn.

A peer's units are *guests*. A batch has all of ours, as far as they fit, and of the guests' about GUESTS of weight: so a peer
that says as much as it can holds up neither our own workers nor another peer, and is not kept waiting for ever either.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_BATCH = 500
GUESTS = 200  # weight of the guests in one batch: as much as so many results of jobs, some ten milliseconds


class Turns(Generic[T]):
    """What waits. `add` without a guest is ours."""

    def __init__(self) -> None:
        self._own: deque[T] = deque()
        self._guests: dict[str, deque[tuple[int, T]]] = {}  # in the order of their turns; none is empty
        self._count = 0

    def __len__(self) -> int:
        return len(self._own) + self._count

    def add(self, unit: T, guest: str = "", weight: int = 1) -> None:
        """One more; a guest's comes after those that it has here already."""
        if guest:
            self._guests.setdefault(guest, deque()).append((weight, unit))
            self._count += 1
        else:
            self._own.append(unit)

    def take(self) -> list[T]:
        """The next batch, in the order in which it is to be decided; at least one guest's unit if there is any."""
        batch = [self._own.popleft() for _ in range(min(MAX_BATCH, len(self._own)))]
        left = GUESTS
        while self._guests and left > 0 and len(batch) < 2 * MAX_BATCH:
            guest = next(iter(self._guests))
            waiting = self._guests.pop(guest)
            weight, unit = waiting.popleft()
            if waiting:
                self._guests[guest] = waiting  # behind the others
            batch.append(unit)
            self._count -= 1
            left -= max(1, weight)
        return batch

    def clear(self) -> list[T]:
        """All that wait, which are taken out."""
        found = list(self._own)
        found += (unit for waiting in self._guests.values() for _, unit in waiting)
        self._own.clear()
        self._guests.clear()
        self._count = 0
        return found
