"""The owner's side of lending: workers of other servers, as rows and sessions like those of our own.

A borrowed worker has a session while jobs of ours run there. Its room is its home's to give: it says so when it asks for
work, and with each report; only in the round of that moment the session takes jobs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cpc.core.clock import Timers
from cpc.core.errors import Refused
from cpc.core.lease import Lease
from cpc.core.peer import Bound
from cpc.core.resources import Amounts
from cpc.core.texts import plain
from cpc.queue import terms
from cpc.queue.session import Session
from cpc.server import settling
from cpc.server.federation.agreed import Agreed, Agreements
from cpc.server.federation.borrowed import (
    Borrowed,
    hello_of,
    not_theirs,
    row_of,
    sane,
    session_of,
    size_of,
    way_of,
)
from cpc.server.federation.era import Era
from cpc.server.federation.hearing import Hearing
from cpc.server.federation.portions import Answer, Said, check_size, portions
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.register import Register
from cpc.server.federation.ways import Caller, Ways
from cpc.server.joining import MAX_WORD
from cpc.server.queue import Queue
from cpc.server.settling import Settlement
from cpc.server.tails import Tails
from cpc.store import attempts, workers
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Orders, Result, Settled, Task
from cpc.wire.peer_messages import Offer, Report, ReportAnswer, WorkerOrders, WorkerReport

MOST_BYTES = 4 << 20  # of tasks in one answer
MOST_CANCELLED = 5000  # in one answer: the others are named again, and told then


class Owner:
    """All borrowed workers. `heard` is by the lease clock."""

    def __init__(
        self, *, queue: Queue, store: Store, ways: Ways, tails: Tails, timers: Timers, quarantine: Quarantine
    ) -> None:  # fmt: skip
        self.beats = 4
        self.peer_grace = 3600.0
        self._queue = queue
        self._store = store
        self._ways = ways
        self._tails = tails
        self._timers = timers
        self._borrowed: dict[int, Borrowed] = {}  # by session
        self.register = Register(ways.here)
        self._agreements = Agreements(queue, ways, self.register)
        self.quarantine = quarantine
        self._hearing = Hearing(queue, store, ways, answers=self._renew_all, closed=self._close)
        self.register.on_end = self._hearing.forget
        self._orders: dict[tuple[str, ...], list[WorkerOrders]] = {}
        self._era = Era(queue.journal)
        ways.serve("report", Report, self._report, far=True)

    def load(self, tx: Tx) -> None:
        """At start: which workers were borrowed ones."""
        self.register.load(tx)

    # --- what is known --------------------------------------------------------------------------------------------------

    def home_of(self, worker: int) -> str:
        """The home of a borrowed worker; empty for one of ours."""
        return self.register.home_of(worker)

    def get(self, session: int) -> Borrowed | None:
        """The borrowed worker with this session."""
        return self._borrowed.get(session)

    def heard(self, worker: int) -> float:
        """When the home of this worker last reported by the way by which it was lent, by the lease clock; it has a full period
        from our start on."""
        return self._hearing.last(self.register.way_to(worker))

    def promised(self, worker: int) -> float:
        """For how many seconds the home of this worker may be silent, as far as that knows; 0.0: it has no home elsewhere."""
        return self._hearing.promised(self.register.way_to(worker))

    def suspended(self, worker: int) -> bool:
        """Whether the leases of this worker wait for its home to be heard of again."""
        back = self.register.way_to(worker)
        return bool(back) and self._hearing.silent(back)

    def totals(self) -> dict[str, tuple[int, int]]:
        """By home: (workers, cores) that are used of it."""
        found: dict[str, tuple[int, int]] = {}
        for one in list(self._borrowed.values()):
            session = self._queue.index.sessions.get(one.session)
            if session is not None:
                count, cores = found.get(one.home, (0, 0))
                found[one.home] = (count + 1, cores + self._queue.index.cores(session.worker))
        return found

    # --- work for a question ----------------------------------------------------------------------------------------------

    async def give(
        self, route: tuple[str, ...], offers: Sequence[Offer], bounds: Sequence[Bound] = ()
    ) -> dict[int, tuple[Task, ...]]:
        """Jobs of our queue for these workers of `route[0]`, that `route[-1]` asks for: tasks by the worker's number there.
        `bounds`: what servers on the route let pass in all."""
        peer, back = route[-1], (self._ways.here, *reversed(route))
        era = self._era.now

        def unit(tx: Tx) -> list[tuple[int, Session]]:
            self._era.check(era)
            found = self._lure(tx, back, offers, self._agreements.now(tx, back, bounds))
            if found:
                self._fill(tx, [session for _, session in found])
            return [(number, session) for number, session in found if session.leases]

        found = await self._store.write(unit, guest=peer, weight=len(offers))
        given: dict[int, tuple[Task, ...]] = {}
        size = 0
        for number, session in found:
            if size < MOST_BYTES:  # the rest follows with the orders
                given[number] = self._queue.outbox.take_tasks(session.number)
                size += sum(map(size_of, given[number]))
        return {number: tasks for number, tasks in given.items() if tasks}

    def _lure(
        self, tx: Tx, back: tuple[str, ...], offers: Sequence[Offer], agreed: Agreed
    ) -> list[tuple[int, Session]]:  # fmt: skip
        """Sessions for those of the offered workers that could be given a job now."""
        found: list[tuple[int, Session]] = []
        for offer in offers:
            left, free = agreed.left, agreed.take(offer.free)
            if free.cores <= 0:
                continue
            worker = self.register.row(tx, back, offer.worker)
            session = self._queue.index.of_worker(worker) if worker else None
            if session is None:
                session = session_of(worker, offer, back, agreed.limits, agreed.projects, self._queue.now)
                session.free, session.wants = free, True
                row = workers.get(tx, worker) if worker else None
                if (row is not None and row.drain is not None) or not self._queue.own_waits(session):
                    agreed.left = left
                    continue
                self._join(tx, session, back, offer)
            else:
                self._agreements.follow(session, agreed, offer)
            most_ahead = len(session.ahead) + agreed.ahead(offer.ahead)
            self._queue.index.change(session, free=free, wants=True, most_ahead=most_ahead)
            found.append((offer.worker, session))
        return found

    def _fill(self, tx: Tx, sessions: Sequence[Session]) -> None:
        """Now, and only now, they take jobs; who has none then has no session any more."""
        queue = self._queue
        for session in sessions:
            queue.feed(session)
        queue.round(tx)
        for session in sessions:
            if session.leases or session.number not in queue.index.sessions:
                queue.index.change(session, wants=False)
            else:
                self._leave(tx, session)

    # --- sessions -------------------------------------------------------------------------------------------------------

    def _join(self, tx: Tx, session: Session, back: tuple[str, ...], offer: Offer) -> None:
        queue, home = self._queue, back[-1]
        hello = hello_of(offer, home)
        new = not session.worker
        if new:
            session.worker = tx.next("worker")
            workers.add(tx, row_of(session.worker, offer, back, tx.now))
        else:
            row = workers.get(tx, session.worker)
            session.drain = row.drain if row is not None else None
        session.number = tx.next("session")
        session.free = session.total
        queue.index.join(session)
        workers.joined(tx, session.worker, hello.host, way_of(back), session.number, msgspec.msgpack.encode(hello))
        if new:
            tx.event(
                f"server:{home}", "worker.borrowed", subject=session.worker, worker=session.name, host=hello.host,
                cores=offer.total.cores, home=home,
            )  # fmt: skip
        made = Borrowed(session.number, session.worker, home, offer.worker, back)

        def effect() -> None:
            self._borrowed[made.session] = made
            self.register.add(made.worker, back, made.number)
            self._hearing.note(back)
            for lease in self._tails.followed(tuple(session.leases.values())):
                queue.outbox.follow(made.session, lease)

        tx.after(effect)

    def _leave(self, tx: Tx, session: Session) -> None:
        """The loan is over."""
        number = session.number
        self._queue.index.leave(number)
        workers.seen(tx, session.worker)

        def effect() -> None:
            self._borrowed.pop(number, None)
            self._queue.outbox.forget(number)

        tx.after(effect)

    # --- reports --------------------------------------------------------------------------------------------------------

    async def _report(self, caller: Caller, report: Report) -> ReportAnswer:
        self._check(caller)
        check_size(report)
        answer, era = Answer(), self._era.now
        for portion in portions(report):

            def unit(tx: Tx, portion: Sequence[Said] = portion) -> Answer:
                self._era.check(era)
                return self._take(tx, caller, portion, report.way)

            answer.add(await self._store.write(unit, caller.peer, sum(said.weight for said in portion)))
        if self._hearing.last(caller.back) or self.register.leads(caller.back):
            self._hearing.note(caller.back)
        for worker, one in answer.tails:
            for tail in one.tails:
                run = self._queue.index.running.get(tail.lease.job)
                if run is not None and run.lease == tail.lease and run.worker == worker:
                    self._tails.take(tail)
        orders = []
        size, left = 0, MOST_CANCELLED
        for one in report.workers:
            settlement = answer.settled.get(one.worker, Settlement())
            for settled in settlement.settled:
                self._tails.wake(settled.lease)
            number = answer.sessions.get(one.worker, 0)
            tasks = self._queue.outbox.take_tasks(number) if number and size < MOST_BYTES else ()
            size += sum(map(size_of, tasks))
            words = "it is not the current attempt of its job any more"
            gone = tuple(answer.cancel.get(one.worker, ())[:left])
            left -= len(gone)
            made = Orders(
                tasks=tasks,
                settled=tuple(settlement.settled),
                retry=tuple(settlement.retry),
                cancel=tuple((lease, words) for lease in gone),
                wanted=gone,
            )
            if made != Orders():
                orders.append(WorkerOrders(worker=one.worker, orders=made))
        beat = self._hearing.promise(caller.back) / self.beats
        return ReportAnswer(workers=tuple(orders), unknown=tuple(answer.unknown), beat=beat)

    def _check(self, caller: Caller) -> None:
        route = caller.route
        agreement = self._ways.agreement(caller.peer)
        wrong = terms.broken(route)
        if wrong:
            raise Refused(f"a report came by a way that cannot be: {wrong}")
        if terms.withdrawn(agreement) or terms.denied(route, agreement):
            raise Refused("this server takes nothing that comes by this way", "ask its administrator")

    def _take(self, tx: Tx, caller: Caller, portion: Sequence[Said], way: float) -> Answer:
        answer = Answer()
        hungry: list[tuple[Session, WorkerReport]] = []
        limits, allowed = self._agreements.limits(tx, caller.back, caller.bounds)
        self._renew_all(caller.back)
        for said in portion:
            one = said.report
            worker = self.register.row(tx, caller.back, one.worker)
            session = self._queue.index.of_worker(worker) if worker else None
            refused = self._refused(tx, caller, worker, one.results)
            if refused:
                gone = {settled.lease for settled in refused}
                theirs = tuple(result for result in one.results if result.lease not in gone)
                one = msgspec.structs.replace(one, results=theirs)
            if session is None and one.offer is not None and not one.gone and sane([one.offer], caller.sender):
                made = session_of(worker, one.offer, caller.back, limits, allowed, self._queue.now)
                if self._needed(tx, made, caller.back, one):
                    self._join(tx, made, caller.back, one.offer)
                    session, worker = made, made.worker
            elif session is None and not one.gone and (one.wants or self._has_something(tx, worker, caller.back, one)):
                answer.unknown[one.worker] = None
            if worker or one.results:
                judged = worker or self.register.in_place_of(tx, caller.back, one.results)
                self._judge(tx, judged, session, one, answer, caller.peer)
            answer.cancel[one.worker] = [
                lease for lease in one.holds if lease not in said.told and not _current(self._queue, lease, worker)
            ]
            if refused:
                answer.settle(one.worker, Settlement(refused))
            if not said.whole:
                continue
            if one.gone:
                self._gone(tx, worker, session, one)
            elif session is not None:
                hungry.append((session, one))
        self._let(tx, caller, hungry, way)
        for said in portion:
            session = self._queue.index.of_worker(self.register.row(tx, caller.back, said.report.worker))
            if session is not None:
                answer.sessions[said.report.worker] = session.number
        return answer

    def _refused(self, tx: Tx, caller: Caller, worker: int, results: Sequence[Result]) -> list[Settled]:
        """Those that are not taken: of attempts that were given by another way, or to a worker of ours, for only the servers on
        that way speak for it; and of attempts that nobody knows, when they are not put into quarantine."""
        others: list[Result] = []
        strange: list[Result] = []
        for result in results:
            lease = result.lease
            run = self._queue.index.running.get(lease.job)
            if run is not None and run.lease == lease and run.worker == worker:
                continue
            attempt = attempts.get(tx, lease.job, lease.attempt)
            if attempt is None or attempt.incarnation != lease.incarnation:
                strange.append(result)
            elif attempt.worker != worker and self.register.way_to(attempt.worker) != caller.back:
                others.append(result)
        return not_theirs(others) + (self.quarantine.refuse(tx, caller.peer, strange) if strange else [])

    def _renew_all(self, back: tuple[str, ...]) -> None:
        """A home that was silent for long has its workers come back one by one: their leases get a full period."""
        if not self._hearing.silent(back):
            return
        for worker in self.register.by(back):
            for run in self._queue.index.held(worker):
                run.renewed = self._queue.now

    def _has_something(self, tx: Tx, worker: int, back: tuple[str, ...], one: WorkerReport) -> bool:
        """Whether it has jobs of ours, or, when it is not known yet, brings what another one lent by the same way has done."""
        return bool(self._queue.index.held(worker) if worker else self.register.in_place_of(tx, back, one.results))

    def _needed(self, tx: Tx, session: Session, back: tuple[str, ...], one: WorkerReport) -> bool:
        """Whether a worker that reports needs a session: it has a job of ours, brings a result, or could be given a job."""
        if self._has_something(tx, session.worker, back, one):
            return True
        session.wants = True
        return one.wants and self._queue.own_waits(session)

    def _judge(
        self, tx: Tx, worker: int, session: Session | None, one: WorkerReport, answer: Answer, peer: str
    ) -> None:
        """Renewals, results, checkpoints."""
        queue = self._queue
        for lease in one.holds:
            run = queue.index.running.get(lease.job)
            if run is not None and run.lease == lease and run.worker == worker:
                run.renewed = queue.now
        name = session.name if session is not None else f"{worker}"
        # First, because with its result an attempt ends, and its right to a checkpoint; after a cut one report has both.
        again = settling.take_checkpoints(queue, tx, worker, one.checkpoints, peer)
        settlement = settling.settle(queue, tx, worker, one.results, f"worker:{name}", peer)
        settlement.retry += again
        answer.settle(one.worker, settlement)
        if one.tails:
            answer.tails.append((worker, one))

    def _let(self, tx: Tx, caller: Caller, hungry: Sequence[tuple[Session, WorkerReport]], way: float) -> None:
        """They take what room there is, when all that has ended there has left it."""
        agreed = self._agreements.now(tx, caller.back, caller.bounds)
        for session, one in hungry:
            self._agreements.follow(session, agreed)
            self._set_room(session, one, agreed, way)
        self._fill(tx, [session for session, _ in hungry])

    def _set_room(self, session: Session, one: WorkerReport, agreed: Agreed, way: float) -> None:
        free = agreed.take(one.free if one.free.possible else Amounts())
        ahead = agreed.ahead(one.ahead)
        values: dict[str, object] = {
            "free": free,
            "wants": one.wants and (free.cores > 0 or ahead > 0),
            "most_ahead": len(session.ahead) + ahead,
            "way": way,
        }
        if one.time_left is not None:
            values["deadline"] = self._queue.now + one.time_left
        self._queue.index.change(session, **values)

    def _gone(self, tx: Tx, worker: int, session: Session | None, one: WorkerReport) -> None:
        words = plain(one.gone, MAX_WORD)
        if worker:
            settling.lost(self._queue, tx, self._queue.index.held(worker), words, one.counts)
        if session is not None:
            self._leave(tx, session)

    # --- orders ---------------------------------------------------------------------------------------------------------

    def send(self, session: int, orders: Orders) -> None:
        """Orders for a borrowed worker, on their way back to its home: one message for all that this turn brings."""
        one = self._borrowed.get(session)
        if one is None:
            return
        orders = msgspec.structs.replace(orders, drain=None, leave=False)
        if orders == Orders():
            return
        if not self._orders:
            self._timers.callLater(0, self._flush)
        self._orders.setdefault(one.back, []).append(WorkerOrders(worker=one.number, orders=orders))

    def _flush(self) -> None:
        waiting, self._orders = self._orders, {}
        for back, orders in waiting.items():
            self._ways.tell_far(back, "far-orders", ReportAnswer(workers=tuple(orders)))

    # --- ends -----------------------------------------------------------------------------------------------------------

    def withdraw(self, tx: Tx, peer: str, reason: str, beside: bool = True) -> None:
        """Trust in a peer is over: what runs at it, or by way of it, is taken back; not `beside`: if it is the first there."""
        self._era.end()
        for worker in self.register.through(peer):
            if beside or self.register.way_to(worker)[1] == peer:
                self._take_back(tx, worker, reason)

    def _take_back(self, tx: Tx, worker: int, words: str) -> None:
        settling.lost(self._queue, tx, self._queue.index.held(worker), words, counts=False)
        session = self._queue.index.of_worker(worker)
        if session is not None:
            self._leave(tx, session)

    def tidy(self, tx: Tx) -> None:
        """In the monitor's unit: borrowed workers that have nothing of ours any more have no session either."""
        for one in list(self._borrowed.values()):
            session = self._queue.index.sessions.get(one.session)
            if session is not None and not session.leases:
                self._leave(tx, session)
        self._hearing.look(tx, (self.register.way_to(run.worker) for run in self._queue.index.running.values()))

    def _close(self, tx: Tx, back: tuple[str, ...], words: str) -> None:
        for worker in self.register.by(back):
            self._take_back(tx, worker, words)
        self._queue.round(tx)


def _current(queue: Queue, lease: Lease, worker: int) -> bool:
    run = queue.index.running.get(lease.job)
    return run is not None and run.lease == lease and run.worker == worker
