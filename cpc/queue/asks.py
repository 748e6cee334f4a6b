"""Questions for work that have come, by id: each is answered once; a repeat gets the same answer, another way nothing, unless the
question may go farther from here when it comes by that."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from cpc.queue.terms import MOST_SERVERS

A = TypeVar("A")
_Key = tuple[str, int]  # a question's id, and how far it goes

REMEMBERED = 10_000
MOST = 2_000  # of one peer: one that asks without end pushes out nobody else's
KEPT = 120.0  # seconds
ENOUGH = 4  # hops: what could be asked for so far is asked for anew only when it may go twice as far, for each time costs as much


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
    """The ledger, by id and by how many servers beyond this one may be asked (hops). Bounded in number and time; times in
    seconds, of any one clock."""

    def __init__(self) -> None:
        self._asks: OrderedDict[_Key, _Ask[A]] = OrderedDict()
        self._of: dict[str, OrderedDict[_Key, None]] = {}  # peer → what it has asked, in order

    def come(self, id: str, hops: int, peer: str, now: float) -> Standing:
        """A question has come from a peer. It is asked of one server after the other, so it may come by a long way first, with no
        hop left: what lies beyond is asked when it comes by a shorter one."""
        while self._asks and (next(iter(self._asks.values())).since < now - KEPT or len(self._asks) >= REMEMBERED):
            self.forget(*next(iter(self._asks)))
        known = self._asks.get((id, hops))
        if known is not None:
            return Standing.REPEAT if known.peer == peer else Standing.ELSEWHERE
        before = max((far for far in range(MOST_SERVERS) if (id, far) in self._asks), default=-1)
        if hops <= (before if before < ENOUGH else 2 * before - 1):
            return Standing.ELSEWHERE
        its = self._of.setdefault(peer, OrderedDict())
        if len(its) >= MOST:
            del self._asks[its.popitem(last=False)[0]]
        self._asks[id, hops] = _Ask(peer, now)
        its[id, hops] = None
        return Standing.NEW

    def answered(self, id: str, hops: int, answer: A) -> None:
        """What is said to it, now and at each repeat."""
        if (id, hops) in self._asks:
            self._asks[id, hops].answer = answer

    def answer(self, id: str, hops: int) -> A | None:
        """What was said; None while it is under way."""
        return self._asks[id, hops].answer if (id, hops) in self._asks else None

    def forget(self, id: str, hops: int) -> None:
        """It was not looked at, or long ago: when it comes again, it is."""
        known = self._asks.pop((id, hops), None)
        if known is not None:
            its = self._of[known.peer]
            del its[id, hops]
            if not its:
                del self._of[known.peer]
