"""Peers that have asked in vain and are called when there is work: the least served first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile
from cpc.queue.served import Served

LONGEST_PAUSE = 60.0  # seconds between calls that come to nothing
MOST = 1000  # offers that are kept of one peer


@dataclass(frozen=True, slots=True)
class Waiting:
    """An offer that got nothing, or not enough. `onward`: our own peers may be asked for it too, and call us; but for those
    to `avoid`, which others ask."""

    profile: Profile
    free: Amounts
    until: float
    onward: bool
    avoid: frozenset[str] = frozenset()


class Callers:
    """Per peer, its offers by (home, worker). Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._offers: dict[str, dict[tuple[str, int], Waiting]] = {}
        self._served = Served()
        self._vain: dict[str, tuple[int, float]] = {}  # peer → (calls in vain, not to be called again before)

    def __bool__(self) -> bool:
        return bool(self._offers)

    def subscribe(self, peer: str, worker: tuple[str, int], waiting: Waiting) -> bool:
        """Call the peer when there is work for this offer; whether that is promised."""
        offers = self._offers.setdefault(peer, {})
        if worker not in offers and len(offers) >= MOST:
            return False
        offers[worker] = waiting
        return True

    def withdraw(self, peer: str, worker: tuple[str, int]) -> None:
        """The offer was filled."""
        offers = self._offers.get(peer, {})
        offers.pop(worker, None)
        if not offers:
            self._offers.pop(peer, None)

    def elsewhere(self, peer: str, worker: tuple[str, int], now: float) -> None:
        """The question has come by another one before. This one will not pass a call on, so that one is called, if as much
        was offered by that way."""
        mine = self._offers.get(peer, {}).get(worker)
        if mine is not None and any(
            one.until > now and one.profile == mine.profile and one.free.covers(mine.free)
            for other, offers in self._offers.items()
            if other != peer and (one := offers.get(worker)) is not None
        ):
            self.withdraw(peer, worker)

    def forget(self, peer: str) -> None:
        """It is away: it asks again by itself."""
        self._offers.pop(peer, None)
        self._vain.pop(peer, None)

    def serve(self, peer: str, cores: int, now: float) -> None:
        """The peer's workers were given work for so many cores."""
        self._served.give(peer, cores, now)
        self._vain.pop(peer, None)

    def called(self, peer: str, now: float, homes: Collection[str]) -> None:
        """The peer is called for workers of these homes: it asks again by itself. If that gives it nothing, it is not called
        again so soon."""
        for worker in [worker for worker in self._offers.get(peer, {}) if worker[0] in homes]:
            self.withdraw(peer, worker)
        calls = self._vain.get(peer, (0, 0.0))[0]
        self._vain[peer] = (calls + 1, now + min(LONGEST_PAUSE, 2.0**calls) if calls else now)

    def served(self, peer: str, now: float) -> float:
        """What the peer's workers were given, older things counting less."""
        return self._served.of(peer, now)

    def fitting(self, fits: Callable[[Waiting], bool], now: float) -> list[tuple[str, int]]:
        """Peers with offers that `fits` likes, the least served first, and how many cores those offers have."""
        found = []
        for peer, offers in self._offers.items():
            if self._vain.get(peer, (0, 0.0))[1] > now:
                continue
            cores = sum(one.free.cores for one in offers.values() if one.until > now and fits(one))
            if cores:
                found.append((peer, cores))
        return sorted(found, key=lambda each: (self.served(each[0], now), each[0]))

    def of(self, peer: str, now: float) -> list[tuple[str, Waiting]]:
        """What the peer has offered in vain, each with its home."""
        return [(home, one) for (home, _), one in self._offers.get(peer, {}).items() if one.until > now]

    def onward(self, following: str, now: float) -> list[str]:
        """Peers with offers for which this peer of ours may be asked, the least served first."""
        found = [
            peer
            for peer, offers in self._offers.items()
            if peer != following
            and any(one.onward and one.until > now and following not in one.avoid for one in offers.values())
        ]
        return sorted(found, key=lambda peer: (self.served(peer, now), peer))

    def expire(self, now: float) -> None:
        """Drop what nobody waits for any more."""
        self._served.expire(now)
        for peer, offers in list(self._offers.items()):
            for worker in [worker for worker, one in offers.items() if one.until <= now]:
                del offers[worker]
            if not offers:
                del self._offers[peer]
