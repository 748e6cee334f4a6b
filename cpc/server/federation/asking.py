"""Spare room of our workers, offered: to the owner whose jobs a worker runs already, else to the peers in their order.

Own work comes first by itself: room is what is left after a round of the own queue, and what own jobs take while a peer
looks for work is simply not there any more when its tasks come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError
from cpc.core.resources import Amounts
from cpc.queue import terms
from cpc.queue.requirement import Profile
from cpc.queue.sources import Choice, Ranked, Sources
from cpc.queue.spare import Event, Spare, State
from cpc.server.federation.home import Home
from cpc.server.federation.placing import Given
from cpc.server.federation.ways import Ways
from cpc.server.loans import Room
from cpc.server.queue import Queue
from cpc.server.seats import Seats
from cpc.wire.messages import Program
from cpc.wire.peer_messages import MAX_HOPS, MAX_OFFERS, AskWork, Demand, Offer, WorkGiven
from cpc.wire.peer_messages import Given as PeerGiven

log = Logger()

SECONDS = 10.0  # in which an answer is wanted; those behind the peer share in it


class Asking:
    """All spare room. `name` is how this server calls itself, for people."""

    def __init__(
        self, *, queue: Queue, ways: Ways, home: Home, seats: Seats, timers: Timers, clock: Clock, chance: Chance, name: str
    ) -> None:  # fmt: skip
        self.asked = 0  # questions since the start
        self.held: Callable[[str], bool] = lambda peer: False  # peers that are not to be asked yet
        self._queue = queue
        self._ways = ways
        self._home = home
        self._seats = seats
        self._timers = timers
        self._clock = clock
        self._chance = chance
        self._name = name
        self._sources = Sources()
        self._spares: dict[int, Spare] = {}
        self._busy: set[str] = set()
        self._promised: dict[str, int] = {}  # peer → cores that it is looking for work for
        self._due = False
        self._wake: Timer | None = None
        self._stopped = False
        home.spares = self

    # --- what changes ---------------------------------------------------------------------------------------------------

    def rooms(self, rooms: Sequence[Room]) -> None:
        """Workers' room has changed."""
        for room in rooms:
            if not room.joined:
                self._forget(room)
                continue
            spare = self._spares.get(room.worker)
            if spare is None:
                spare = self._spares[room.worker] = Spare(room.worker, room.profile)
            spare.profile = room.profile
            spare.set_room(room.free, room.ahead)
        self._soon()

    def _forget(self, room: Room) -> None:
        session = self._queue.index.of_worker(room.worker)
        if session is None:  # else it has come back, and its new session has said what there is
            self._spares.pop(room.worker, None)

    def down(self, peer: str) -> None:
        """A peer is away: what it has promised is void."""
        self._sources.forget(peer)
        self._call_all()

    def called(self, peer: str, demand: Demand | None = None) -> None:
        """A peer has work, or somebody behind it, or may have: it may be asked for everything again."""
        demand = demand or Demand()
        self._sources.called(peer, self._clock.monotonic(), demand.server, demand.hops)
        self._call_all()

    def _call_all(self) -> None:
        for spare in self._spares.values():
            spare.happen(Event.CALLED)
        self._soon()

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stopped = True
        if self._wake is not None and self._wake.active():
            self._wake.cancel()

    # --- with reports ---------------------------------------------------------------------------------------------------

    def prefer(self, worker: int, path: str) -> None:
        """What a job of this owner leaves is offered to the same owner first."""
        spare = self._spares.get(worker)
        if spare is not None:
            spare.left_by(path)

    def over(self, worker: int, path: str) -> None:
        """No report to this owner speaks of the worker any more: somebody else is found for its room."""
        spare = self._spares.get(worker)
        if spare is not None and spare.prefer == path:
            self._soon()

    def offer(self, worker: int, path: str) -> tuple[Amounts, int] | None:
        """The room that goes along with a report."""
        spare = self._spares.get(worker)
        if spare is None or spare.prefer != path or spare.state is not State.OPEN or self._stopped:
            return None
        peer = path.partition("/")[0]
        if self.held(peer) or not self._reaches(path):
            return None
        now = self._clock.monotonic()
        if self._sources.choose(spare, self._ranked(now), now, lambda p: self._room(spare, p), path):
            return None
        free = self._room(spare, peer)
        ahead = spare.ahead if self._ways.agreement(peer).lent.cores is None else 0
        if free.cores <= 0 and not ahead:
            return None
        spare.offered()
        return free, ahead

    def spent(self, path: str, core_seconds: float) -> None:
        """Jobs of this owner use so much; a job is charged something at once, and the rest when it has ended."""
        if core_seconds:
            self._sources.serve(path.partition("/")[0], core_seconds, self._clock.monotonic())

    def answered(self, worker: int, given: bool) -> None:
        """The owner has given something, or nothing: then everybody else is asked."""
        spare = self._spares.get(worker)
        if spare is not None and spare.state is State.OFFERED:
            if not given:
                spare.refused()
            spare.answered()
            self._soon()

    def describe(self, worker: int, peer: str) -> Offer | None:
        """The worker, with no room, as this peer may use it."""
        session = self._queue.index.of_worker(worker)
        if session is None:
            return None
        return self._describe(worker, session.profile, peer, Amounts(), 0)

    # --- asking ---------------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._due and not self._stopped:
            self._due = True
            self._timers.callLater(0, self._pump)

    def _pump(self) -> None:
        """Find somebody for all room that nobody looks at; one question for all workers that come to the same peer."""
        self._due = False
        if self._stopped:
            return
        now = self._clock.monotonic()
        peers = self._ranked(now)
        by_choice: dict[Choice, list[Spare]] = {}
        for spare in self._spares.values():
            if spare.state is not State.OPEN:
                continue
            if spare.prefer and not self._prefers(spare):
                spare.prefer = ""
                if spare.free.cores <= 0:
                    spare.happen(Event.NO_ROOM)
                    continue
            known = spare.prefer.partition("/")[0]
            choice = self._sources.choose(spare, peers, now, lambda p, s=spare: self._room(s, p), spare.prefer)  # type: ignore[misc]
            if choice:
                by_choice.setdefault(choice, []).append(spare)
            elif known and not self.held(known):
                self._home.poke(spare.worker, spare.prefer)
            else:
                spare.happen(Event.REST)
        for choice, spares in by_choice.items():
            if choice.peer not in self._busy:
                self._ask(choice, spares[:MAX_OFFERS])
        self._set_alarm(now)

    def _prefers(self, spare: Spare) -> bool:
        """Whether the owner whose jobs the worker runs may have what room there is, and hears of it."""
        peer = spare.prefer.partition("/")[0]
        if not self._home.reports(spare.worker, spare.prefer) or not self._reaches(spare.prefer):
            return False
        return spare.free.cores <= 0 or self.held(peer) or self._room(spare, peer).cores > 0

    def _reaches(self, path: str) -> bool:
        """Whether we lend so far."""
        return path.count("/") <= self._most(path.partition("/")[0])

    def _ranked(self, now: float) -> tuple[Ranked, ...]:
        peers = (peer for peer in self._ways.up() if not self.held(peer))
        return self._sources.rank(peers, self._ways.priority, now, self._most)

    def _most(self, peer: str) -> int:
        """How many servers beyond a peer may be asked."""
        return min(MAX_HOPS - 1, terms.beyond(self._ways.agreement(peer)) or 0)

    def _room(self, spare: Spare, peer: str) -> Amounts:
        """What of the worker the peer may have now."""
        limits = self._ways.agreement(peer).lent
        if limits.off or not (spare.profile.plain or spare.profile.programs):
            return Amounts()
        profile = terms.restricted(spare.profile, limits)
        if not profile.plain and not profile.programs:
            return Amounts()
        if limits.cores is None:
            return spare.free
        return terms.room(spare.free, limits, self._home.used(peer) + self._promised.get(peer, 0))

    def _set_alarm(self, now: float) -> None:
        """Those who have promised to call are asked again when their promise runs out."""
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self._wake = None
        due = self._sources.expire(now)
        if due is not None and any(spare.state is State.RESTING for spare in self._spares.values()):
            self._wake = self._timers.callLater(max(0.001, due - now), self._alarm)

    def _alarm(self) -> None:
        self._wake = None
        self._sources.expire(self._clock.monotonic())
        self._call_all()

    def _ask(self, choice: Choice, spares: list[Spare]) -> None:
        peer, offers = choice.peer, dict[int, Offer]()
        for spare in spares:
            room = self._room(spare, peer)
            offer = self._describe(spare.worker, spare.profile, peer, room, spare.ahead) if room.cores > 0 else None
            if offer is not None:
                offers[spare.worker] = offer
                spare.happen(Event.ASK)
                self._promised[peer] = self._promised.get(peer, 0) + room.cores
        if not offers:
            return
        self._busy.add(peer)
        self._sources.asking(peer)
        ensureDeferred(self._question(choice, offers)).addErrback(
            lambda failure: log.failure("asking a peer for work failed", failure)
        )

    async def _question(self, choice: Choice, offers: dict[int, Offer]) -> None:
        peer, most = choice.peer, self._most(choice.peer)
        question = AskWork(
            id=self._chance.token(16).hex(),
            route=(self._ways.here,),
            hops=min(choice.hops, most),
            seconds=SECONDS,
            most=most,
            asked=self._asked_by_us(choice),
            offers=tuple(offers.values()),
            bounds=terms.bound((self._ways.here, peer), 0, self._ways.agreement(peer)),
        )
        self.asked += 1
        answer = WorkGiven(complete=True)  # one that is late is asked for all of it again, after a while
        try:
            answer = await self._ways.ask(peer, "ask-work", question, WorkGiven, SECONDS + 5.0)
            await self._home.lend(self._good(peer, question.hops, offers, answer.given), asked=True)
        except CopernicusError as error:
            log.debug("peer {peer} could not be asked for work: {why}", peer=peer, why=str(error))
        finally:
            self._looked(choice, offers, answer)

    def _asked_by_us(self, choice: Choice) -> tuple[str, ...]:
        """What was agreed with a peer holds by whatever way its jobs come: so others do not ask our peers. Nor do they ask an
        owner that hears of the room from us, or its jobs would come by a longer way."""
        return (*self._ways.up(), *filter(None, [choice.without]))

    def _looked(self, choice: Choice, offers: dict[int, Offer], answer: WorkGiven) -> None:
        """The peer has said its word, or is late: what it has left is open again, for the next one."""
        peer = choice.peer
        self._busy.discard(peer)
        self._promised.pop(peer, None)
        now, filled = self._clock.monotonic(), True
        for worker, offer in offers.items():
            spare = self._spares.get(worker)
            if spare is None or spare.state is not State.ASKED:
                continue
            # Of what it was asked for: room that jobs have left meanwhile it has not seen.
            left = _left(offer, answer.given)
            if left.cores > 0:
                filled = False
                self._sources.in_vain(choice, spare.profile, left, now, answer.subscribed, answer.complete)
            spare.answered()
        paths = {"/".join(one.route) for one in answer.given}
        self._sources.gave(peer, paths, now)
        if filled and paths:
            self._sources.filled(peer, paths, now)
        self._soon()

    def _good(self, peer: str, hops: int, offers: dict[int, Offer], given: Sequence[PeerGiven]) -> list[Given]:
        """What was given for what was offered, by ways that are allowed."""
        agreement = self._ways.agreement(peer)
        good: list[Given] = []
        for one in given:
            route = one.route
            if (
                one.worker in offers
                and route
                and route[0] == peer
                and not terms.broken((self._ways.here, *route))
                and len(route) - 1 <= hops
                and not terms.denied(route, agreement)
            ):
                good.append(Given(one.worker, "/".join(route), one.tasks))
            else:
                log.warn("peer {peer} gave work by a way that is not agreed: {route}", peer=peer, route=route)
        return good

    def _describe(self, worker: int, profile: Profile, peer: str, free: Amounts, ahead: int) -> Offer | None:
        seat = self._seats.of_worker(worker)
        session = self._queue.index.of_worker(worker)
        if seat is None or session is None:
            return None
        limits = self._ways.agreement(peer).lent
        ahead = ahead if limits.cores is None else 0  # what waits at the worker cannot be kept below a limit
        may = terms.restricted(profile, limits)
        programs = tuple(
            Program(name=one.name, version=one.version, platform=one.platform)
            for one in seat.hello.programs
            if (one.name, one.version) in may.programs
        )
        left = session.deadline - self._queue.now if session.deadline is not None else None
        return Offer(
            worker=worker,
            name=session.name,
            host=seat.hello.host,
            total=terms.room(session.total, limits, 0),
            free=free,
            programs=programs,
            labels=seat.hello.labels,
            platform=seat.hello.platform,
            cores_per_job=seat.hello.cores_per_job,
            time_left=left,
            ahead=ahead,
            home=self._name,
            plain=may.plain,
        )


def _left(offer: Offer, given: Iterable[PeerGiven]) -> Amounts:
    """Of the room that was offered, what the tasks that were given for it do not need."""
    free = offer.free
    for one in given:
        for task in one.tasks if one.worker == offer.worker else ():
            if free.covers(task.granted):
                free -= task.granted
    return free
