"""Which peer is asked next for work for a worker: by priority, none that has been asked in vain and has promised to call.

So an idle worker costs one question to each peer within the time for which it subscribes, however often something changes. Among
peers of the same priority the one comes first whose jobs were given least room here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile
from cpc.queue.served import Served
from cpc.queue.spare import Spare

AGAIN = 60.0  # seconds until a peer is asked again that could not be, or promised nothing


@dataclass(frozen=True, slots=True)
class Ranked:
    """A peer in the order in which it is asked: smaller priorities first, then who was served less (cores)."""

    priority: int
    served: float
    peer: str

    def before(self, other: Ranked, has_work: bool) -> bool:
        """Whether it comes before the one whose jobs run at a worker already. One of the same priority only when it is known to
        have work: else that one is not kept waiting for it."""
        if self.priority == other.priority:
            return has_work and self.served < other.served
        return self.priority < other.priority


class Sources:
    """What was asked in vain: by peer and profile, how much room was offered, and until when the peer calls by itself.
    Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[Profile, tuple[Amounts, float]]] = {}
        self._called: set[str] = set()  # they have work: they have called, or have filled all they were asked for
        self._served = Served()

    def rank(self, peers: Iterable[str], priority: Callable[[str], int], now: float) -> tuple[Ranked, ...]:
        """These peers, in order."""
        found = [Ranked(priority(peer), self._served.of(peer, now), peer) for peer in peers]
        return tuple(sorted(found, key=lambda each: (each.priority, each.served, each.peer)))

    def choose(
        self, spare: Spare, peers: Sequence[Ranked], now: float, room: Callable[[str], Amounts], known: str = ""
    ) -> str:
        """The peer to ask for this worker; empty: nobody. `room(peer)`: what that peer may have of it.

        `known`: the peer through which the owner of its jobs is reached, which hears of the room anyway. Before it come those of
        a higher priority, and those of the same that have work and were served less.
        """
        holder = next((each for each in peers if each.peer == known), None)
        for each in peers:
            if each is holder:
                continue
            if holder is not None and not each.before(holder, each.peer in self._called):
                continue
            offered = room(each.peer)
            if offered.cores > 0 and not self.covered(each.peer, spare.profile, offered, now):
                return each.peer
        return ""

    def covered(self, peer: str, profile: Profile, room: Amounts, now: float) -> bool:
        """Whether the peer has been asked for as much, and will call."""
        known = self._asked.get(peer, {}).get(profile)
        return known is not None and known[1] > now and known[0].covers(room)

    def in_vain(self, peer: str, profile: Profile, room: Amounts, now: float, subscribed: float) -> None:
        """The peer was asked, and so much room is left. `subscribed`: for so long it calls by itself. One that has called since
        it was asked may have something by now."""
        if peer in self._called:
            return
        self._asked.setdefault(peer, {})[profile] = (room, now + (subscribed or AGAIN))

    def asking(self, peer: str) -> None:
        """The peer is being asked: its call has been heard."""
        self._called.discard(peer)

    def filled(self, peer: str) -> None:
        """It has filled all that it was asked for: it may well have more."""
        self._called.add(peer)

    def serve(self, peer: str, cores: int, now: float) -> None:
        """Its jobs are given so much room."""
        self._served.give(peer, cores, now)

    def called(self, peer: str) -> None:
        """The peer has work, or is here again: it may be asked for everything."""
        self._asked.pop(peer, None)
        self._called.add(peer)

    def forget(self, peer: str) -> None:
        """The peer is away: it will not call."""
        self._asked.pop(peer, None)
        self._called.discard(peer)

    def expire(self, now: float) -> float | None:
        """Drop promises that have run out; when the next one does."""
        self._served.expire(now)
        for peer, asked in list(self._asked.items()):
            for profile in [profile for profile, (_, until) in asked.items() if until <= now]:
                del asked[profile]
            if not asked:
                del self._asked[peer]
        return min((until for asked in self._asked.values() for _, until in asked.values()), default=None)
