"""Workers, as people see them: the service behind `cpcc workers`, `drain`, `resume`, `heartbeats`."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from cpc.core import ids
from cpc.core.clock import DAY, SECOND
from cpc.core.resources import Amounts
from cpc.core.views import HeartbeatView, LentView, Page, WorkerView
from cpc.queue.session import Session
from cpc.server import joining
from cpc.server.federation.lending import Lending
from cpc.server.gate import Gate
from cpc.server.machines import Machines
from cpc.server.principal import Call, Principal
from cpc.server.queue import Queue
from cpc.server.roles import Act
from cpc.store import arrays, bundles, workers
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.messages import Hello

#: A worker that has been silent for so long is not listed any more.
LISTED = 7 * DAY


class Workers:
    """Looks in the writer, because the index may only be read there; nothing is written, so it costs no commit."""

    def __init__(self, store: Store, gate: Gate, queue: Queue, machines: Machines) -> None:
        self._store = store
        self._gate = gate
        self._queue = queue
        self._machines = machines
        self.lending: Lending | None = None

    def page(self, who: Principal) -> Awaitable[Page]:
        """Workers that are joined, or were within the last week."""

        def unit(tx: Tx) -> Page:
            self._gate.check(tx, who, Act.WORKER_LIST)
            joined = {session.worker for session in self._queue.index.sessions.values()}
            rows = {row.id: row for row in workers.seen_since(tx, tx.now - LISTED, limit=20_000) if row.revoked is None}
            for number in joined - rows.keys():
                row = workers.get(tx, number)
                if row is not None:
                    rows[number] = row
            # A borrowed worker is listed while jobs of ours run there.
            listed = (row for row in rows.values() if row.hello and (row.bundle or self._queue.index.held(row.id)))
            return Page(items=tuple(self._view(tx, row) for row in listed))

        return self._store.write(unit)

    def get(self, who: Principal, id: str) -> Awaitable[WorkerView]:
        """One worker, by name or id."""

        def unit(tx: Tx) -> WorkerView:
            self._gate.check(tx, who, Act.WORKER_LIST)
            return self._view(tx, joining.find(tx, id))

        return self._store.write(unit)

    def drain(self, call: Call, id: str, reason: str, finish: bool) -> Awaitable[WorkerView]:
        """Give it no more jobs; with `finish` false its jobs are checkpointed and handed back now."""

        def unit(tx: Tx) -> WorkerView:
            row = joining.find(tx, id)
            joining.drain(self._queue, tx, row, reason, finish, call.who.actor)
            return self._view(tx, joining.find(tx, ids.show(row.id)))

        return self._gate.write(call, Act.WORKER_DRAIN, unit, answer=WorkerView)

    def resume(self, call: Call, id: str) -> Awaitable[WorkerView]:
        """Give it jobs again."""

        def unit(tx: Tx) -> WorkerView:
            row = joining.find(tx, id)
            joining.resume(self._queue, tx, row, call.who.actor)
            self._queue.round(tx)
            return self._view(tx, joining.find(tx, ids.show(row.id)))

        return self._gate.write(call, Act.WORKER_RESUME, unit, answer=WorkerView)

    def heartbeats(self, who: Principal) -> Awaitable[Page]:
        """Every running attempt, and in how many seconds it would be given to another worker."""

        def unit(tx: Tx) -> Page:
            self._gate.check(tx, who, Act.HEARTBEAT_LIST)
            queue = self._queue
            shown = []
            for run in queue.each_running():
                session = queue.index.of_worker(run.worker)
                row = workers.get(tx, run.worker) if session is None else None
                name = session.name if session else row.name if row else ""
                owner = self.lending.owner if self.lending is not None else None
                suspended = owner is not None and owner.suspended(run.worker)
                period = owner.peer_grace if owner is not None and suspended else queue.limits.heartbeat_time
                left = run.renewed + period - queue.now
                job = ids.show(run.lease.job, queue.specs.get(tx, run.array).row.elements)
                view = HeartbeatView(
                    job=job, attempt=run.lease.attempt, worker=name, expires_in=max(0.0, left), suspended=suspended
                )
                shown.append(view)
            return Page(items=tuple(shown))

        return self._store.write(unit)

    def _view(self, tx: Tx, row: WorkerRow) -> WorkerView:
        queue = self._queue
        session = queue.index.of_worker(row.id)
        seat = self._machines.seats.get(session.number) if session else None
        hello = msgspec.msgpack.decode(row.hello, type=Hello) if row.hello else None
        leases = sorted(session.leases) if session else []
        shown = [ids.show(job, _elements(tx, job)) for job in leases]
        left = session.deadline - queue.now if session and session.deadline is not None else None
        silent = queue.now - seat.heard if seat else (tx.now - row.last_seen) / SECOND
        borrowed = session is not None and bool(session.home)
        owner = self.lending.owner if self.lending is not None else None
        if owner is not None and borrowed:
            silent = queue.now - owner.heard(row.id)
        bundle = bundles.by_id(tx, row.bundle)
        return WorkerView(
            id=ids.show(row.id),
            name=row.name,
            host=row.host,
            bundle=bundle.name if bundle else "",
            platform=hello.platform if hello else "",
            state=self._state(
                row,
                session is not None,
                bool(leases or (session and session.lent)),
                (seat is not None and seat.open) or (owner is not None and borrowed and not owner.suspended(row.id)),
                bool(seat and seat.note),
            ),
            note=row.drain or (seat.note if seat else ""),
            release=hello.release if hello else "",
            total=session.total if session else (hello.total if hello else Amounts()),
            free=_free(queue, session) if session else Amounts(),
            programs=tuple(f"{one.name} {one.version}".strip() for one in hello.programs) if hello else (),
            labels=hello.labels if hello else (),
            project=hello.project if hello else "",
            jobs=tuple(shown),
            joined=seat.joined if seat else row.created,
            last_heard=max(0.0, silent),
            time_left=left,
            home=owner.home_of(row.id) if owner is not None else "",
            lent=self._lent(row.id, session),
        )

    def _lent(self, worker: int, session: Session | None) -> tuple[LentView, ...]:
        """What it runs for others; what has ended there already is not shown, though its owner has not heard of it."""
        if self.lending is None or session is None:
            return ()
        views = []
        for server, leases in self.lending.home.works_for(worker):
            jobs = tuple(lease.of(session.lent[lease].first) for lease in leases if lease in session.lent)
            if jobs:
                views.append(LentView(server=server, jobs=jobs))
        return tuple(views)

    def _state(self, row: WorkerRow, joined: bool, busy: bool, connected: bool, noted: bool) -> str:
        if not joined or not connected:
            return "silent"
        if row.drain is not None:
            return "draining" if busy else "drained"
        session = self._queue.index.of_worker(row.id)
        if noted and session is not None and not session.wants:
            return "stepped-back"
        return "busy" if busy else "idle"


def _free(queue: Queue, session: Session) -> Amounts:
    """What it has left; of a borrowed worker, what jobs of ours leave: what else runs there, its home does not say."""
    if not session.home:
        return session.free
    free = session.total
    for run in queue.index.held(session.worker):
        free = free if run.ahead else free - run.granted
    return free


def _elements(tx: Tx, job: int) -> bool:
    row = arrays.get(tx, ids.array(job))
    return row is not None and row.elements
