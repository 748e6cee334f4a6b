"""Which peer is asked next for work for a worker, and how far beyond it: by priority, none that has been asked in vain and has
promised to call.

So an idle worker costs a few questions to each peer within the time for which it subscribes, however often something changes.
Among peers of the same priority the one comes first whose jobs have used least here. What is near is looked at first: a peer that
has called is asked as far as its work is, another one by itself, and then more than twice as far each time (ADR 0019).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile
from cpc.queue.served import Served
from cpc.queue.spare import Spare
from cpc.queue.terms import FAR

AGAIN = 60.0  # seconds until a peer is asked again that could not be, or promised nothing
#: Servers beyond a peer that are asked when nothing is known of it, and the next times when that was in vain.
STEPS = (0, 2, 6, FAR)
MOST_OWNERS = 32  # that are known by name behind one peer
KEPT = 120.0  # seconds for which it is remembered how far a peer has looked whose promise has run out
TURN = 60.0  # seconds after which a peer is asked whose jobs come first now of those behind it


@dataclass(frozen=True, slots=True)
class Ranked:
    """A peer in the order in which it is asked: smaller priorities first, then who was served less (core-seconds). `most`: how
    many servers beyond it may be asked."""

    priority: int
    served: float
    peer: str
    most: int = 0

    def before(self, other: Ranked, has_work: bool) -> bool:
        """Whether it comes before the one whose jobs run at a worker already. One of the same priority only when it is known to
        have work: else that one is not kept waiting for it."""
        if self.priority == other.priority:
            return has_work and self.served < other.served
        return self.priority < other.priority


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is asked, and how many servers beyond it. `without`: a server that hears of the room anyway, because its jobs run at
    the worker; empty: nobody does."""

    peer: str
    hops: int
    without: str = ""


@dataclass(slots=True)
class _Work:
    """What a peer has called for, or given when it filled all it was asked for: whose jobs (empty: not known), and how many
    servers beyond it they are. It calls for those of others until then."""

    owners: set[str]
    hops: int
    until: float


@dataclass(frozen=True, slots=True)
class _Vain:
    """How much room was offered, until when the peer calls by itself, and how far it has looked (FAR: there is nobody beyond)."""

    room: Amounts
    until: float
    hops: int
    without: str


class Sources:
    """What was asked in vain, by peer and profile, and who has work. Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[Profile, _Vain]] = {}
        self._work: dict[str, _Work] = {}
        self._turns: dict[
            str, tuple[str, float]
        ] = {}  # peer → (whose jobs alone it gave when it was asked last, and when)
        self._served = Served()

    def rank(
        self, peers: Iterable[str], priority: Callable[[str], int], now: float, most: Callable[[str], int] = lambda _: 0
    ) -> tuple[Ranked, ...]:
        """These peers, in order. `most(peer)`: how many servers beyond it may be asked."""
        found = [Ranked(priority(peer), self._served.of(peer, now), peer, most(peer)) for peer in peers]
        return tuple(sorted(found, key=lambda each: (each.priority, each.served, each.peer)))

    def choose(
        self, spare: Spare, peers: Sequence[Ranked], now: float, room: Callable[[str], Amounts], known: str = ""
    ) -> Choice | None:
        """The peer to ask for this worker; None: nobody. `room(peer)`: what that peer may have of it.

        `known`: the path of the owner of its jobs, which hears of the room anyway. Before the peer through which it is reached
        come those of a higher priority, and those of the same that were served less, if they may have work of somebody else; and
        that peer itself, if it has perhaps another owner behind it that comes first there. Of those of the same priority that
        are known to have work each has its turn, but for those that are only a longer way to it.
        """
        neighbour = known.partition("/")[0]
        holder = next((each for each in peers if each.peer == neighbour), None)
        owner = known.rpartition("/")[2] if holder is not None else ""
        found: list[tuple[Ranked, Choice]] = []
        for each in peers:
            turn = each is holder
            if turn and not self._turns_to_another(neighbour, known, now):
                continue
            if (
                holder is not None
                and not turn
                and not each.before(holder, self._may_have_other_work(each.peer, owner, now))
            ):
                continue
            offered = room(each.peer)
            without = "" if turn or each.peer == owner else owner
            if offered.cores > 0 and not self.covered(each.peer, spare.profile, offered, each.most, now, without):
                everybody = turn and each.peer not in self._work
                hops = each.most if everybody else self._hops(each, spare.profile, offered, now, without)
                found.append((each, Choice(each.peer, hops, without)))

        def order(one: tuple[Ranked, Choice]) -> tuple[int, bool, float, int]:
            ranked, choice = one
            return ranked.priority, not self._has_nearest_work(ranked, peers), ranked.served, choice.hops

        return min(found, key=order)[1] if found else None

    def _turns_to_another(self, peer: str, path: str, now: float) -> bool:
        """Whether a peer, with the owner at the end of this path behind it, may have work of another one that is first there: it
        has work, and did not give that owner's alone when it was asked last, or that is a while ago."""
        if path == peer:
            return False  # its own jobs come first there
        chosen, at = self._turns.get(peer, ("", now))
        return (peer in self._work and chosen != path) or now - at >= TURN

    def _may_have_other_work(self, peer: str, owner: str, now: float) -> bool:
        """Whether there may be work at a peer, not only a longer way to that owner. One that was asked in vain calls for it."""
        work = self._work.get(peer)
        return work is None or work.owners != {owner} or work.until <= now

    def _has_nearest_work(self, each: Ranked, peers: Sequence[Ranked]) -> bool:
        """Whether a peer is known to have work for which there is no shorter way by another peer of the same priority."""
        work = self._work.get(each.peer)
        others = [self._work[one.peer] for one in peers if one.priority == each.priority and one.peer in self._work]
        return work is not None and any(
            not owner or not any(owner in other.owners and other.hops < work.hops for other in others)
            for owner in work.owners
        )

    def covered(
        self, peer: str, profile: Profile, room: Amounts, most: int, now: float, without: str = ""
    ) -> bool:  # fmt: skip
        """Whether the peer has been asked for as much and as far, and will call."""
        known = self._known(peer, profile, room, without)
        return known is not None and known.until > now and known.hops >= most

    def _known(self, peer: str, profile: Profile, room: Amounts, without: str) -> _Vain | None:
        known = self._asked.get(peer, {}).get(profile)
        if known is None or not known.room.covers(room) or known.without not in ("", without):
            return None
        return known

    def _hops(self, each: Ranked, profile: Profile, room: Amounts, now: float, without: str) -> int:
        known, work = self._known(each.peer, profile, room, without), self._work.get(each.peer)
        if known is not None and known.until > now:
            hops = next(step for step in STEPS if step > known.hops)
        elif work is not None:
            hops = work.hops
        else:
            hops = known.hops if known is not None else 0  # nothing nearer has called since
        return min(each.most, hops)

    def in_vain(
        self, choice: Choice, profile: Profile, room: Amounts, now: float, subscribed: float, complete: bool = True
    ) -> None:
        """The peer was asked, and so much room is left. `subscribed`: for so long it calls by itself. `complete`: there is nobody
        beyond who was not asked. One that has called since it was asked may have something by now."""
        if choice.peer not in self._work:
            known = _Vain(room, now + (subscribed or AGAIN), FAR if complete else choice.hops, choice.without)
            self._asked.setdefault(choice.peer, {})[profile] = known

    def gave(self, peer: str, paths: Collection[str], now: float) -> None:
        """The peer was asked, and gave jobs of the owners at the ends of these paths."""
        self._turns[peer] = (next(iter(paths)) if len(paths) == 1 else "", now)

    def asking(self, peer: str) -> None:
        """The peer is being asked: its call has been heard."""
        self._work.pop(peer, None)

    def filled(self, peer: str, paths: Collection[str], now: float) -> None:
        """It has filled all that it was asked for, with jobs from the ends of these paths: it may well have more."""
        for path in paths:
            self._has(peer, path.rpartition("/")[2], path.count("/"), now)

    def serve(self, peer: str, core_seconds: float, now: float) -> None:
        """Its jobs use so much, or (negative) have used less than was thought."""
        self._served.give(peer, core_seconds, now)

    def called(self, peer: str, now: float, owner: str = "", hops: int = 0) -> None:
        """The peer has work, or knows of some so many servers beyond it, or is here again: it may be asked for everything."""
        asked = self._asked.pop(peer, {})
        self._turns.pop(peer, None)
        work = self._work.get(peer)
        until = work.until if work is not None else now
        self._has(peer, owner, hops, min((known.until for known in asked.values()), default=until))

    def _has(self, peer: str, owner: str, hops: int, until: float) -> None:
        work = self._work.setdefault(peer, _Work(set(), hops, until))
        work.owners.add(owner if len(work.owners) < MOST_OWNERS else "")
        work.hops, work.until = min(work.hops, hops), min(work.until, until)

    def forget(self, peer: str) -> None:
        """The peer is away: it will not call."""
        self._asked.pop(peer, None)
        self._turns.pop(peer, None)
        self._work.pop(peer, None)

    def expire(self, now: float) -> float | None:
        """Drop promises that have run out long ago; when the next one does."""
        self._served.expire(now)
        for peer, asked in list(self._asked.items()):
            for profile in [profile for profile, known in asked.items() if known.until + KEPT <= now]:
                del asked[profile]
            if not asked:
                del self._asked[peer]
        left = (known.until for asked in self._asked.values() for known in asked.values() if known.until > now)
        return min(left, default=None)
