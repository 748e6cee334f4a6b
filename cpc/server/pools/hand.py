"""One pool's hand: asks its batch system, one thing after the other, and writes down what it answers.

Nothing is decided here, and nothing is remembered that a restart could not find again: what is to be submitted or
cancelled is in the database before, and what became of it is found by its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.api.scheduler import Scheduler
from cpc.core.allocation import NodeSeen, Seen, SeenOutcome, SeenState
from cpc.core.clock import SECOND, Timer, Timers
from cpc.core.errors import CopernicusError
from cpc.pools.allocation import Event, Reason, State
from cpc.pools.facts import DAY
from cpc.server.pools import series
from cpc.server.pools.happening import Happening
from cpc.server.pools.means import read
from cpc.server.pools.nodes_seen import NodesSeen
from cpc.server.pools.requests import Requests, failed
from cpc.store.allocations import AllocationRow
from cpc.store.pools import PoolRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

#: Seconds between looks at the batch system: while something is about to change, and as nothing does.
FASTEST = 2.0
SLOWEST = 30.0
#: How often all that has our token is looked for, also what nobody expects.
SEARCH_EVERY = 600.0
#: After an answer that did not come.
TROUBLED = 10.0
#: Cancelled in one call.
MOST_CANCELS = 500

_REASONS = {
    SeenOutcome.OK: Reason.LEFT,
    SeenOutcome.FAILED: Reason.FAILED,
    SeenOutcome.TIMEOUT: Reason.WALLTIME,
    SeenOutcome.PREEMPTED: Reason.PREEMPTED,
    SeenOutcome.NODE_FAILED: Reason.NODE,
    SeenOutcome.CANCELLED: Reason.REMOVED,
    SeenOutcome.UNKNOWN: Reason.VANISHED,
}
#: What the shell says by the exit code of a script.
_MEANINGS = {
    126: ": a program cannot be run on the node (--worker, --wrap or --prologue of the pool)",
    127: ": a program is not there on the node (--worker, --wrap or --prologue of the pool)",
}
#: Words of batch systems that say no more than the exit code.
_SAYS_NOTHING = frozenset({"", "NonZeroExitCode"})


@dataclass(frozen=True, slots=True)
class Waits:
    """Why an allocation has not started: `words` are the batch system's. `stuck`: for what does not come by itself."""

    words: str = ""
    stuck: bool = False


class Hand:
    """Works when there is something to do, and sleeps otherwise. `trouble`: why the batch system could not be asked."""

    def __init__(
        self, pool: int, name: str, scheduler: Scheduler, happening: Happening, store: Store, timers: Timers
    ) -> None:
        self.pool = pool
        self.name = name
        self.scheduler = scheduler
        self.trouble = ""
        self.waits: dict[str, Waits] = {}  # by token: why those that wait have not started, when it last said so
        self.looked_at = 0.0  # when the batch system last told how all of them are
        self._happening = happening
        self._book = happening.book
        self._store = store
        self._timers = timers
        self.seen = NodesSeen(lambda: happening.book.now)
        self._requests = Requests(pool, happening, store)
        self._cancels: dict[str, str] = {}
        self._lost: dict[str, float] = {}  # by token: since when those are missed that may be there or not
        self._counted = False  # its nodes, or nobody tells
        self._some = True  # something of ours may be there
        self._pause = FASTEST
        self._look_at = 0.0
        self._search_at = 0.0
        self._timer: Timer | None = None
        self._busy = False
        self._stopped = False

    # --- nodes ---

    async def nodes(self, queue: str) -> tuple[NodeSeen, ...]:
        """The nodes as they are, or were a few seconds ago."""
        return await self.seen.ask(self.scheduler, queue)

    async def _count_nodes(self) -> None:
        """How many there are: limits of what can be left out depend on it."""
        queue = await self._store.write(lambda tx: self._queue_name())
        try:
            found = await self.nodes(queue)
        except CopernicusError:
            pass  # said elsewhere; it is only worth knowing
        else:
            largest = max((one.cores for one in found), default=0)
            await self._store.write(lambda tx: self._know(tx, len(found), largest))
        if not self._counted:
            self._counted = True
            self._happening.hands.stir()

    @property
    def sized(self) -> bool:
        """Whether it is known what an allocation will count for, as far as the batch system tells: whole nodes are counted
        before one is asked for."""
        row = self._book.pools.get(self.pool)
        return self._counted or row is None or row.facts.node_cores > 0 or not read(row.means, row.name).exclusive

    def _queue_name(self) -> str:
        row = self._book.pools.get(self.pool)
        return row.facts.queue if row else ""

    def _know(self, tx: Tx, count: int, largest: int) -> None:
        row = self._book.pools.get(self.pool)
        if row is None:
            return
        whole = largest if row.facts.node_cores or read(row.means, row.name).exclusive else 0
        if count != row.facts.known_nodes:
            row = self._book.change_pool(tx, row.id, replace(row.facts, known_nodes=count), row.means)
        self._whole(tx, row, whole)

    def _whole(self, tx: Tx, row: PoolRow, cores: int) -> None:
        """The pool's allocations have nodes whole, of so many cores at most; 0: they do not."""
        if cores != row.facts.node_cores:
            self._book.change_pool(tx, row.id, replace(row.facts, node_cores=cores), row.means)
        for one in self._book.of_pool(row.id) if cores else ():
            if not one.facts.whole:  # asked for before this was known
                self._charge(tx, one.token, one.facts.nodes * cores)

    def _given(self, tx: Tx, token: str, one: Seen) -> None:
        """What it really has counts. Where that is its nodes, whole, though less was asked for, all others will have so, too."""
        row, pool = self._book.live.get(token), self._book.pools.get(self.pool)
        if row is None or pool is None or not one.nodes:
            return
        there = self.seen.cores(one.nodes, pool.facts.node_cores)
        cores = one.cores or (there if pool.facts.node_cores else 0)
        every = len(one.nodes) == row.facts.nodes  # one that ends may have given some back
        if every and cores == there > row.facts.nodes * row.facts.each.cores and not pool.facts.node_cores:
            self._whole(tx, pool, self.seen.largest)
        if cores:
            self._charge(tx, token, cores)

    def _charge(self, tx: Tx, token: str, cores: int) -> None:
        """It has so many cores in all."""
        row = self._book.live.get(token)
        if row is not None and cores != (row.facts.whole or row.facts.cores):
            self._book.put(tx, row, replace(row.facts, whole=cores))
            tx.after(self._happening.hands.stir)

    # --- what is asked for ---

    def submit(self, bundles: dict[str, bytes]) -> None:
        """These are written down, for one request. Bundles by token."""
        self._requests.add(bundles)
        self._wake()

    @property
    def together(self) -> int:
        """How many allocations go into one request."""
        return self._requests.together(self.scheduler)

    def cancel(self, token: str, native: str) -> None:
        """End this one."""
        self._cancels[token] = native
        self._pause = FASTEST
        self._wake()

    def look(self, search: bool = False) -> None:
        """Something is not as it was thought to be; `search`: look for all that has our token."""
        self._look_at = 0.0
        self._pause = FASTEST
        if search:
            self._search_at = 0.0
        self._wake()

    def use(self, scheduler: Scheduler) -> None:
        """From now on this one: a person has changed the pool."""
        former, self.scheduler = self.scheduler, scheduler
        self.seen.changed()
        self._counted = False
        ensureDeferred(former.close()).addErrback(lambda failure: log.failure("closing a scheduler failed", failure))
        self.look(search=True)

    def stop(self) -> None:
        """After what is under way, nothing."""
        self._stopped = True
        self._sleep(None)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or asked for."""
        return not (self._busy or self._requests or self._cancels)

    def _wake(self, delay: float = 0.0) -> None:
        if not self._stopped and not self._busy:
            self._sleep(delay)

    def _sleep(self, delay: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if delay is None else self._timers.callLater(delay, self._begin)

    def _begin(self) -> None:
        if not self._busy and not self._stopped:
            self._busy = True
            ensureDeferred(self._work()).addErrback(lambda failure: log.failure("a pool's hand failed", failure))

    # --- the work ---

    async def _work(self) -> None:
        delay: float | None = TROUBLED
        try:
            await self._cancel_all()
            await self._submit_all()
            await self._look()
            self.trouble = ""
            delay = self._next()
        except CopernicusError as error:
            if str(error) != self.trouble:
                self.trouble = str(error)
                log.warn("pool {pool}: {error}", pool=self.name, error=error)
        except Exception as error:
            self.trouble = failed(self.scheduler, error)
            raise
        finally:
            self._busy = False
            if not self._stopped:
                self._sleep(0.0 if (self._requests or self._cancels) and not self.trouble else delay)

    def _next(self) -> float | None:
        """In how many seconds to look again; None: nothing of ours is there to be looked at."""
        return max(0.0, min(self._look_at, self._search_at) - self._now()) if self._some else None

    def _now(self) -> float:
        return self._book.now

    # --- cancel ---

    async def _cancel_all(self) -> None:
        while self._cancels and not self._stopped:
            some = dict(list(self._cancels.items())[:MOST_CANCELS])
            await self.scheduler.cancel([series.handle(token, native) for token, native in some.items()])
            for token, native in some.items():
                if self._cancels.get(token) == native:
                    del self._cancels[token]
            self._look_at = 0.0

    # --- submit ---

    async def _submit_all(self) -> None:
        while self._requests and not self._stopped:
            self._some = True
            if await self._requests.send(self.scheduler):
                self._look_at = min(self._look_at, self._now() + FASTEST)
                self._pause = FASTEST

    # --- look ---

    async def _look(self) -> None:
        now = self._now()
        if now < min(self._look_at, self._search_at):
            return
        rows = await self._store.write(lambda tx: self._book.of_pool(self.pool))
        self._some = bool(rows)
        self.waits = {row.token: self.waits[row.token] for row in rows if row.token in self.waits}
        handles = [series.handle(row.token, row.native) for row in rows if row.native]
        lost = [row for row in rows if not row.native and row.facts.state is not State.ASKED]
        # Not since they were written down: that may have been long before they were sent.
        self._lost = {row.token: self._lost.get(row.token, now) for row in lost}
        settled = {token for token, at in self._lost.items() if now - at >= self.scheduler.settle_time}
        changed = False
        if lost or now >= self._search_at:
            since = min((row.asked for row in rows), default=0)
            found = await self.scheduler.adopt(self._happening.prefix(self.pool), max(0, since - int(DAY * SECOND)))
            if now >= self._search_at:
                await self._count_nodes()
            self._search_at = now + SEARCH_EVERY
            changed = await self._store.write(lambda tx: self._found(tx, found, settled))
        if handles:
            seen = await self.scheduler.poll(handles)
            changed = await self._store.write(lambda tx: self._take(tx, seen)) or changed
        self.looked_at = now
        self._pause = FASTEST if changed or len(settled) < len(lost) else min(SLOWEST, self._pause * 1.5)
        self._look_at = self._now() + self._pause

    def _found(self, tx: Tx, found: Sequence[Seen], settled: set[str]) -> bool:
        """All that has our token, known or not; `settled`: what would be there by now if it had got through."""
        there = {series.own(one) for one in found}
        changed = self._take(tx, found, strangers=True)
        # A worker that talks to us is better news than a batch system that has forgotten.
        for token in settled - there - set(self._book.workers.values()):
            changed = (
                self._happening.happen(tx, token, Event.MISSING, words="the submission got lost") is not None or changed
            )
        return changed

    def _take(self, tx: Tx, seen: Sequence[Seen], strangers: bool = False) -> bool:
        """What the batch system says; whether anything of it was new."""
        ours: dict[str, list[Seen]] = {}
        for one in seen:
            ours.setdefault(series.own(one), []).append(one)
        changed = False
        for token, all_of_it in ours.items():
            row = self._book.find(tx, token) if strangers else self._book.live.get(token)
            if row is None:
                if strangers and any(one.state is not SeenState.ENDED for one in all_of_it):
                    for one in all_of_it:
                        self._happening.stranger(tx, self.pool, token, one.native)
                    changed = True
                continue
            one = self._which(tx, row, all_of_it)
            before = row.facts.state
            self._one(tx, row, one)
            after = self._book.live.get(token)
            changed = changed or after is None or after.facts.state is not before
        return changed

    def _which(self, tx: Tx, row: AllocationRow, seen: list[Seen]) -> Seen:
        """The one that is it: a second one with its token was not asked for."""
        alive = [one for one in seen if one.state is not SeenState.ENDED]
        known = [one for one in seen if one.native == row.native]
        chosen = (known or sorted(alive or seen, key=lambda one: (len(one.native), one.native)))[0]
        if chosen.state is SeenState.ENDED and alive:
            chosen = alive[0]  # a batch system that numbers restarts anew
        for other in alive:
            if other is not chosen:
                log.warn("pool {pool}: {token} is there twice", pool=self.name, token=row.token)
                tx.after(partial(self._cancel_other, row.token, other.native))
        return chosen

    def _cancel_other(self, token: str, native: str) -> None:
        """A second one has a token that was asked for once."""
        self._cancels.setdefault(token, native)
        self._wake()

    def _one(self, tx: Tx, row: AllocationRow, one: Seen) -> None:
        facts, happen = row.facts, self._happening.happen
        if facts.probe is not None and one.state is SeenState.ENDED and facts.probe.exit != one.exit:
            # It may be all that is heard of it.
            row = self._book.put(tx, row, replace(facts, probe=replace(facts.probe, exit=one.exit)))
        self.waits.pop(row.token, None)
        match one.state:
            case SeenState.WAITING | SeenState.CONFIGURING:
                self.waits[row.token] = Waits(one.reason, one.stuck)
                if facts.state is not State.WAITING or one.native != row.native:
                    happen(tx, row.token, Event.SEEN_WAITING, words=one.reason, native=one.native)
            case SeenState.RUNNING:
                again = one.restarts > facts.restarts and facts.state is State.RUNNING
                begun = self._book.now - max(0.0, facts.walltime - one.left) if one.left >= 0 else 0.0
                event = Event.SEEN_AGAIN if again else Event.SEEN_RUNNING
                if event is Event.SEEN_AGAIN or facts.state is not State.RUNNING or one.nodes != facts.ran_on:
                    happen(tx, row.token, event, at=begun, ran_on=one.nodes, native=one.native)
                self._restarted(tx, row.token, one.restarts)
                self._given(tx, row.token, one)
            case SeenState.ENDED:
                if one.outcome is SeenOutcome.UNKNOWN:
                    if row.token not in self._book.workers.values():
                        happen(tx, row.token, Event.MISSING, words=one.reason)
                elif facts.state is not State.ENDED:
                    if one.started and facts.state.pending:
                        # It has run while nobody looked: its time counts against the budget all the same.
                        happen(
                            tx, row.token, Event.SEEN_RUNNING, at=max(facts.asked_at, self._when(tx, one.started)),
                            ran_on=one.nodes, native=one.native,
                        )  # fmt: skip
                    self._given(tx, row.token, one)
                    happen(
                        tx, row.token, Event.SEEN_ENDED, at=self._when(tx, one.ended), ran_on=one.nodes, native=one.native,
                        reason=_REASONS[one.outcome or SeenOutcome.UNKNOWN], words=_words(one) + self._unheard(one),
                    )  # fmt: skip

    def _unheard(self, one: Seen) -> str:
        """How to hear more, where a script has failed and nobody keeps what it prints."""
        pool = self._book.pools.get(self.pool)
        if one.outcome is not SeenOutcome.FAILED or pool is None or read(pool.means, pool.name).output:
            return ""
        return f"; to see what it prints: cpcc pool set {pool.name} --output FILE"

    def _restarted(self, tx: Tx, token: str, times: int) -> None:
        """It may have been started again several times since it was last seen: that is one new run, not so many."""
        row = self._book.live.get(token)
        if row is not None and row.facts.restarts < times:
            self._book.put(tx, row, replace(row.facts, restarts=times))

    def _when(self, tx: Tx, time: int) -> float:
        """A time that the batch system tells (µs), by the book's clock; 0.0 where it tells none."""
        return self._now() - max(0, tx.now - time) / SECOND if time else 0.0


def _words(one: Seen) -> str:
    """How it ended, for people."""
    if one.outcome is not SeenOutcome.FAILED or one.exit <= 0:
        return one.reason or (f"exit code {one.exit}" if one.exit > 0 else "")
    told = f"exit code {one.exit}" + _MEANINGS.get(one.exit, "")
    return told if one.reason in _SAYS_NOTHING else f"{one.reason}, {told}"
