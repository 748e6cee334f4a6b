"""Which peer is asked next for work for a worker: by priority, none that has been asked in vain and has promised to call.

So an idle worker costs one question to each peer within the time for which it subscribes, however often something changes. Among
peers of the same priority the one comes first whose jobs have used least here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile
from cpc.queue.served import Served
from cpc.queue.spare import Spare

AGAIN = 60.0  # seconds until a peer is asked again that could not be, or promised nothing
TURN = 60.0  # seconds after which a peer is asked whose jobs come first now of those behind it


@dataclass(frozen=True, slots=True)
class Ranked:
    """A peer in the order in which it is asked: smaller priorities first, then who was served less (core-seconds)."""

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
        self._turns: dict[
            str, tuple[str, float]
        ] = {}  # peer → (whose jobs alone it gave when it was asked last, and when)
        self._served = Served()

    def rank(self, peers: Iterable[str], priority: Callable[[str], int], now: float) -> tuple[Ranked, ...]:
        """These peers, in order."""
        found = [Ranked(priority(peer), self._served.of(peer, now), peer) for peer in peers]
        return tuple(sorted(found, key=lambda each: (each.priority, each.served, each.peer)))

    def choose(
        self, spare: Spare, peers: Sequence[Ranked], now: float, room: Callable[[str], Amounts], known: str = ""
    ) -> str:
        """The peer to ask for this worker; empty: nobody. `room(peer)`: what that peer may have of it.

        `known`: the path of the owner of its jobs, which hears of the room anyway. Before the peer through which it is reached
        come those of a higher priority, and those of the same that have work and were served less; and that peer itself, if it
        has perhaps another owner behind it that comes first there.
        """
        neighbour = known.partition("/")[0]
        holder = next((each for each in peers if each.peer == neighbour), None)
        for each in peers:
            if each is holder:
                if not self._turns_to_another(neighbour, known, now):
                    continue
            elif holder is not None and not each.before(holder, each.peer in self._called):
                continue
            offered = room(each.peer)
            if offered.cores > 0 and not self.covered(each.peer, spare.profile, offered, now):
                return each.peer
        return ""

    def _turns_to_another(self, peer: str, path: str, now: float) -> bool:
        """Whether a peer, with the owner at the end of this path behind it, may have work of another one that is first there: it
        has work, and did not give that owner's alone when it was asked last, or that is a while ago."""
        if path == peer:
            return False  # its own jobs come first there
        chosen, at = self._turns.get(peer, ("", now))
        return (peer in self._called and chosen != path) or now - at >= TURN

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

    def gave(self, peer: str, paths: Collection[str], now: float) -> None:
        """The peer was asked, and gave jobs of the owners at the ends of these paths."""
        self._turns[peer] = (next(iter(paths)) if len(paths) == 1 else "", now)

    def asking(self, peer: str) -> None:
        """The peer is being asked: its call has been heard."""
        self._called.discard(peer)

    def filled(self, peer: str) -> None:
        """It has filled all that it was asked for: it may well have more."""
        self._called.add(peer)

    def serve(self, peer: str, core_seconds: float, now: float) -> None:
        """Its jobs use so much, or (negative) have used less than was thought."""
        self._served.give(peer, core_seconds, now)

    def called(self, peer: str) -> None:
        """The peer has work, or is here again: it may be asked for everything."""
        self._asked.pop(peer, None)
        self._turns.pop(peer, None)
        self._called.add(peer)

    def forget(self, peer: str) -> None:
        """The peer is away: it will not call."""
        self._asked.pop(peer, None)
        self._turns.pop(peer, None)
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
