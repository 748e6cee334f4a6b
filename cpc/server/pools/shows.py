"""Pools, allocations and nodes as people see them. Called within units of the writer."""

from __future__ import annotations

import statistics

import msgspec

from cpc.core import ids
from cpc.core.allocation import NodeSeen
from cpc.core.clock import SECOND
from cpc.core.pool_views import AllocationView, NodeView, NodeWorkerView, PoolView
from cpc.pools import learning, nodes
from cpc.pools.allocation import State
from cpc.pools.facts import HOUR
from cpc.server.pools import settings
from cpc.server.pools.hand import Waits
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.means import read
from cpc.server.queue import Queue
from cpc.store import arrays, projects, workers
from cpc.store.allocations import AllocationRow
from cpc.store.pools import PoolRow
from cpc.store.transaction import Tx
from cpc.wire.messages import Hello


class Shows:
    """Makes views."""

    def __init__(self, keeper: Keeper, queue: Queue) -> None:
        self._keeper = keeper
        self._book = keeper.book
        self._queue = queue

    def pool(self, tx: Tx, row: PoolRow, everything: bool) -> PoolView:
        """A pool, with what it has now."""
        book, facts, learned = self._book, row.facts, row.learned
        live = book.of_pool(row.id)
        tokens = {one.token for one in live}
        state, note = self.state(row)
        return PoolView(
            name=row.name,
            id=ids.show(row.id),
            scheduler=facts.scheduler,
            state=state,
            note=note,
            settings=settings.shown(tx, facts, read(row.means, row.name), everything),
            waiting=sum(one.facts.state.pending for one in live),
            running=sum(one.facts.state is State.RUNNING for one in live),
            leaving=sum(one.facts.state in (State.LEAVING, State.ORPHANED) for one in live),
            cores=sum(one.facts.cores for one in live if one.facts.state is State.RUNNING),
            workers=sum(token in tokens for token in book.workers.values()),
            spent=learning.spent(learned, [one.facts for one in live], book.now) / HOUR,
            wait=statistics.median(learned.waits) if learned.waits else None,
            created=row.created,
        )

    def state(self, row: PoolRow) -> tuple[str, str]:
        """(state, why)."""
        book, facts = self._book, row.facts
        if row.id in self._keeper.broken:
            held = len(book.of_pool(row.id))
            alone = f"; its {held} allocation(s) are left alone until it can be used" if held else ""
            return "unreachable", self._keeper.broken[row.id] + alone
        if facts.paused is not None:
            return "paused", facts.paused
        hand = self._keeper.hands.get(row.id)
        if hand is not None and hand.trouble:
            return "unreachable", hand.trouble
        live = [one.facts for one in book.of_pool(row.id)]
        until, setback, _ = max(
            learning.setbacks(row.learned, live, book.now), default=(0.0, None, 0), key=lambda one: one[0]
        )
        if setback is not None and until > book.now:
            return "backing-off", setback.words
        return "active", ""

    def allocation(self, tx: Tx, row: AllocationRow) -> AllocationView:
        """One request."""
        facts, book = row.facts, self._book
        project = projects.by_id(tx, facts.project) if facts.project else None
        mine = [worker for worker, token in book.workers.items() if token == row.token]
        hand = self._keeper.hands.get(row.pool)
        waits = hand.waits.get(row.token, Waits()) if hand else Waits()
        return AllocationView(
            id=ids.show(row.id),
            pool=book.name(tx, row.pool),
            token=row.token,
            native=row.native,
            state=facts.state.value,
            reason=facts.reason.value,
            words=facts.words,
            why=row.why,
            project=project.name if project else "",
            nodes=facts.nodes,
            cores=facts.cores,
            walltime=facts.walltime,
            ran_on=facts.ran_on,
            workers=tuple(found.name for worker in mine if (found := workers.get(tx, worker)) is not None),
            restarts=facts.restarts,
            asked=row.asked,
            started=self._wall(tx, facts.started_at),
            ends=self._wall(tx, facts.ends_at),
            ended=row.ended,
            waiting=waits.words,
            stuck=waits.stuck,
        )

    def _wall(self, tx: Tx, at: float) -> int | None:
        """A time of the book's clock as people's."""
        return tx.now + int((at - self._book.now) * SECOND) if at else None

    def node(
        self, tx: Tx, row: PoolRow, seen: NodeSeen, here: dict[str, list[NodeWorkerView]], trend: float
    ) -> NodeView:
        """One node. `here`: our workers by node."""
        record = self._book.node(row.id, seen.name)
        left = max(0.0, nodes.until(record) - self._book.now)
        return NodeView(
            name=seen.name,
            pool=row.name,
            state=seen.state.value,
            reason=seen.reason,
            reason_by=seen.reason_by,
            cores=seen.cores,
            cores_used=seen.cores_used,
            gpus=seen.gpus,
            memory=seen.memory,
            memory_free=seen.memory_free,
            memory_trend=trend,
            queues=seen.queues,
            workers=tuple(here.get(seen.name, ())),
            excluded=left,
            excluded_why=record.words if left else "",
        )

    def by_node(self, tx: Tx) -> dict[str, list[NodeWorkerView]]:
        """Every worker that is joined, by what the batch system calls its node (else by its host's name)."""
        found: dict[str, list[NodeWorkerView]] = {}
        for session in self._queue.index.sessions.values():
            row = workers.get(tx, session.worker)
            if row is None:
                continue
            jobs = tuple(ids.show(job, _elements(tx, job)) for job in sorted(session.leases))
            state = "busy" if jobs else "idle"
            if session.drain is not None:
                state = "draining" if jobs else "drained"
            for name in names_of(row.hello):
                found.setdefault(name, []).append(NodeWorkerView(name=session.name, state=state, jobs=jobs))
        return found


def names_of(hello: bytes) -> tuple[str, ...]:
    """What a worker's node is called: by its batch system, else by itself."""
    if not hello:
        return ()
    said = msgspec.msgpack.decode(hello, type=Hello)
    return (said.node,) if said.node else (said.host, said.host.partition(".")[0]) if "." in said.host else (said.host,)


def _elements(tx: Tx, job: int) -> bool:
    row = arrays.get(tx, ids.array(job))
    return row is not None and row.elements
