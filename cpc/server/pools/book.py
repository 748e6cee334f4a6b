"""What the server knows of its pools, in memory and in the database in step: for units of the writer only.

Every change notes its inverse in the journal of the writer's batch, so that a batch that is rolled back leaves no trace.
"""

from __future__ import annotations

import msgspec

from cpc.core import ids
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import NotFound
from cpc.core.journal import Journal
from cpc.pools import learning
from cpc.pools.allocation import Allocation
from cpc.pools.facts import Learned, NodeRecord, Pool
from cpc.store import allocations, pools
from cpc.store.allocations import AllocationRow
from cpc.store.pools import PoolRow
from cpc.store.transaction import Tx


class Book:
    """`pools` by number, `live` by token, `nodes` by (pool, name), `workers`: the token of each worker that is joined.

    `idle` (worker → since when it has no job) and `used` (workers that have had one) are what was last seen: nothing is
    lost with them.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.journal = journal
        self.pools: dict[int, PoolRow] = {}
        self.live: dict[str, AllocationRow] = {}
        self.nodes: dict[tuple[int, str], NodeRecord] = {}
        self.workers: dict[int, str] = {}
        self.idle: dict[int, float] = {}
        self.used: set[int] = set()
        self._clock = clock
        self._ahead = clock.now() / SECOND - clock.monotonic()

    @property
    def now(self) -> float:
        """Seconds of a clock that goes on over restarts and never goes back."""
        return self._ahead + self._clock.monotonic()

    def load(self, tx: Tx) -> None:
        """Read what there is."""
        self.pools = {row.id: row for row in pools.each(tx)}
        self.live = {row.token: row for row in allocations.live(tx)}
        self.nodes = {(one.pool, one.node): one for one in pools.nodes(tx)}
        # A wall clock that was set back must not make what has happened lie in the future.
        seen = [max(_times(row.facts)) for row in self.live.values()]
        self._ahead += max(0.0, max(seen, default=0.0) - self.now)
        now = self.now
        self.pools = {key: _with(row, learned=learning.not_later(row.learned, now)) for key, row in self.pools.items()}
        self.nodes = {
            key: msgspec.structs.replace(one, failed_at=min(one.failed_at, now)) for key, one in self.nodes.items()
        }

    # --- pools ---

    def pool(self, tx: Tx, name: str) -> PoolRow:
        """The pool of this name, or NotFound."""
        found = pools.by_name(tx, name)
        if found is None:
            there = ", ".join(row.name for row in self.pools.values())
            raise NotFound(
                f"there is no pool {name[:80]!r}",
                f"there are: {there}" if there else "make one: cpcc pool add NAME SCHEDULER",
            )
        return self.pools[found.id]

    def name(self, tx: Tx, number: int) -> str:
        """What a pool is called, or was before it was removed."""
        row = self.pools.get(number)
        return row.name if row else pools.name_of(tx, number) or ids.show(number)

    def add_pool(self, tx: Tx, facts: Pool, means: bytes) -> PoolRow:
        """A new pool."""
        return self._set_pool(pools.add(tx, facts, means))

    def change_pool(self, tx: Tx, number: int, facts: Pool, means: bytes) -> PoolRow:
        """What a person has set."""
        pools.change(tx, number, facts, means)
        facts = msgspec.structs.replace(facts, number=number)
        return self._set_pool(_with(self.pools[number], facts=facts, means=means))

    def learn(self, tx: Tx, number: int, learned: Learned) -> None:
        """What experience says; nothing where it says what it said."""
        row = self.pools.get(number)
        if row is not None and learned != row.learned:
            pools.learn(tx, number, learned)
            self._set_pool(_with(row, learned=learned))

    def remove_pool(self, tx: Tx, number: int) -> None:
        """The pool is gone."""
        pools.remove(tx, number)
        row = self.pools.pop(number)
        self.journal.note(self.pools.__setitem__, number, row)
        for key in [key for key in self.nodes if key[0] == number]:
            self.journal.note(self.nodes.__setitem__, key, self.nodes.pop(key))

    def _set_pool(self, row: PoolRow) -> PoolRow:
        before = self.pools.get(row.id)
        self.pools[row.id] = row
        if before is None:
            self.journal.note(self.pools.pop, row.id)
        else:
            self.journal.note(self.pools.__setitem__, row.id, before)
        return row

    # --- allocations ---

    def of_pool(self, number: int) -> list[AllocationRow]:
        """Those of a pool that live."""
        return [row for row in self.live.values() if row.pool == number]

    def find(self, tx: Tx, token: str) -> AllocationRow | None:
        """The allocation with this token, ended or not."""
        return self.live.get(token) or allocations.by_token(tx, token)

    def add(
        self, tx: Tx, number: int, facts: Allocation, *, bundle: int = 0, why: str = "", native: str = ""
    ) -> AllocationRow:
        """One more; its id is of `tx.next("allocation")`."""
        row = allocations.add(tx, number, facts, bundle, why, native)
        self.live[row.token] = row
        self.journal.note(self.live.pop, row.token)
        return row

    def put(self, tx: Tx, row: AllocationRow, facts: Allocation, native: str = "") -> AllocationRow:
        """What has become of it. One that has ended is only on disk from now on."""
        ended = None if facts.state.live else row.ended or tx.now
        made = AllocationRow(
            row.id, row.pool, native or row.native, row.bundle, row.asked, ended, facts, row.why
        )  # fmt: skip
        if made != row:
            allocations.put(tx, made)
        before = self.live.pop(row.token, None)
        if ended is None:
            self.live[row.token] = made
        self.journal.note(self._put_back, row.token, before)
        return made

    def need(self, tokens: frozenset[str]) -> None:
        """Something waits for these, now. Written down with whatever is written of them next: it is no loss without."""
        for token in tokens:
            row = self.live.get(token)
            if row is not None:
                self.live[token] = _needed(row, self.now)

    def _put_back(self, token: str, row: AllocationRow | None) -> None:
        self.live.pop(token, None)
        if row is not None:
            self.live[token] = row

    # --- nodes and workers ---

    def node(self, pool: int, name: str) -> NodeRecord:
        """What is known of a node."""
        return self.nodes.get((pool, name)) or NodeRecord(pool=pool, node=name)

    def put_node(self, tx: Tx, record: NodeRecord) -> None:
        """What is known of it now."""
        key = (record.pool, record.node)
        before = self.nodes.pop(key, None)
        if record == before or (before is None and not record.failures):
            if before is not None:
                self.nodes[key] = before
            return
        pools.put_node(tx, record)
        if record.failures:
            self.nodes[key] = record
        self.journal.note(self._put_node_back, key, before)

    def _put_node_back(self, key: tuple[int, str], record: NodeRecord | None) -> None:
        self.nodes.pop(key, None)
        if record is not None:
            self.nodes[key] = record

    def come(self, worker: int, token: str) -> None:
        """A worker of this allocation is joined."""
        before = self.workers.get(worker)
        self.workers[worker] = token
        self.journal.note(self._come_back, worker, before)

    def go(self, worker: int) -> None:
        """It is not any more."""
        self.journal.note(self._come_back, worker, self.workers.pop(worker, None))
        self.idle.pop(worker, None)
        self.used.discard(worker)

    def _come_back(self, worker: int, token: str | None) -> None:
        self.workers.pop(worker, None)
        if token is not None:
            self.workers[worker] = token


def _with(
    row: PoolRow, *, facts: Pool | None = None, means: bytes | None = None, learned: Learned | None = None
) -> PoolRow:
    return PoolRow(
        row.id, row.name, row.created, facts or row.facts, row.means if means is None else means, learned or row.learned
    )


def _needed(row: AllocationRow, now: float) -> AllocationRow:
    facts = msgspec.structs.replace(row.facts, needed_at=now)
    return AllocationRow(row.id, row.pool, row.native, row.bundle, row.asked, row.ended, facts, row.why)


def _times(facts: Allocation) -> tuple[float, ...]:
    return facts.asked_at, facts.started_at, facts.joined_at, facts.leaving_at
