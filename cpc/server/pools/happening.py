"""What happens to allocations, as units of the writer: one table decides (cpc.pools.allocation), here it is carried out.

What has to be asked of a batch system leaves after the commit, through `Hands`; what concerns jobs and workers is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace
from twisted.logger import Logger

from cpc.core import ids
from cpc.core.texts import plain
from cpc.pools import learning, nodes
from cpc.pools.allocation import Allocation, Effect, Event, Reason, State, apply, orphan
from cpc.pools.facts import Ask
from cpc.queue.session import Session
from cpc.server import joining
from cpc.server.bundles import Bundles
from cpc.server.pools import series
from cpc.server.pools.book import Book
from cpc.server.queue import Queue
from cpc.store import allocations, pools, workers
from cpc.store.allocations import AllocationRow
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.bundle import encode
from cpc.wire.messages import Hello

log = Logger()

MAX_WORDS = 500
#: An allocation's credentials outlive its walltime by so many seconds: batch systems are late, and allow it to wait.
LATE = 86400.0
LONGEST_WAIT = 30 * 86400.0

#: Reasons for which the nodes of an allocation that did nothing are to blame.
_BLAMED = frozenset({Reason.FAILED, Reason.NODE, Reason.UNJOINED})


class Hands(Protocol):
    """What is done at the batch systems, on the reactor. All of it may be asked for twice."""

    def submit(self, pool: int, bundles: dict[str, bytes]) -> None: ...
    def cancel(self, pool: int, token: str, native: str) -> None: ...
    def look(self, pool: int) -> None: ...
    def stir(self) -> None: ...
    def excludes(self, pool: int) -> bool: ...
    def cut(self, sessions: list[int], reason: str) -> None: ...


class Happening:
    """Every method is called within a unit."""

    def __init__(self, book: Book, queue: Queue, bundles: Bundles, server_id: str) -> None:
        self.book = book
        self.hands: Hands  # set by whoever made both
        self._queue = queue
        self._bundles = bundles
        self._server = server_id

    # --- names ---

    def prefix(self, pool: int) -> str:
        """What the tokens of a pool begin with, and no others."""
        return prefix(self._server, pool)

    def _token(self, pool: int, number: int) -> str:
        return self.prefix(pool) + _word(number)

    # --- an ask becomes an allocation ---

    def ask(self, tx: Tx, asks: Sequence[Ask]) -> list[AllocationRow]:
        """Write them down, with the credentials of their workers; they are submitted after the commit, in one request.

        They are alike but for `why` and `asked_for`.
        """
        pool = self.book.pools[asks[0].pool]
        numbers = [tx.next("allocation") for _ in asks]
        tokens = [self._token(pool.id, numbers[0])]
        if len(asks) > 1:
            tokens = [series.element(series.base(tokens[0]), index) for index in range(len(asks))]
        made, texts = [], {}
        for wanted, number, token in zip(asks, numbers, tokens, strict=True):
            bundle, bundle_id = self._bundles.for_allocation(
                tx, token, pool.name, wanted.walltime + LATE + LONGEST_WAIT
            )
            facts = Allocation(
                token=token, pool=pool.id, state=State.ASKED, asked_at=self.book.now, nodes=wanted.nodes, each=wanted.each,
                walltime=wanted.walltime, project=wanted.project, direct=wanted.direct, asked_for=wanted.asked_for,
                needed_at=self.book.now, whole=wanted.whole, probe=wanted.probe,
            )  # fmt: skip
            made.append(self.book.add(tx, number, facts, bundle=bundle_id, why=wanted.why))
            tx.event(
                "server", "allocation.asked", project=wanted.project, subject=number, pool=pool.name, nodes=wanted.nodes,
                cores=facts.cores, why=wanted.why,
            )  # fmt: skip
            texts[token] = encode(bundle)
        tx.after(lambda: self.hands.submit(pool.id, texts))
        return made

    # --- events ---

    def happen(
        self, tx: Tx, token: str, event: Event, *,
        at: float = 0.0, reason: Reason = Reason.NONE, words: str = "", ran_on: tuple[str, ...] = (), native: str = "",
    ) -> AllocationRow | None:  # fmt: skip
        """Something has happened to an allocation; None if nobody knows it."""
        row = self.book.find(tx, token)
        if row is None:
            return None
        before = row.facts
        if before.state is State.ENDED and row.pool not in self.book.pools:
            # Its pool was forgotten while an answer was on its way: there is nobody left who could end it again.
            return self.book.put(tx, row, before, native)
        words = plain(words, MAX_WORDS)
        facts, effects = apply(
            before, event, self.book.now, at=at, reason=reason, words=words, ran_on=ran_on
        )  # fmt: skip
        row = self.book.put(tx, row, facts, native)
        self._learn(tx, row, before, event, effects, words)
        for effect in effects:
            self._carry_out(tx, row, effect)
        if facts.state is not before.state:
            self._tell(tx, row, before)
            tx.after(self.hands.stir)
        return row

    def _learn(
        self, tx: Tx, row: AllocationRow, before: Allocation, event: Event, effects: tuple[Effect, ...], words: str
    ) -> None:
        pool = self.book.pools.get(row.pool)
        if pool is None:
            return
        learned, facts = pool.learned, row.facts
        if facts.probe is not None:
            pass  # what it found is for who asked; only what it used counts
        elif event is Event.ACCEPTED:
            learned = learning.accepted(learned)
        elif event in (Event.REFUSED, Event.SILENT) and before.state in (State.ASKED, State.UNSURE) and words:
            learned = learning.refused(learned, self.book.now, words)
        if Effect.RESTART in effects:
            learned = learning.ran(learned, before, self.book.now)
            self._spend(tx, before, self.book.now)
            self._judge(tx, before, Reason.FAILED if not before.used else Reason.NONE, words)
        if Effect.START in effects:
            learned = learning.started(learned, facts)
        if Effect.CLOSE in effects:
            learned = learning.ended(learned, facts)
            self._spend(tx, facts, facts.ended_at)
            self._judge(tx, facts, facts.reason, facts.words)
        self.book.learn(tx, row.pool, learned)

    def _spend(self, tx: Tx, facts: Allocation, until: float) -> None:
        if facts.started_at:
            pools.spend(tx, facts.pool, facts.cores * max(0.0, until - facts.started_at))

    def _judge(self, tx: Tx, facts: Allocation, reason: Reason, words: str) -> None:
        """What the run says about the nodes that it was on."""
        pool = self.book.pools[facts.pool].facts
        if facts.probe is not None or not self.hands.excludes(facts.pool):
            return
        for name in facts.ran_on:
            record = self.book.node(facts.pool, name)
            if facts.used and reason is not Reason.NODE:
                self.book.put_node(tx, nodes.worked(record))
            elif reason in _BLAMED:
                failed = nodes.failed(record, self.book.now, words or reason.value)
                self.book.put_node(tx, failed)
                if nodes.until(failed) > self.book.now:
                    tx.event(
                        "server", "node.excluded", pool=pool.name, node=name, failures=failed.failures,
                        reason=failed.words,
                    )  # fmt: skip

    def _carry_out(self, tx: Tx, row: AllocationRow, effect: Effect) -> None:
        hands = self.hands
        match effect:
            case Effect.CANCEL:
                tx.after(lambda: hands.cancel(row.pool, row.token, row.native))
            case Effect.LOOK:
                tx.after(lambda: hands.look(row.pool))
            case Effect.TELL:
                self._dismiss(tx, row)
            case Effect.CLOSE:
                self._close(tx, row)

    def _dismiss(self, tx: Tx, row: AllocationRow) -> None:
        """Its workers take nothing new, and leave when they have nothing left."""
        for worker, token in self.book.workers.items():
            found = workers.get(tx, worker) if token == row.token else None
            if found is not None and found.drain is None:
                words = row.facts.words or f"its allocation ends: {row.facts.reason or 'not needed any more'}"
                joining.drain(self._queue, tx, found, words, finish=True, actor="server")

    def _close(self, tx: Tx, row: AllocationRow) -> None:
        """It is over: so are the credentials of its workers; what they still held goes back, and no job is blamed."""
        if not row.bundle:
            return
        self._bundles.close(tx, row.bundle)
        how = row.facts.words or row.facts.reason
        sessions = joining.revoke(self._queue, tx, row.bundle, f"the allocation of the worker has ended: {how}")
        self._queue.round(tx)
        if sessions:
            tx.after(lambda: self.hands.cut(sessions, f"the allocation has ended: {how}"))

    def _tell(self, tx: Tx, row: AllocationRow, before: Allocation) -> None:
        facts, name = row.facts, self.book.name(tx, row.pool)
        if facts.state is State.RUNNING:
            tx.event(
                "server", "allocation.started", project=facts.project, subject=row.id, pool=name, native=row.native,
                nodes=list(facts.ran_on), waited=max(0.0, facts.started_at - facts.asked_at),
            )  # fmt: skip
        elif facts.state is State.ENDED:
            ran = facts.ended_at - facts.started_at if facts.started_at else 0.0
            tx.event(
                "server", "allocation.ended", project=facts.project, subject=row.id, pool=name, native=row.native,
                reason=str(facts.reason), words=facts.words, ran=max(0.0, ran),
            )  # fmt: skip
        elif facts.state is State.ORPHANED:
            tx.event("server", "allocation.orphaned", subject=row.id, pool=name, native=row.native, token=row.token)
        log.info(
            "pool {pool}: allocation {id} ({native}): {before} -> {state} {reason} {words}", pool=name, id=ids.show(row.id),
            native=row.native or row.token, before=before.state, state=facts.state, reason=facts.reason, words=facts.words,
        )  # fmt: skip

    # --- strangers with our token ---

    def stranger(self, tx: Tx, pool: int, token: str, native: str) -> None:
        """Something in the batch system has a token of this pool that nobody knows: asked for in a life that was lost."""
        row = self.book.pools.get(pool)
        if row is None or self.book.find(tx, token) is not None:
            return
        facts = orphan(token, pool, self.book.now, row.facts.each, row.facts.nodes)
        made = self.book.add(
            tx, tx.next("allocation"), facts, native=native, why="found in the batch system"
        )  # fmt: skip
        tx.event(
            "server", "allocation.orphaned", subject=made.id, pool=self.book.name(tx, pool), native=native, token=token
        )  # fmt: skip
        tx.after(lambda: self.hands.cancel(pool, token, native))

    # --- workers ---

    def worker_joined(self, tx: Tx, worker: WorkerRow, session: Session, hello: Hello) -> None:
        """A worker says hello, for the first time or after a cut."""
        row = allocations.by_bundle(tx, worker.bundle)
        if row is None:
            return
        row = self.book.live.get(row.token, row)
        self.book.come(worker.id, row.token)
        facts = row.facts
        if facts.asked_for is not None:
            # What it runs it has had already; what it had in former sessions it tells with its first turn.
            has = bool(session.leases or session.lent)
            self._queue.index.change(session, asked_for=facts.asked_for, sated=has)
        known = worker.boot == hello.boot and facts.joined > 0
        if facts.alone_at:
            row = self.book.put(tx, row, replace(facts, alone_at=0.0))
        if known and facts.state is State.RUNNING:
            return
        ran_on = facts.ran_on
        if hello.node and hello.node not in ran_on:
            ran_on = (*ran_on, hello.node)
        found = self.happen(tx, row.token, Event.JOINED, ran_on=ran_on)
        pool = self.book.pools.get(row.pool)
        if found is None or pool is None:
            return
        programs = tuple((one.name, one.version) for one in hello.programs)
        learned = learning.joined(pool.learned, found.facts, self.book.now, hello.total, programs)
        self.book.learn(tx, row.pool, learned)

    def worker_left(self, tx: Tx, session: Session, kind: str, reason: str) -> None:
        """It has said goodbye, or was silent for too long."""
        token = self.book.workers.get(session.worker)
        if token is None:
            return
        self.book.go(session.worker)
        row = self.book.live.get(token)
        if row is None or token in self.book.workers.values():
            return
        row = self.book.put(tx, row, replace(row.facts, alone_at=self.book.now))
        tx.after(lambda: self.hands.look(row.pool))
        if kind == "worker.left" and row.facts.state is State.RUNNING and not reason.startswith("SIG"):
            # It went by itself, all of it is done. Of a signal the batch system knows better why it was sent.
            self.happen(tx, token, Event.DISMISSED, reason=Reason.LEFT, words=reason)

    def given(self, tx: Tx, given: frozenset[int]) -> None:
        """These workers were given jobs."""
        for worker in given & self.book.workers.keys():
            self.book.used.add(worker)
            row = self.book.live.get(self.book.workers[worker])
            if row is not None and not row.facts.used:
                self.book.put(tx, row, replace(row.facts, used=True))


def prefix(server_id: str, pool: int) -> str:
    """What the tokens of a server's pool begin with, and no others."""
    return f"cpc-{server_id[:8]}-{_word(pool)}-"


def _word(number: int) -> str:
    """An id as part of a token."""
    return ids.show(number).replace(".", "r")
