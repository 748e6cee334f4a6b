"""Which peer is asked next for work for a worker: in their order, none that has been asked in vain and has promised to call.

So an idle worker costs one question to each peer within the time for which it subscribes, however often something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile
from cpc.queue.spare import Spare

AGAIN = 60.0  # seconds until a peer is asked again that could not be, or promised nothing


class Sources:
    """What was asked in vain: by peer and profile, how much room was offered, and until when the peer calls by itself.
    Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[Profile, tuple[Amounts, float]]] = {}
        self._called: set[str] = set()

    def choose(
        self, spare: Spare, peers: Sequence[str], now: float, room: Callable[[str], Amounts], known: str = ""
    ) -> str:
        """The peer to ask for this worker; empty: nobody. `room(peer)`: what that peer may have of it.

        `known`: the peer through which the owner of its jobs is reached, which hears of the room anyway. Then only peers of
        a higher priority that have called come before it.
        """
        for peer in peers:
            if peer == known:
                return ""
            if known and peer not in self._called:
                continue
            offered = room(peer)
            if offered.cores > 0 and not self.covered(peer, spare.profile, offered, now):
                return peer
        return ""

    def covered(self, peer: str, profile: Profile, room: Amounts, now: float) -> bool:
        """Whether the peer has been asked for as much, and will call."""
        known = self._asked.get(peer, {}).get(profile)
        return known is not None and known[1] > now and known[0].covers(room)

    def in_vain(self, peer: str, profile: Profile, room: Amounts, now: float, subscribed: float) -> None:
        """The peer was asked, and so much room is left. `subscribed`: for so long it calls by itself."""
        self._asked.setdefault(peer, {})[profile] = (room, now + (subscribed or AGAIN))

    def asking(self, peer: str) -> None:
        """The peer is being asked: its call has been heard."""
        self._called.discard(peer)

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
        for peer, asked in list(self._asked.items()):
            for profile in [profile for profile, (_, until) in asked.items() if until <= now]:
                del asked[profile]
            if not asked:
                del self._asked[peer]
        return min((until for asked in self._asked.values() for _, until in asked.values()), default=None)
