"""A peer asks for work for its workers, or for those behind it: from our queue first, then from our own peers.

Who gets nothing, or not enough, is called when there is work: nobody has to ask again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.peer import Limits
from cpc.queue import terms
from cpc.queue.asks import Asks, Standing
from cpc.queue.byways import Byways
from cpc.queue.callers import Callers, Waiting
from cpc.queue.requirement import Profile, profile
from cpc.queue.served import Served
from cpc.queue.sources import AGAIN
from cpc.queue.tried import SOON, Tried, Try, Worker
from cpc.server.federation.borrowed import limited, sane
from cpc.server.federation.owner import Owner
from cpc.server.federation.ways import Caller, Ways
from cpc.server.queue import Queue
from cpc.store import projects
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Task
from cpc.wire.peer_messages import MAX_ASKED, MAX_HOPS, MAX_OFFERS, AskWork, Demand, Given, Offer, WorkGiven

log = Logger()

SUBSCRIBED = 300.0  # seconds for which who got nothing is called
MOST_ASKS = 8  # questions of one peer under way at a time
LONGEST = 30.0  # seconds that a question is looked for, whatever time it gives
LEAST = 0.5  # seconds that must be left to ask another peer
TRIAL = 2.0  # seconds for one that was late when it was asked last
LOOK_AGAIN = 5.0  # while jobs wait and somebody could still be called
PAUSE = 0.01  # seconds between looks for somebody to call: what many submissions bring is one call


@dataclass(frozen=True, slots=True)
class _Further:
    """What a peer of ours has for workers of others, for how many seconds it calls, and whether asking it farther is no use."""

    given: tuple[Given, ...] = ()
    promised: float = inf
    complete: bool = True


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
        self._repeats: dict[tuple[str, int], list[Deferred[None]]] = {}
        self._under_way: dict[str, int] = {}
        self._late: dict[str, float] = {}  # peers that did not answer when they were asked last, and when that was
        self._callers = Callers()
        self._tried = Tried()
        self._byways = Byways()
        self._given = Served()  # cores that our peers have given to workers of others
        self._soon = False  # a look is due at once
        self._looked = -PAUSE  # when the last one was
        self._timer: Timer | None = None
        self._stopped = False
        ways.serve("ask-work", AskWork, self._ask, far=False)

    # --- a question -----------------------------------------------------------------------------------------------------

    async def _ask(self, caller: Caller, question: AskWork) -> WorkGiven:
        peer, now = caller.peer, self._clock.monotonic()
        self._check(peer, question)
        key, home = (question.id, question.hops), question.route[0]
        standing = self._asks.come(*key, peer, now)
        if standing is Standing.ELSEWHERE:
            self._byways.came(home, peer, now, now + SUBSCRIBED)
            for offer in question.offers:
                self._callers.elsewhere(peer, (home, offer.worker), now)
            return WorkGiven(complete=True)
        self._byways.asked(home, now)
        if standing is Standing.REPEAT:
            return await self._repeat(key)
        if self._under_way.get(peer, 0) >= MOST_ASKS:
            self._asks.forget(*key)
            raise Unavailable(f"{MOST_ASKS} questions of this server are under way", "ask again later")
        self._under_way[peer] = self._under_way.get(peer, 0) + 1
        answer = WorkGiven()
        try:
            answer = await self._look(peer, question)
        finally:
            self._under_way[peer] -= 1
            if not self._under_way[peer]:
                del self._under_way[peer]
            self._asks.answered(*key, answer)
            for waiter in self._repeats.pop(key, []):
                waiter.callback(None)
        return answer

    async def _repeat(self, key: tuple[str, int]) -> WorkGiven:
        answer = self._asks.answer(*key)
        if answer is None:
            waiter: Deferred[None] = Deferred()
            self._repeats.setdefault(key, []).append(waiter)
            await waiter
            answer = self._asks.answer(*key)
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
        until = self._clock.monotonic() + min(question.seconds, LONGEST)
        offers = {offer.worker: offer for offer in sane(question.offers, question.route[0])}
        home, given, complete = question.route[0], list[Given](), True
        onward = self._onward(peer, question)
        # Before looking: what is submitted meanwhile calls the peer.
        promised = SUBSCRIBED if self._subscribe(peer, question, offers.values()) else 0.0
        if not self._ways.agreement(peer).accepted.off:
            tasks = await self._owner.give(question.route, tuple(offers.values()), question.bounds)
            for worker, its in tasks.items():
                given.append(Given(worker=worker, route=(self._ways.here,), tasks=its))
                self._fill(offers, worker, its)
        for following, most in onward:
            left = until - self._clock.monotonic()
            wanted = [offer for offer in offers.values() if offer.free.cores > 0]
            if not wanted:
                break
            if left < LEAST:
                promised = min(promised, AGAIN)  # this one has not heard of it, and calls nobody
                break
            seconds = min(left, TRIAL) if following in self._late else left
            further = await self._ask_on(peer, following, most, seconds, question, offers)
            given += further.given
            promised, complete = min(promised, further.promised), complete and further.complete
        self._served(peer, given)
        self._subscribe(peer, question, offers.values())
        for worker, offer in offers.items():
            if offer.free.cores <= 0:
                self._callers.withdraw(peer, (home, worker))
        if self._callers and (self._timer is None or not self._timer.active()):
            self._plan(LOOK_AGAIN)  # jobs may have come between the look and the promise
        return WorkGiven(given=tuple(given), subscribed=promised, complete=complete)

    def _onward(self, peer: str, question: AskWork) -> list[tuple[str, int]]:
        """Own peers that may be asked for it, now or later, in their order, with how far it may ever go from there. Of those that
        were late when they were asked last, one at a time keeps its place: the others come last, or they would take the time
        from those who come after them."""
        found, now, far = list[tuple[str, int]](), self._clock.monotonic(), _far(question)
        avoid = {*question.route, *question.asked}
        for following in self._ways.up():
            agreement = self._ways.agreement(following)
            beyond = terms.beyond(agreement)
            way = (*question.route, self._ways.here, following)
            if far < 1 or following in avoid or beyond is None or self.held(following) or terms.broken(way):
                continue
            if terms.denied(way, agreement, self._ways.agreement(peer)):
                continue
            found.append((following, min(far - 1, beyond)))

        late = {each: since for each, _ in found if (since := self._late.get(each)) is not None}
        tried = min(late, key=lambda each: late[each], default="")

        def order(each: tuple[str, int]) -> tuple[float, int, float]:
            since = -inf if each[0] == tried else late.get(each[0], -inf)
            return since, self._ways.priority(each[0]), self._given.of(each[0], now)

        return sorted(found, key=order)

    async def _ask_on(
        self, peer: str, following: str, most: int, seconds: float, question: AskWork, offers: dict[int, Offer]
    ) -> _Further:
        """What a peer of ours has for these workers of others, which `peer` asks for. What is left of them is in `offers`. It is
        not asked when the question does not come so far; but it may be known already that it has nothing."""
        here, home, now = self._ways.here, question.route[0], self._clock.monotonic()
        hops = min(question.hops - 1, most)

        def tries(hops: int, until: float, calls: bool = True) -> Iterator[tuple[Offer, Worker, Try]]:
            """Of what there is room at now, as the peer may have it."""
            for offer in self._limited(following, offers):
                yield offer, (peer, home, offer.worker), Try(_profile(offer), offer.free, hops, until, calls)

        fresh, calls, complete = [], inf, True
        for each in tries(hops if hops >= 0 else most, now + seconds + SOON):
            known = self._tried.covers(following, each[1], each[2], now)
            if known is not None:
                calls, complete = min(calls, known.seconds(now)), complete and known.hops >= most
            else:
                fresh.append(each)
        if not fresh or hops < 0:
            return _Further((), calls, complete and not fresh)
        workers = {worker for _, worker, _ in fresh}
        others = dict.fromkeys((*question.asked, *self._ways.up()))
        # What a limit is in all only the owner can tell, who knows what it has there already.
        own = terms.bound((*question.route, here, following), len(question.route), self._ways.agreement(following))
        further = msgspec.structs.replace(
            question, route=(*question.route, here), hops=hops, seconds=seconds * 0.8, most=most, asked=tuple(others)[:MAX_ASKED],
            offers=tuple(offer for offer, _, _ in fresh), bounds=(*question.bounds, *own),
        )  # fmt: skip
        began = self._tried.ask(following, [(worker, one) for _, worker, one in fresh])
        left: list[tuple[Worker, Try]] = []
        given: list[Given] = []
        try:
            answer = await self._ways.ask(following, "ask-work", further, WorkGiven, seconds)
            given = [
                msgspec.structs.replace(one, route=(here, *one.route))
                for one in answer.given
                if (peer, home, one.worker) in workers
                and one.route
                and one.route[0] == following
                and len(one.route) - 1 <= hops
                and not terms.broken((*question.route, here, *one.route))
            ]
            for one in given:
                self._fill(offers, one.worker, one.tasks)
            if cores := _cores(given):
                self._given.give(following, cores, self._clock.monotonic())
            until = self._clock.monotonic() + (min(answer.subscribed, SUBSCRIBED) or AGAIN)
            far = terms.FAR if answer.complete else hops
            left = [(worker, one) for _, worker, one in tries(far, until, answer.subscribed > 0) if worker in workers]
            calls, complete = min(calls, answer.subscribed or inf), complete and far >= most
            self._late.pop(following, None)
        except CopernicusError as error:
            self._late[following] = self._clock.monotonic()
            calls = min(calls, AGAIN)
            log.debug("peer {peer} could not be asked for work: {why}", peer=following, why=str(error))
        finally:
            self._tried.answered(following, workers, left, began)
        return _Further(tuple(given), calls if began is not None else 0.0, complete)

    def _limited(self, following: str, offers: dict[int, Offer]) -> list[Offer]:
        """What there is room at, as this peer of ours may have it."""
        limits = self._ways.agreement(following).lent
        free = (offer for offer in offers.values() if offer.free.cores > 0)
        return [found for offer in free if (found := limited(offer, limits.cores, limits.executables))]

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

    def _subscribe(self, peer: str, question: AskWork, offers: Iterable[Offer]) -> bool:
        now, home = self._clock.monotonic(), question.route[0]
        self._callers.expire(now)
        self._tried.expire(now)
        self._given.expire(now)
        # Of those who are asked by others only our own peers matter: so it is no longer than the list of these.
        others = (*question.route, *question.asked)
        avoid = frozenset(server for server in others if not terms.withdrawn(self._ways.agreement(server)))
        promised = True
        for offer in offers:
            if offer.free.cores > 0:
                waiting = Waiting(_profile(offer), offer.free, now + SUBSCRIBED, _far(question) > 0, avoid)
                promised = self._callers.subscribe(peer, (home, offer.worker), waiting) and promised
        return promised

    def _served(self, peer: str, given: Sequence[Given]) -> None:
        if cores := _cores(given):
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
        for peer, cores, homes in ready:
            if need <= 0:
                break
            need -= cores
            self._callers.called(peer, self._clock.monotonic(), homes)
            self._tell(peer, 0, self._ways.here, homes)
            if any(map(self._byways.has, homes)):
                self._timers.callLater(LOOK_AGAIN, self._heard, peer, homes, self._clock.monotonic())
        if waiting and self._callers and not self._soon:
            self._plan(LOOK_AGAIN)

    def _match(self, tx: Tx) -> tuple[bool, int, list[tuple[str, int, list[str]]]]:
        """In a unit: whether jobs wait, cores that they need which some caller could give, and who could, with workers of which
        homes, least served first."""
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
        ready: list[tuple[str, int, list[str]]] = []
        for peer, _ in self._callers.fitting(lambda offer: True, now) if waiting else []:
            limits = self._ways.agreement(peer).accepted
            rows = [projects.by_name(tx, name) for name in limits.projects or ()]
            may = None if limits.projects is None else {row.id for row in rows if row is not None}
            cores, homes = 0, dict[str, None]()
            for home, offer in self._callers.of(peer, now) if not limits.off else []:
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
                if found:
                    cores += offer.free.cores
                    homes[home] = None
            if cores:
                ready.append((peer, cores, list(homes)))
        return bool(waiting), sum(fit.values()), ready

    def _tell(self, peer: str, hops: int, server: str, homes: Sequence[str], instead: bool = False) -> None:
        self.called += 1
        named = tuple(homes) if len(homes) <= MAX_OFFERS else ()
        said = Demand(hops=min(hops, MAX_HOPS), server=server, homes=named, instead=instead)
        self._ways.tell(peer, "demand", said)

    def _heard(self, peer: str, homes: Sequence[str], since: float) -> None:
        """Homes that were called, and neither have asked nor work for us, may not have heard of it."""
        if not self._stopped:
            busy = self._owner.totals()
            self._instead(peer, 0, self._ways.here, [home for home in homes if home not in busy], since)

    def _instead(self, peer: str, hops: int, server: str, homes: Iterable[str], since: float) -> None:
        """Those of these homes that have not asked since then are called by another way than by this peer."""
        by_way: dict[str, list[str]] = {}
        for home in homes:
            if other := self._byways.instead(home, peer, since, self._clock.monotonic()):
                by_way.setdefault(other, []).append(home)
        for other, its in by_way.items():
            self._tell(other, hops, server, its, instead=True)

    def demand(self, peer: str, demand: Demand) -> None:
        """A peer of ours has work, or somebody behind it: those for whom it has promised to call are told. What this server
        itself has promised them stands."""
        now = self._clock.monotonic()
        self._late.pop(peer, None)
        waiting = self._tried.called(peer, now, demand.homes, demand.instead)
        for other in sorted(waiting, key=lambda each: (self._callers.served(each, now), each)):
            self._tell(other, demand.hops + 1, demand.server, waiting[other], demand.instead)

    def agreed(self, peer: str) -> None:
        """A peer of ours may give us work from now on: those whose questions may go on to it are told."""
        now = self._clock.monotonic()
        self._tried.called(peer, now)
        for other in self._callers.onward(peer, now):
            self._tell(other, 1, "", ())

    def down(self, peer: str) -> None:
        """A peer is away: it asks again when it is back. Homes behind it that have another way here may ask by that."""
        now = self._clock.monotonic()
        self._late.pop(peer, None)
        self._tried.called(peer, now)
        homes = dict.fromkeys(home for home, _ in self._callers.of(peer, now))
        self._callers.forget(peer)
        self._byways.forget(peer)
        self._instead(peer, 1, "", homes, now)

    def stop(self) -> None:
        """Call nobody any more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _far(question: AskWork) -> int:
    """How many servers beyond this one may be asked, now or later. Older releases ask as far as they may at once."""
    return max(question.hops, question.most)


def _cores(given: Iterable[Given]) -> int:
    return sum(task.granted.cores for one in given for task in one.tasks)


def _profile(offer: Offer) -> Profile:
    programs = tuple((program.name, program.version) for program in offer.programs)
    return profile(programs, offer.labels, offer.total, offer.plain)
