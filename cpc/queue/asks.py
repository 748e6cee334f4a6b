"""Questions for work that have come, by id: each is answered once; a repeat gets the same answer, another way nothing."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")

REMEMBERED = 10_000
KEPT = 120.0  # seconds


class Standing(enum.StrEnum):
    NEW = "new"
    REPEAT = "repeat"  # the same peer asks again
    ELSEWHERE = "elsewhere"  # it has come by another way already


@dataclass(slots=True)
class _Ask(Generic[A]):
    peer: str
    since: float
    answer: A | None = None


class Asks(Generic[A]):
    """The ledger. Bounded in number and time; times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._asks: OrderedDict[str, _Ask[A]] = OrderedDict()

    def come(self, id: str, peer: str, now: float) -> Standing:
        """A question has come from a peer."""
        while self._asks and (next(iter(self._asks.values())).since < now - KEPT or len(self._asks) >= REMEMBERED):
            self._asks.popitem(last=False)
        known = self._asks.get(id)
        if known is not None:
            return Standing.REPEAT if known.peer == peer else Standing.ELSEWHERE
        self._asks[id] = _Ask(peer, now)
        return Standing.NEW

    def answered(self, id: str, answer: A) -> None:
        """What is said to it, now and at each repeat."""
        if id in self._asks:
            self._asks[id].answer = answer

    def answer(self, id: str) -> A | None:
        """What was said; None while it is under way."""
        return self._asks[id].answer if id in self._asks else None
