"""The worker's agent: joins, takes jobs, runs them, hands in, and leaves properly. Everything it touches is handed in.

`leave` ends it in order: no new jobs, SIGTERM to those that run, their checkpoints and results handed in, goodbye. What
cannot be handed in then stays in the spool on disk, where the next worker with the same bundle finds it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.offload import Offload
from cpc.core.outcome import Outcome
from cpc.spool import ownership
from cpc.spool.cache import DEFAULT_LIMIT, Cache
from cpc.spool.disk import Disk
from cpc.spool.ownership import Claim
from cpc.spool.spool import Spool
from cpc.wire.bundle import Bundle
from cpc.worker.aside import Aside
from cpc.worker.collecting import words
from cpc.worker.credentials import Credentials
from cpc.worker.delivery import Delivery
from cpc.worker.desk import Desk
from cpc.worker.ending import Stop
from cpc.worker.link import Connect, Link
from cpc.worker.offer import Offer
from cpc.worker.placing import RUNS, run_directory
from cpc.worker.processes import Processes
from cpc.worker.room import Hooks, Room
from cpc.worker.slots import Slots
from cpc.worker.spares import Spares
from cpc.worker.standing import Standing
from cpc.worker.starting import Starter
from cpc.worker.together import Together
from cpc.worker.transfer import Transfer
from cpc.worker.waiting import in_background

TICK = 5.0
PATIENCE = 2.0  # seconds that a job given ahead waits for room before another worker may have it
ADOPT_EVERY = 600.0
ADOPT_AGAIN = 30.0  # after one that the disk did not let us
GOODBYE = 10.0  # seconds for the server to answer; what it has not heard it finds out a heartbeat time later
HURRY = 2.0
SOON = 0.01


@dataclass(frozen=True, slots=True)
class Options:
    """How to behave. Seconds and bytes; 0 for `idle` means never; `until` is a time of the monotonic clock.

    `linger`: how long a worker that leaves tries to reach a server that is away. `hand_in`: directories of dead workers
    whose results are to be handed in; then the agent takes no jobs and leaves when that is done. `leaves_when_drained`:
    a drained worker ends when it has nothing left; else it stays, so that it can be resumed. `most_jobs`: it takes no more
    than that, and leaves when they are handed in; 0: any number. `listens`: in an allocation, so long may a program have ended
    because the batch system ends everything, before it has told us.
    """

    idle: float = 0.0
    until: float | None = None
    grace: float = 30.0
    linger: float = 60.0
    least_free: int = 32 << 20
    cache_limit: int = DEFAULT_LIMIT
    hand_in: tuple[str, ...] = ()
    leaves_when_drained: bool = False
    most_jobs: int = 0
    listens: float = 0.0


@dataclass(slots=True)
class _Home:
    """A directory with a spool: our own, or one of a dead worker that we hand in."""

    claim: Claim
    spool: Spool


class Agent:
    """One worker. Make it, `await run()`; `leave` may be called at any time."""

    def __init__(
        self,
        *,
        bundle: Bundle,
        credentials: Credentials,
        connect: Connect,
        reactor: Timers,
        clock: Clock,
        chance: Chance,
        processes: Processes,
        starter: Starter,
        disk: Disk,
        offload: Offload,
        claim: Claim,
        offer: Offer,
        options: Options,
        say: Callable[[str], None],
        measure: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._disk = disk
        self._offload = offload
        self._work = work = os.path.dirname(claim.directory)
        self._reactor = reactor
        self._clock = clock
        self._processes = processes
        self._options = options
        self._say = say
        self._mine = self._open(claim)
        self._adopted: list[_Home] = []
        self._nameless: set[str] = set()  # directories that were told of
        self._ended: Deferred[str] = Deferred()
        self._at_once = False
        self._leaving_since = 0.0
        self._last_busy = clock.monotonic()
        self._saying_goodbye = False
        self._ticker: Timer | None = None
        self._begins: Timer | None = None  # until it begins nothing new
        self._touched = self._looked = clock.monotonic()
        self.standing = Standing(options.until, options.grace)
        self.desk = Desk(offer, self.standing, chance.token(16).hex(), measure, options.most_jobs)
        self._aside = Aside(disk, work, bundle.server)
        cache = Cache(disk, os.path.join(work, "cache"), options.cache_limit, offload, claim.owner.pid)
        cache.open()
        transfer = Transfer(disk=disk, cache=cache, offload=offload, reactor=reactor, clock=clock, chance=chance)
        self.room = Room(
            directory=self._mine.claim.directory,
            disk=disk,
            offload=offload,
            together=Together(offload),
            spares=Spares(disk, os.path.join(claim.directory, RUNS), os.path.join(claim.directory, "spare")),
            spool=self._mine.spool,
            aside=self._aside,
            cache=cache,
            transfer=transfer,
            processes=processes,
            starter=starter,
            slots=Slots(offer.total, clock),
            reactor=reactor,
            clock=clock,
            chance=chance,
            hooks=self._hooks(),
            say=say,
            grace=options.grace,
            least_free=options.least_free,
            listens=options.listens,
        )
        self.desk.furnish(self.room)
        self.link = Link(
            bundle=bundle,
            credentials=credentials,
            connect=connect,
            desk=self.desk,
            transfer=transfer,
            reactor=reactor,
            clock=clock,
            chance=chance,
            say=say,
        )

    @property
    def left_behind(self) -> int:
        """How many results are on disk here and not handed in."""
        return sum(len(home.spool) for home in (self._mine, *self._adopted))

    @property
    def directory(self) -> str:
        """The worker's own directory: spool, cache, run directories."""
        return self._mine.claim.directory

    async def run(self) -> str:
        """Work until told to leave; why it left. Raises TurnedAway when the server wants this worker no more."""
        if self._options.hand_in:
            for directory in self._options.hand_in:
                self._adopt_one(directory)
            self.leave("everything is handed in")
        else:
            self._adopt()
        in_background(self._tidy_aside(say=True), "looking at what was kept aside")
        self._ticker = self._reactor.callLater(TICK, self._tick)
        self._look_at_time()
        in_background(self._keep_link(), "the link to the server")
        try:
            return await self._ended
        finally:
            await self._close()

    def leave(self, reason: str, at_once: bool = False, stop: Stop = Stop.HAND_BACK) -> None:
        """End in order; `at_once`: kill what runs, keep the results on disk, go."""
        if not self.standing.leaving:
            self.standing.leaving = reason
            self._leaving_since = self._clock.monotonic()
            if self.desk.attempts:
                how = "killed" if at_once else "asked to stop and handed back"
                self._say(f"leaving: {reason}; {len(self.desk.attempts)} jobs are {how}")
        elif not at_once:
            return
        self._at_once = self._at_once or at_once
        if at_once and self._saying_goodbye:
            self._end()  # told twice: not even the server's word is waited for
        for attempt in list(self.desk.attempts.values()):
            attempt.stop(stop, f"handed back: the worker is leaving ({reason})", 0.0 if at_once else None)
        self._changed()

    def told(self, by: str) -> None:
        """A signal says that all here is to end; `leave` will follow. May be called at any moment, from its handler."""
        self.room.told = self.room.told or by

    async def _keep_link(self) -> None:
        try:
            await self.link.run()
        except CopernicusError as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The server does not want us: stop everything, then say so. Results stay on disk."""
        self._failure = error
        self.leave(words(error), at_once=True)

    # --- what attempts and deliveries tell ------------------------------------------------------------------------------

    def _hooks(self) -> Hooks:
        desk = self.desk

        def ended(lease: Lease, outcome: Outcome, seconds: float) -> None:
            if self.standing.ended(self._clock.monotonic(), lease, outcome, seconds):
                self._stepped_back()

        def settled(delivery: Delivery) -> None:
            desk.settled(delivery)
            if self._adopted:
                in_background(self._give_up_empty(), "removing an adopted directory")
            self._look_at_end()

        def stuck(lease: Lease, why: str) -> None:
            if self.standing.stuck(lease, why):
                self._say(f"{lease}: {why}" if why else f"{lease}: its result is on disk now")
                self._changed()

        return Hooks(
            changed=self._changed,
            fault=self._fault,
            stuck=stuck,
            ended=ended,
            gone=desk.gone,
            deliver=desk.deliver,
            settled=settled,
        )

    def _changed(self) -> None:
        self.link.poke()
        self._look_at_end()

    def _fault(self, why: str) -> None:
        if self.standing.fault(self._clock.monotonic(), why):
            self._stepped_back()

    def _stepped_back(self) -> None:
        now = self._clock.monotonic()
        self._say(f"stepping back: {self.standing.note(now)}")
        self.desk.give_up_waiting("the worker has stepped back")
        self._reactor.callLater(max(0.0, self.standing.back_until - now), self._changed)
        self._changed()

    # --- time -----------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticker = self._reactor.callLater(TICK, self._tick)
        now = self._clock.monotonic()
        if self.desk.attempts or self.desk.deliveries:
            self._last_busy = now
        elif self._options.idle and now - self._last_busy >= self._options.idle:
            self.leave(f"nothing to do for {self._options.idle / 60:g} minutes")
        if self.standing.must_stop(now) and not self.standing.leaving:
            self.leave("the worker's own time is over", stop=Stop.WALLTIME)
        if self.desk.has_work_ahead:
            self.desk.give_up_waiting("it found no room in time", PATIENCE)
        if now - self._touched >= ownership.TOUCH_EVERY:
            self._touched = now
            in_background(self._touch(), "keeping the directory ours")
        if now - self._looked >= ADOPT_EVERY and not self.standing.leaving:
            self._adopt()
            in_background(self._tidy_aside(), "looking at what was kept aside")
        self._look_at_end()

    def _look_at_time(self) -> None:
        """The server is told at once that nothing new is begun here: until the next turn it would give jobs in vain."""
        left = self.standing.left_to_begin(self._clock.monotonic())
        if left is not None and left > 0:
            self._begins = self._reactor.callLater(max(SOON, left), self._look_at_time)
        elif left is not None:
            self._changed()

    async def _touch(self) -> None:
        for home in (self._mine, *self._adopted):
            try:
                await self._offload(lambda claim=home.claim: ownership.touch(self._disk, claim))  # type: ignore[misc]
            except OSError as error:
                self._say(f"{home.claim.directory} cannot be marked as in use: {words(error)}")

    async def _tidy_aside(self, say: bool = False) -> None:
        try:
            await self._offload(self._aside.tidy)
            count = await self._offload(self._aside.count) if say else 0
        except OSError as error:
            self._say(f"{self._aside.directory} cannot be tidied: {words(error)}")
            return
        if count:
            self._say(f"{count} results that their server did not know are kept in {self._aside.directory}")

    # --- directories ----------------------------------------------------------------------------------------------------

    def _open(self, claim: Claim) -> _Home:
        spool = Spool.open(self._disk, claim.directory, self._offload)
        for sentence in spool.damage:
            self._say(sentence)
        return _Home(claim, spool)

    def _adopt(self) -> None:
        """Hand in what dead workers with our credential left in the same work directory."""
        self._looked = self._clock.monotonic()
        try:
            for directory in ownership.orphans(self._disk, self._work, self._mine.claim):
                self._adopt_one(directory)
            for directory in ownership.nameless(self._disk, self._work):
                self._tell_nameless(directory)
        except OSError as error:
            self._say(f"{self._work} cannot be searched for what other workers have left: {words(error)}")
            self._looked += ADOPT_AGAIN - ADOPT_EVERY
        in_background(self._give_up_empty(), "removing an adopted directory")

    def _tell_nameless(self, directory: str) -> None:
        if directory not in self._nameless:
            self._nameless.add(directory)
            self._say(
                f"{directory} holds results, but whose they are cannot be read in its file {ownership.OWNER}; "
                f"hand them in with cpc-worker --hand-in {directory}"
            )

    def _adopt_one(self, directory: str) -> None:
        claim: Claim | None = None
        try:
            claim = ownership.adopt(self._disk, directory, self._mine.claim.owner)
            if claim is not None:
                self._hand_in(self._open(claim))
            elif self._options.hand_in:
                self._say(f"{directory} is in use by a worker that lives; it hands in itself")
        except (OSError, CopernicusError) as error:
            if claim is not None:
                claim.lock.release()  # or nobody, we included, could try again
            self._say(f"{directory} was left by another worker and cannot be taken over: {words(error)}")
            self._looked = self._clock.monotonic() - ADOPT_EVERY + ADOPT_AGAIN

    def _hand_in(self, home: _Home) -> None:
        self._adopted.append(home)
        if len(home.spool):
            self._say(f"{len(home.spool)} results were left in {home.claim.directory}; handing them in")
        for lease in home.spool.leases():
            self.desk.deliver(Delivery(self.room, lease, run_directory(home.claim.directory, lease), home.spool))

    async def _give_up_empty(self) -> None:
        # One after the other, looking anew each time: another call may be at it meanwhile.
        while (home := next((each for each in self._adopted if not len(each.spool)), None)) is not None:
            self._adopted.remove(home)
            await home.spool.close()
            await self.room.clear_away(lambda claim=home.claim: ownership.release(self._disk, claim, remove=True))  # type: ignore[misc]

    # --- the end --------------------------------------------------------------------------------------------------------

    def _look_at_end(self) -> None:
        """Whether all is done that must be before leaving."""
        if self.desk.may_leave and self._options.leaves_when_drained and not self.standing.leaving:
            self.leave(f"drained: {self.standing.draining}" if self.standing.draining else "drained")
        if self.desk.done and not self.standing.leaving:
            self.leave("its jobs are done")
        if not self.standing.leaving or self._ended.called or self.desk.attempts:
            return
        now = self._clock.monotonic()
        if self._at_once and self.link.session is None:
            self._end()
        elif (self._at_once or not self.desk.deliveries) and not self._saying_goodbye:
            # Also in a hurry: else the server would wait a whole heartbeat time before it gives the jobs to others.
            self._saying_goodbye = True
            in_background(self._goodbye(HURRY if self._at_once else GOODBYE), "goodbye")
        elif self.link.session is None and now - max(self.link.lost_at, self._leaving_since) >= self._options.linger:
            self._end()

    async def _goodbye(self, within: float) -> None:
        await self.link.goodbye(self.standing.leaving, within)
        self._end()

    def _end(self) -> None:
        if not self._ended.called:
            failure = self._failure
            if failure is not None:
                self._ended.errback(failure)
            else:
                self._ended.callback(self.standing.leaving)

    _failure: BaseException | None = None

    async def _close(self) -> None:
        for timer in (self._ticker, self._begins):
            if timer is not None and timer.active():
                timer.cancel()
        self.link.close()
        for delivery in self.desk.deliveries.values():
            delivery.abandon()
        await self._processes.close()
        for home in (self._mine, *self._adopted):
            await home.spool.close()
            left = len(home.spool)
            if left:
                self._say(
                    f"{left} results are not handed in yet; they are safe in {home.claim.directory}: the next worker "
                    f"there hands them in, or cpc-worker --hand-in {home.claim.directory}"
                )
            await self.room.clear_away(
                lambda h=home, n=left: ownership.release(self._disk, h.claim, remove=not n)  # type: ignore[misc]
            )
