"""Peers that were asked on behalf of other servers' workers, and what they have promised: to call when they have work.

A question that comes again by the same neighbour goes on to those only who have called meanwhile, and a call goes back to those
only for whom it was promised. So calls, and the questions that follow them, go the way between a worker and its work, and not
through the whole network once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile

MOST = 1000  # offers that are remembered of one peer
SOON = 60.0  # seconds
INSTEAD = 240.0  # seconds for which what came by another way is remembered beyond its time

Worker = tuple[str, str, int]  # the neighbour that asks for it, its home, its number there


@dataclass(frozen=True, slots=True)
class Try:
    """What was asked: how much room, and how many servers beyond the peer (`terms.FAR`: there is nobody else). `calls`: it calls
    by itself until then; one that does not has had the question by another way, and calls by that."""

    profile: Profile
    free: Amounts
    hops: int
    until: float
    calls: bool = True

    @property
    def known(self) -> float:
        """Until when it may still call by this way instead of another one that is cut."""
        return self.until if self.calls else self.until + INSTEAD

    def seconds(self, now: float) -> float:
        """For how long it is good."""
        return self.until - now if self.calls else inf


class Tried:
    """By peer and worker. Who asks is part of it, because the servers that others ask anyway differ from one to the other. Times
    in seconds, of any one clock."""

    def __init__(self) -> None:
        self._tried: dict[str, dict[Worker, Try]] = {}
        self._calls: dict[str, int] = {}

    def covers(self, peer: str, worker: Worker, asked: Try, now: float) -> Try | None:
        """What the peer was, or is being, asked, when that was as much and as far; None: it is to be asked. A promise that ends
        soon is had anew, so that those who rely on it need not ask again so soon."""
        known = self._tried.get(peer, {}).get(worker)
        if known is None or known.hops < asked.hops or known.until <= now + (SOON if known.calls else 0.0):
            return None
        return known if known.profile == asked.profile and known.free.covers(asked.free) else None

    def ask(self, peer: str, workers: Iterable[tuple[Worker, Try]]) -> int | None:
        """The peer is asked for these; what `answered` wants to know of it. None: so many wait for its call that a call would not
        be understood."""
        tried = self._tried.setdefault(peer, {})
        for worker, one in workers:
            tried[worker] = one
        return self._calls.get(peer, 0) if len(tried) <= MOST else None

    def answered(
        self, peer: str, asked: Iterable[Worker], left: Iterable[tuple[Worker, Try]], began: int | None
    ) -> None:
        """It has said its word, or is late; so much is left. One that has called meanwhile may have something by now."""
        tried = self._tried.get(peer, {})
        if began is not None and began != self._calls.get(peer, 0):
            return
        for worker in asked:
            tried.pop(worker, None)
        if began is not None:
            tried.update(left)
        if not tried:
            self._tried.pop(peer, None)

    def called(
        self, peer: str, now: float, homes: Collection[str] = (), instead: bool = False
    ) -> dict[str, list[str]]:  # fmt: skip
        """It has work for workers of these homes, or of all of them when none is named; or it is here again, or away: it may be
        asked for everything. The neighbours that wait for its call, and for workers of which homes. `instead`: it calls by this
        way because another one is cut."""
        tried = self._tried.get(peer, {})
        self._calls[peer] = self._calls.get(peer, 0) + 1
        waiting: dict[str, list[str]] = {}
        for worker in [worker for worker in tried if not homes or worker[1] in homes]:
            one, its = tried.pop(worker), waiting.setdefault(worker[0], [])
            if (instead or one.calls) and one.known > now and worker[1] not in its:
                its.append(worker[1])
        if not tried:
            self._tried.pop(peer, None)
        return {neighbour: its for neighbour, its in waiting.items() if its}

    def expire(self, now: float) -> None:
        """Drop promises that have run out."""
        for peer, tried in list(self._tried.items()):
            for worker in [worker for worker, one in tried.items() if one.known <= now]:
                del tried[worker]
            if not tried:
                del self._tried[peer]
