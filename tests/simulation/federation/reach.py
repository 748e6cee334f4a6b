"""Whose workers may run a job, by the agreements alone: breadth-first from the owner, so that a hundred servers cost little.

A way leads from the workers' home over relays to the owner. Everyone on it must lend so far and for that, no relay lets nothing
of a neighbour's pass, and nobody on it asks a later one directly anyway (`_detour`): production takes no such way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cpc.core.peer import Agreement
from cpc.queue import terms

MOST_KEPT = 32  # ways that are kept of one server: past these a server may be missed, and is then asked for nothing
Way = tuple[int, ...]  # from a home to the owner


@dataclass(frozen=True)
class Work:
    """A job as limits see it. `plenty`: only by ways without limits that other jobs could use up."""

    cores: int
    executable: str
    project: str
    plenty: bool = False


class Reach:
    """From one owner. `near`: whom each server trusts; `agreement(here, peer)`: what `here` has set for that peer.

    **Why one way for each server is nearly enough.** What is asked of a way is asked of each step of it, and the shorter it is
    the easier. So the shortest way to a server can be made longer wherever any other one can, but for this: somebody new at its
    beginning asks a later server of it directly, and that one does not take it. Such servers are `_thorns`; of ways that pass
    different ones, several are kept.
    """

    def __init__(
        self, owner: int, near: Mapping[int, Sequence[int]], agreement: Callable[[int, int], Agreement], work: Work
    ) -> None:
        self._owner = owner
        self._near = near
        self._near_of = {server: frozenset(others) for server, others in near.items()}
        self._agreement = agreement
        self._work = work
        self._thorns = {
            server for server, others in near.items() if any(not self._takes(server, other) for other in others)
        }

    def homes(self) -> set[int]:
        """All servers that there is a way from, and the owner."""
        first: Way = (self._owner,)
        kept: dict[int, list[Way]] = {self._owner: [first]}
        layer = [first]
        for _ in range(terms.MOST_SERVERS - 1):
            longer = []
            for way in layer:
                for number in self._near[way[0]]:
                    found = (number, *way)
                    if number not in way and self._lets(found) and not self._detour(found):
                        known = kept.setdefault(number, [])
                        if len(known) < MOST_KEPT and not any(self._as_good(each, found) for each in known):
                            known.append(found)
                            longer.append(found)
            layer = longer
        return set(kept)

    def _as_good(self, known: Way, other: Way) -> bool:
        """Whether the longer one leads nowhere that this one does not lead to, too."""
        return self._thorns.intersection(known) <= set(other)

    def _takes(self, server: int, before: int) -> bool:
        """Whether a server takes a question for this work that comes by `before`."""
        agreement = self._agreement(server, before)
        if server != self._owner:
            return not terms.withdrawn(agreement)
        accepted, work = agreement.accepted, self._work
        if accepted.off or (accepted.cores is not None and (work.plenty or accepted.cores < work.cores)):
            return False
        return accepted.projects is None or work.project in accepted.projects

    def _lets(self, way: Way) -> bool:
        """Whether the first step of a way may be taken, when all others may."""
        here, peer = way[:2]
        agreement, work = self._agreement(here, peer), self._work
        lent = agreement.lent
        if lent.off or agreement.lend_on < len(way) - 2:
            return False
        if lent.cores is not None and (work.plenty or lent.cores < work.cores):
            return False
        if lent.executables is not None and work.executable not in lent.executables:
            return False
        return self._takes(peer, here)

    def _detour(self, way: Way) -> bool:
        """Whether its first server asks a later one directly: by what was agreed with that one, and by no other way."""
        here, _, *later = way
        return not self._near_of[here].isdisjoint(later)
