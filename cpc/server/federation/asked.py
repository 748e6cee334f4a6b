"""A peer asks for work for its workers, or for those behind it: from our queue first, then from our own peers.

Who gets nothing, or not enough, is called when there is work: nobody has to ask again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Refused
from cpc.core.peer import Limits
from cpc.core.resources import Amounts
from cpc.queue import terms
from cpc.queue.asks import Asks, Standing
from cpc.queue.callers import Callers, Waiting
from cpc.queue.requirement import Profile, profile
from cpc.server.federation.borrowed import sane
from cpc.server.federation.owner import Owner
from cpc.server.federation.ways import Caller, Ways
from cpc.server.queue import Queue
from cpc.store import projects
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Task
from cpc.wire.peer_messages import AskWork, Demand, Given, Offer, WorkGiven

log = Logger()

SUBSCRIBED = 300.0  # seconds for which who got nothing is called
MOST_ASKS = 8  # questions of one peer under way at a time
LEAST = 0.5  # seconds that must be left to ask another peer
LOOK_AGAIN = 5.0  # while jobs wait and somebody could still be called
PAUSE = 0.01  # seconds between looks for somebody to call: what many submissions bring is one call


class Asked:
    """Questions from peers, and calls to those that got nothing."""

    def __init__(
        self, *, queue: Queue, store: Store, ways: Ways, owner: Owner, timers: Timers, clock: Clock
    ) -> None:  # fmt: skip
        self.called = 0  # calls since the start
        self.held: Callable[[str], bool] = lambda peer: False  # peers that are not to be asked yet
        self._queue = queue
        self._store = store
        self._ways = ways
        self._owner = owner
        self._timers = timers
        self._clock = clock
        self._asks: Asks[WorkGiven] = Asks()
        self._repeats: dict[str, list[Deferred[None]]] = {}
        self._under_way: dict[str, int] = {}
        self._callers = Callers()
        self._soon = False  # a look is due at once
        self._looked = -PAUSE  # when the last one was
        self._timer: Timer | None = None
        self._stopped = False
        ways.serve("ask-work", AskWork, self._ask, far=False)

    # --- a question -----------------------------------------------------------------------------------------------------

    async def _ask(self, caller: Caller, question: AskWork) -> WorkGiven:
        peer = caller.peer
        self._check(peer, question)
        standing = self._asks.come(question.id, peer, self._clock.monotonic())
        if standing is Standing.ELSEWHERE:
            return WorkGiven()
        if standing is Standing.REPEAT:
            return await self._repeat(question.id)
        if self._under_way.get(peer, 0) >= MOST_ASKS:
            self._asks.answered(question.id, WorkGiven())
            return WorkGiven()
        self._under_way[peer] = self._under_way.get(peer, 0) + 1
        answer = WorkGiven()
        try:
            answer = await self._look(peer, question)
        finally:
            self._under_way[peer] -= 1
            self._asks.answered(question.id, answer)
            for waiter in self._repeats.pop(question.id, []):
                waiter.callback(None)
        return answer

    async def _repeat(self, id: str) -> WorkGiven:
        answer = self._asks.answer(id)
        if answer is None:
            waiter: Deferred[None] = Deferred()
            self._repeats.setdefault(id, []).append(waiter)
            await waiter
            answer = self._asks.answer(id)
        return answer or WorkGiven()

    def _check(self, peer: str, question: AskWork) -> None:
        route, here = question.route, self._ways.here
        wrong = terms.broken((*route, here))
        if not wrong and route[-1] != peer:
            wrong = f"it does not end with {peer}, which asks"
        if wrong:
            raise Refused(f"a question for work came by a way that cannot be: {wrong}")
        agreement = self._ways.agreement(peer)
        if terms.withdrawn(agreement) or terms.denied(route, agreement):
            raise Refused("this server gives no work by this way", "ask its administrator")

    async def _look(self, peer: str, question: AskWork) -> WorkGiven:
        until = self._clock.monotonic() + question.seconds
        offers = {offer.worker: offer for offer in sane(question.offers, question.route[0])}
        home, given = question.route[0], list[Given]()
        onward = self._onward(peer, question)
        # Before looking: what is submitted meanwhile calls the peer.
        promised = self._subscribe(peer, home, offers.values(), question.hops > 0)
        if not self._ways.agreement(peer).accepted.off:
            tasks = await self._owner.give(peer, question.route, tuple(offers.values()))
            for worker, its in tasks.items():
                given.append(Given(worker=worker, route=(self._ways.here,), tasks=its))
                self._fill(offers, worker, its)
        for following, hops in onward:
            left = until - self._clock.monotonic()
            wanted = tuple(offer for offer in offers.values() if offer.free.cores > 0)
            if left < LEAST or not wanted:
                break
            given += await self._ask_on(following, hops, left, question, wanted)
            for one in given:
                if one.route[0] == following:
                    self._fill(offers, one.worker, one.tasks)
        self._served(peer, given)
        self._subscribe(peer, home, offers.values(), question.hops > 0)
        for worker, offer in offers.items():
            if offer.free.cores <= 0:
                self._callers.withdraw(peer, (home, worker))
        if self._callers and (self._timer is None or not self._timer.active()):
            self._plan(LOOK_AGAIN)  # jobs may have come between the look and the promise
        return WorkGiven(given=tuple(given), subscribed=SUBSCRIBED if promised else 0.0)

    def _onward(self, peer: str, question: AskWork) -> list[tuple[str, int]]:
        """Own peers that may be asked for it, with how far the question may go from there."""
        found = []
        avoid = {*question.route, *question.asked}
        for following in self._ways.up():
            agreement = self._ways.agreement(following)
            hops = terms.beyond(question.hops, agreement)
            way = (*question.route, self._ways.here, following)
            if following in avoid or hops is None or self.held(following) or terms.broken(way):
                continue
            if terms.denied(way, agreement, self._ways.agreement(peer)):
                continue
            found.append((following, hops))
        return found

    async def _ask_on(
        self, following: str, hops: int, seconds: float, question: AskWork, wanted: Sequence[Offer]
    ) -> list[Given]:
        """What a peer of ours has for these workers of others."""
        here, agreement = self._ways.here, self._ways.agreement(following)
        limits = agreement.lent
        offers = [limited for offer in wanted if (limited := _limited(offer, limits.cores, limits.executables))]
        if not offers:
            return []
        own = (each for each in self._ways.up() if terms.covers(self._ways.agreement(each), agreement))
        asked = dict.fromkeys((*question.asked, *own))
        further = msgspec.structs.replace(
            question, route=(*question.route, here), hops=hops, seconds=seconds * 0.8, asked=tuple(asked),
            offers=tuple(offers),
        )  # fmt: skip
        try:
            answer = await self._ways.ask(following, "ask-work", further, WorkGiven, seconds)
        except CopernicusError as error:
            log.debug("peer {peer} could not be asked for work: {why}", peer=following, why=str(error))
            return []
        workers = {offer.worker for offer in offers}
        return [
            msgspec.structs.replace(one, route=(here, *one.route))
            for one in answer.given
            if one.worker in workers
            and one.route
            and one.route[0] == following
            and len(one.route) - 1 <= hops
            and not terms.broken((*question.route, here, *one.route))
        ]

    def _fill(self, offers: dict[int, Offer], worker: int, tasks: Sequence[Task]) -> None:
        """What is left of an offer when these tasks run there."""
        offer = offers.get(worker)
        if offer is None:
            return
        free, ahead = offer.free, offer.ahead
        for task in tasks:
            if free.covers(task.granted):
                free -= task.granted
            else:
                ahead = max(0, ahead - 1)
        offers[worker] = msgspec.structs.replace(offer, free=free, ahead=ahead)

    # --- calls ----------------------------------------------------------------------------------------------------------

    def _subscribe(self, peer: str, home: str, offers: Iterable[Offer], onward: bool) -> bool:
        now = self._clock.monotonic()
        self._callers.expire(now)
        promised = True
        for offer in offers:
            if offer.free.cores > 0:
                waiting = Waiting(_profile(offer), offer.free, now + SUBSCRIBED, onward)
                promised = self._callers.subscribe(peer, (home, offer.worker), waiting) and promised
        return promised

    def _served(self, peer: str, given: Sequence[Given]) -> None:
        cores = sum(task.granted.cores for one in given for task in one.tasks)
        if cores:
            self._callers.serve(peer, cores, self._clock.monotonic())

    def left_over(self) -> None:
        """Jobs wait that no worker here has room for: those who have asked in vain may have them."""
        if self._callers and not self._soon:
            self._soon = True
            self._plan(max(0.0, self._looked + PAUSE - self._clock.monotonic()))

    def _plan(self, seconds: float) -> None:
        if self._stopped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._timers.callLater(seconds, self._go)

    def _go(self) -> None:
        ensureDeferred(self._call()).addErrback(lambda failure: log.failure("calling peers failed", failure))

    async def _call(self) -> None:
        self._soon = False
        self._looked = self._clock.monotonic()
        try:
            self._callers.expire(self._looked)
            waiting, need, ready = await self._store.write(self._match)
        except CopernicusError:
            waiting, need, ready = True, 0, []
        for peer, cores in ready:
            if need <= 0:
                break
            need -= cores
            self._tell(peer)
        if waiting and self._callers and not self._soon:
            self._plan(LOOK_AGAIN)

    def _match(self, tx: Tx) -> tuple[bool, int, list[tuple[str, int]]]:
        """In a unit: whether jobs wait, cores that they need which some caller could give, and who could, least served
        first."""
        index, now = self._queue.index, self._clock.monotonic()
        waiting: dict[int, dict[int, int]] = {}  # class → project → jobs
        for window in index.windows.values():
            if window.total > 0 and window.project not in index.paused:
                waiting.setdefault(window.requirement, {})[window.project] = window.total
        answers: dict[tuple[Profile, str], tuple[int, ...]] = {}

        def classes(offer: Waiting, limits: Limits) -> tuple[int, ...]:
            """Of the classes that wait, those that fit the offer. Many offers are alike."""
            profile = terms.restricted(offer.profile, limits)
            key = (profile, str(offer.free))
            if key not in answers:
                answers[key] = tuple(
                    one
                    for one in waiting
                    if offer.free.covers(index.requirements[one].least) and index.can_run(profile, one)
                )
            return answers[key]

        fit: dict[tuple[int, int], int] = {}
        ready: list[tuple[str, int]] = []
        for peer, _ in self._callers.fitting(lambda offer: True, now) if waiting else []:
            limits = self._ways.agreement(peer).accepted
            rows = [projects.by_name(tx, name) for name in limits.projects or ()]
            may = None if limits.projects is None else {row.id for row in rows if row is not None}
            cores = 0
            for offer in self._callers.of(peer, now) if not limits.off else []:
                found = [
                    (one, project)
                    for one in classes(offer, limits)
                    for project in waiting[one]
                    if may is None or project in may
                ]
                fit |= {
                    (one, project): max(1, index.requirements[one].cores) * waiting[one][project]
                    for one, project in found
                }
                cores += offer.free.cores if found else 0
            if cores:
                ready.append((peer, cores))
        return bool(waiting), sum(fit.values()), ready

    def _tell(self, peer: str) -> None:
        self._callers.called(peer, self._clock.monotonic())
        self.called += 1
        self._ways.tell(peer, "demand", Demand())

    def demand(self, peer: str) -> None:
        """A peer of ours has work, or may give us some from now on: those whose questions may go on to it are told."""
        for other in self._callers.onward(self._clock.monotonic()):
            if other != peer:
                self._tell(other)

    def down(self, peer: str) -> None:
        """A peer is away: it asks again when it is back."""
        self._callers.forget(peer)

    def stop(self) -> None:
        """Call nobody any more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _profile(offer: Offer) -> Profile:
    programs = tuple((program.name, program.version) for program in offer.programs)
    return profile(programs, offer.labels, offer.total, offer.plain)


def _limited(offer: Offer, cores: int | None, executables: tuple[str, ...] | None) -> Offer | None:
    """The offer as a peer may have it; None when nothing of it is left."""
    programs, plain = offer.programs, offer.plain
    if executables is not None:
        programs, plain = tuple(program for program in programs if program.name in executables), False
    free = offer.free
    if cores is not None and cores < free.cores:
        free = Amounts(cores=cores, gpus=free.gpus, memory=free.memory, other=free.other)
    if free.cores <= 0 or not (plain or programs):
        return None
    return msgspec.structs.replace(offer, free=free, programs=programs, plain=plain)
