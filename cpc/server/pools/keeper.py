"""The keeper of the pools: looks at what waits and who is there, has it decided, and sees that it is carried out.

What is decided is written down first: an allocation's row, token and credentials are on disk before its batch system hears
of it. So a server that dies at any point finds all of it again, by token: adopted when it is there, given up when it
surely is not, cancelled when nobody knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.api.scheduler import Scheduler, Tools
from cpc.core.clock import Timer, Timers
from cpc.core.errors import CopernicusError, Unavailable
from cpc.pools import scale, why
from cpc.pools.allocation import Event, Reason, State
from cpc.pools.facts import Ask, Decision, Note
from cpc.pools.survey import Survey
from cpc.queue.why import Because, Facts
from cpc.server.pools import demand
from cpc.server.pools.book import Book
from cpc.server.pools.hand import Hand
from cpc.server.pools.happening import Happening
from cpc.server.pools.means import read
from cpc.server.pools.schedulers import scheduler_class
from cpc.server.queue import Queue
from cpc.store.pools import PoolRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

#: Seconds between decisions, at least: what happens within them is decided together.
GATHER = 0.5
#: The first after a while comes sooner: somebody who has submitted one job waits for it.
FIRST = 0.1
#: A decision takes at most one part in so many of the writer's time, however many workers there are.
SHARE = 20
#: And at most, while there is a pool: what was learned, and limits, change with time.
LONGEST = 60.0


class Keeper:
    """Does nothing, and sets no timer, as long as there is no pool. `cut` closes connections of workers."""

    def __init__(
        self, *, store: Store, queue: Queue, happening: Happening, tools: Tools, timers: Timers,
        cut: Callable[[list[int], str], None],
    ) -> None:  # fmt: skip
        self.book: Book = happening.book
        self.happening = happening
        self.hands: dict[int, Hand] = {}
        self.broken: dict[int, str] = {}  # pools whose scheduler cannot be made, and why
        self.notes: tuple[Note, ...] = ()
        self.cut = cut
        self._store = store
        self._queue = queue
        self.tools = tools
        self._timers = timers
        self._timer: Timer | None = None
        self._due = 0.0
        self._deciding = False
        self._again = False
        self._stopped = True
        self._given: set[int] = set()
        self._took = 0.0  # seconds, the last decision
        self._decided_at = float("-inf")
        happening.hands = self

    # --- from the start to the end ---

    async def start(self) -> None:
        """Find again what was asked for in this server's life before."""
        self._stopped = False
        rows = await self._store.write(self._load)
        for row in rows:
            self._hire(row)
            if row.id in self.hands:
                self.hands[row.id].look(search=True)
        self._watch()
        self.stir()

    def load(self, tx: Tx) -> None:
        """Before workers come: what the pools are, in the unit that reads the queue."""
        self.book.load(tx)
        self._queue.worker_joined = self.happening.worker_joined
        self._queue.worker_left = self.happening.worker_left

    def _load(self, tx: Tx) -> list[PoolRow]:
        for row in list(self.book.live.values()):
            if row.facts.state is State.ASKED:
                # Nobody knows whether the submission has left; and its credentials were in this server's memory only.
                self.happening.happen(tx, row.token, Event.SILENT)
            elif row.facts.state is State.ORPHANED or (
                row.facts.state is State.LEAVING and row.facts.reason is not Reason.LEFT
            ):
                self._cancel_after(tx, row.pool, row.token, row.native)
        return list(self.book.pools.values())

    def _cancel_after(self, tx: Tx, pool: int, token: str, native: str) -> None:
        tx.after(lambda: self._timers.callLater(0, self.cancel, pool, token, native))

    async def stop(self) -> None:
        """Nothing more is asked for. What is there stays: workers need no server to go on."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for hand in self.hands.values():
            hand.stop()
            await hand.scheduler.close()

    # --- pools come, change and go ---

    def scheduler(self, name: str, settings: Mapping[str, str]) -> Scheduler:
        """A scheduler of this kind, made anew. NotFound and BadInput in words."""
        return scheduler_class(name)(self.tools, settings)

    def pool_changed(self, row: PoolRow) -> None:
        """After a commit: a pool is there, or is another one."""
        mended = row.id in self.broken
        self._hire(row)
        # What a pool had while it could not be used is found again; how large whole nodes are is known before one is asked for.
        if row.id in self.hands and (mended or read(row.means, row.name).exclusive):
            self.hands[row.id].look(search=True)
        self._watch()
        self.stir()

    def pool_removed(self, number: int) -> None:
        """After a commit: it is gone."""
        self.broken.pop(number, None)
        hand = self.hands.pop(number, None)
        if hand is not None:
            hand.stop()
            ensureDeferred(hand.scheduler.close()).addErrback(
                lambda failure: log.failure("closing a scheduler failed", failure)
            )
        self._watch()

    def _hire(self, row: PoolRow) -> None:
        try:
            scheduler = self.scheduler(row.facts.scheduler, read(row.means, row.name).settings)
        except CopernicusError as error:
            log.warn("pool {pool} cannot be used: {error}", pool=row.name, error=error)
            self.broken[row.id] = str(error)
            return
        self.broken.pop(row.id, None)
        former = self.hands.get(row.id)
        if former is not None:
            former.use(scheduler)
        else:
            self.hands[row.id] = Hand(row.id, row.name, scheduler, self.happening, self._store, self._timers)

    def _watch(self) -> None:
        """Be told of what happens in the queue, if there is anybody to be asked for workers."""
        self._queue.stirred = self._stirred if self.hands else None

    # --- what is to be done after a commit (Hands) ---

    def submit(self, pool: int, bundles: dict[str, bytes]) -> None:
        """These allocations are written down, to be asked for in one request. Bundles by token."""
        if pool in self.hands and not self._stopped:
            self.hands[pool].submit(bundles)

    def cancel(self, pool: int, token: str, native: str) -> None:
        """End this one."""
        if pool in self.hands and not self._stopped:
            self.hands[pool].cancel(token, native)

    def look(self, pool: int) -> None:
        """Something there is not as it was thought to be."""
        if pool in self.hands and not self._stopped:
            self.hands[pool].look()

    def excludes(self, pool: int) -> bool:
        """Whether it can be asked to leave nodes out."""
        return pool not in self.hands or self.hands[pool].scheduler.excludes

    def stir(self) -> None:
        """Something has changed: decide, soon."""
        self._decide_in(self._gather)

    def _stirred(self, given: frozenset[int]) -> None:
        self._given |= given
        self._decide_in(self._gather)

    @property
    def _gather(self) -> float:
        least = max(GATHER, SHARE * self._took)
        return max(FIRST, least - (self.book.now - self._decided_at))

    # --- deciding ---

    def _decide_in(self, seconds: float) -> None:
        if self._stopped or not self.hands:
            return
        if self._deciding:
            self._again = True
            return
        due = self.book.now + seconds
        if self._timer is not None and self._timer.active():
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._timers.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._deciding = True
        ensureDeferred(self._decide()).addErrback(lambda failure: log.failure("deciding about pools failed", failure))

    async def _decide(self) -> None:
        seconds = LONGEST
        try:
            given, self._given = frozenset(self._given), set()
            try:
                decision = await self._store.write(lambda tx: self.decide(tx, given))
            except Exception:
                self._given |= given  # nothing of it is written down: told again with the next decision
                raise
            self.notes = decision.notes
            if decision.again_at:
                seconds = min(LONGEST, max(self._gather, decision.again_at - self.book.now))
        except Unavailable as error:
            log.warn("pools are looked at again when the database takes writes: {error}", error=error)
        finally:
            self._deciding = False
            self._decided_at = self.book.now
            again, self._again = self._again, False
            self._decide_in(self._gather if again else seconds)

    def decide(self, tx: Tx, given: frozenset[int] = frozenset()) -> Decision:
        """Within a unit: what should happen now, and it is written down."""
        begun, happening = self.tools.clock.monotonic(), self.happening
        happening.given(tx, given)
        decision = scale.concluded(self.survey(tx))
        for asks in _alike(decision.asks):
            hand = self.hands.get(asks[0].pool)
            for some in _batched(asks, hand.together) if hand is not None and hand.sized else ():
                happening.ask(tx, some)
        for event, stops in (
            (Event.CANCELLED, decision.cancels), (Event.DISMISSED, decision.leaves), (Event.OVERDUE, decision.overdue),
        ):  # fmt: skip
            for stop in stops:
                happening.happen(tx, stop.token, event, reason=stop.reason, words=stop.why)
        self.book.need(decision.needed)
        self._took = self.tools.clock.monotonic() - begun
        return decision

    def survey(self, tx: Tx) -> Survey:
        """Within a unit: everything that decisions are made from."""
        book, queue = self.book, self._queue
        pools = [row.facts for row in book.pools.values() if row.id in self.hands]
        return Survey(
            book.now,
            pools,
            demand.demand(queue, tx),
            [row.facts for row in book.live.values()],
            demand.workers(queue, book),
            book.nodes.values(),
            {row.id: row.learned for row in book.pools.values()},
            book.pools.keys() - self.hands.keys(),
        )

    def explain(self, tx: Tx, job: Facts) -> list[Because]:
        """Within a unit: what pools do for a job that waits, for `cpcc why JOB`; nothing where there are none."""
        if not self.hands:
            return []
        survey = self.survey(tx)
        for served in survey.served:
            if served.demand.project == job.project and served.demand.requirement == job.requirement:
                notes = list(why.waiting(survey, served))
                for number in served.coming:
                    waits = self.hands[number].waits.values() if number in self.hands else ()
                    notes += why.queue(self.book.pools[number].facts, [(one.words, True) for one in waits if one.stuck])
                return [Because("pool", note.text, note.step) for note in notes]
        return []

    def settled(self) -> bool:
        """Whether nothing is under way; for tests."""
        return not self._deciding and all(hand.idle for hand in self.hands.values())


def _alike(asks: Iterable[Ask]) -> Iterable[list[Ask]]:
    """Those that differ in nothing but for whom they are, together."""
    found: dict[bytes, list[Ask]] = {}
    for ask in asks:
        found.setdefault(msgspec.msgpack.encode(replace(ask, why="", asked_for=None)), []).append(ask)
    return found.values()


def _batched(asks: Sequence[Ask], most: int) -> Iterator[Sequence[Ask]]:
    for start in range(0, len(asks), most):
        yield asks[start : start + most]
