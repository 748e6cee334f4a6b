"""The machines' door (13807): what workers may ask, and how it becomes units of the writer.

A connection made with a bundle may enrol, or say what is found where it is, and nothing else; one made with a worker's own
certificate may do what a worker does. Other servers come through the same door, to `cpc.server.federation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.logger import Logger

from cpc import __version__
from cpc.core.allocation import Check
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import BadInput, Gone, Refused, TurnedAway, Unavailable
from cpc.core.lease import Lease
from cpc.core.probe import NodeReport
from cpc.core.texts import plain
from cpc.queue.lent import Lent
from cpc.queue.session import Running, Session
from cpc.server import joining, settling
from cpc.server.abroad import Abroad, Peers, parted
from cpc.server.bulk import Chunks, FarFiles, JobFiles, WorkerFiles
from cpc.server.queue import Queue
from cpc.server.seats import Seat, Seats
from cpc.server.settling import Settlement
from cpc.server.tails import Tails
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.connection import Connection
from cpc.wire.identity import Name, Role
from cpc.wire.messages import Enrol, Enrolled, Goodbye, Hello, Judged, Look, Orders, Turn, Welcome

log = Logger()

MAX_NOTE = 500
NEW_BUNDLE = "ask the server's administrator for a new bundle"
DEADLINE_SLACK = 1.0  # seconds: a worker's end that has moved by less is the same one


class Looks(Protocol):
    """Who hears what a worker program finds where it was started to look only."""

    async def report(self, bundle: str, fingerprint: str, report: NodeReport) -> tuple[Check, ...]: ...


class Enrolment(Protocol):
    """The part of the bundle service that lets a key in. Called within a unit; Refused when the bundle is no good."""

    def admit(self, tx: Tx, bundle: str, fingerprint: str, worker: str = "") -> int: ...
    def certificate(self, request: bytes, name: str) -> bytes: ...


@dataclass(slots=True)
class Terms:
    """What workers are told at their hello; settings may change it."""

    server_id: str
    heartbeat_time: float = 120.0
    beats: int = 4  # turns within a heartbeat time, at least
    checkpoint_interval: float = 900.0
    certificate_time: float = 30 * 86400.0


class Machines:
    """All connections of workers."""

    def __init__(
        self, *, queue: Queue, store: Store, clock: Clock, chunks: Chunks, enrolment: Enrolment, terms: Terms
    ) -> None:
        self.seats = Seats()
        self.tails = Tails(self._follow)
        self._queue = queue
        self._store = store
        self._clock = clock
        self._chunks = chunks
        self.files = JobFiles(queue, store, chunks)
        self.far_files: FarFiles | None = None  # of jobs of other servers, when there are any
        self._enrolment = enrolment
        self.terms = terms
        self.peers: Peers | None = None
        self.looks: Looks | None = None
        queue.outbox.send = self._send
        queue.outbox.ended = self._ended
        queue.outbox.listens = self._listens
        store.writer.effected = queue.outbox.hurry

    def connected(self, connection: Connection) -> None:
        """A machine has shown who it is."""
        peer = connection.peer
        if peer is not None and peer.server != self.terms.server_id:
            connection.refuse(Refused(f"{peer} belongs to server {peer.server}", "workers connect to their own server"))
        elif peer is not None and peer.role is Role.BUNDLE:
            connection.serve("enrol", Enrol, self._enrol)
            connection.serve("look", Look, self._look)
        elif peer is not None and peer.role is Role.WORKER:
            _Worker(self, connection).serve()
        else:
            connection.refuse(Refused("only workers may connect here", "use port 14807 with cpcc"))

    def heard(self, session: int) -> float:
        """When the session's last turn came, or its hello, by the lease clock. Within a unit."""
        seat = self.seats.get(session)
        if seat is not None:
            return seat.heard
        heard = self.peers.heard(session) if self.peers is not None else None
        if heard is not None:
            return heard
        # Its hello may be in the very batch in which this is asked: a seat is taken after the commit.
        joined = self._queue.index.sessions.get(session)
        return joined.since if joined is not None else 0.0

    def named(self, session: int) -> float:
        """When one of our own workers last named all that it holds, by the lease clock."""
        seat = self.seats.get(session)
        return seat.named if seat else 0.0

    def promised(self, session: int) -> float:
        """For how many seconds one of our own workers may be silent, as far as it knows."""
        seat = self.seats.get(session)
        return seat.heartbeat_time if seat else 0.0

    def set_beat(self, heartbeat_time: float, beats: int) -> None:
        """Who is joined is told at once; for each what it has known so far counts until it has said something."""
        terms = self.terms
        if (heartbeat_time, beats) != (terms.heartbeat_time, terms.beats):
            terms.heartbeat_time, terms.beats = heartbeat_time, beats
            for seat in self.seats:
                seat.told = heartbeat_time
                seat.connection.tell("orders", Orders(beat=heartbeat_time / beats, heartbeat_time=heartbeat_time))

    def cut(self, sessions: list[int], reason: str) -> None:
        """Close the connections of these sessions: they are revoked."""
        for number in sessions:
            seat = self.seats.give_up(number)
            if seat is not None:
                seat.connection.refuse(TurnedAway(reason, NEW_BUNDLE))

    def cut_names(
        self, refused: Callable[[Name, str], str | Refused | None], connections: tuple[Connection, ...]
    ) -> None:
        """Close every open connection, bulk ones too, of whoever is refused now."""
        for connection in connections:
            if connection.peer is None or connection.closed:
                continue  # closing, perhaps for long: nothing more is said over it
            why = refused(connection.peer, connection.peer_fingerprint)
            if why:
                connection.refuse(why if isinstance(why, Refused) else TurnedAway(why, NEW_BUNDLE))

    def _send(self, session: int, orders: Orders) -> None:
        seat = self.seats.get(session)
        if seat is not None and seat.open:
            seat.connection.tell("orders", orders)
        elif seat is None and self.peers is not None:
            self.peers.send(session, orders)

    def _listens(self, session: int) -> bool:
        seat = self.seats.get(session)
        return seat is not None and seat.open and not seat.turning

    def _ended(self, session: int) -> None:
        """The session is over in the database: what the reactor knew of it goes too, unless its worker still talks."""
        seat = self.seats.get(session)
        if seat is not None and not seat.open:
            self.seats.give_up(session)

    def _follow(self, lease: Lease) -> None:
        run = self._queue.index.running.get(lease.job)
        session = self._queue.index.of_worker(run.worker) if run is not None and run.lease == lease else None
        if session is not None:
            self._queue.outbox.follow(session.number, lease)

    # --- enrolment ---

    async def _enrol(self, connection: Connection, question: Enrol) -> Enrolled:
        from cpc.wire.identity import fingerprint_of

        bundle = connection.peer
        assert bundle is not None
        fingerprint = fingerprint_of(question.request)
        name = f"{bundle.name}-{fingerprint[:8]}"

        def unit(tx: Tx) -> str:
            number = self._enrolment.admit(tx, bundle.name, connection.peer_fingerprint, fingerprint)
            return joining.enrolled(tx, name, fingerprint, number).name

        name = await self._store.write(unit)
        return self._certify(question.request, name)

    async def _look(self, connection: Connection, question: Look) -> Judged:
        bundle = connection.peer
        assert bundle is not None
        if self.looks is None:
            raise Unavailable("this server is only starting", "look again")
        return Judged(checks=await self.looks.report(bundle.name, connection.peer_fingerprint, question.report))

    def _certify(self, request: bytes, name: str) -> Enrolled:
        certificate = self._enrolment.certificate(request, name)
        return Enrolled(certificate=certificate, name=name, valid_for=self.terms.certificate_time)


class _Worker:
    """One connection of a worker: control, or bulk."""

    def __init__(self, machines: Machines, connection: Connection) -> None:
        self._machines = machines
        self._connection = connection
        self._queue = machines._queue
        self._store = machines._store
        self._seat: Seat | None = None

    def serve(self) -> None:
        connection = self._connection
        connection.serve("hello", Hello, self._hello)
        connection.serve("turn", Turn, self._turn)
        connection.serve("goodbye", Goodbye, self._goodbye)
        connection.serve("renew-certificate", Enrol, self._renew)
        machines = self._machines
        WorkerFiles(machines.files, machines._store, machines.seats, lambda: machines.far_files, connection)

    # --- control ---

    async def _hello(self, connection: Connection, hello: Hello) -> Welcome:
        hello = joining.check_hello(hello)
        queue, terms = self._queue, self._machines.terms

        def unit(tx: Tx) -> tuple[Session, tuple[Lease, ...]]:
            row = joining.worker(tx, connection.peer_fingerprint)
            seat = self._machines.seats.of_worker(row.id)
            # A session that is over keeps nobody out, even if nobody has told us that its connection is gone.
            alive = seat is not None and seat.open and seat.session in queue.index.sessions
            busy = alive and seat is not None and seat.connection is not connection
            session, drop = joining.join(queue, tx, row, hello, busy)
            queue.round(tx)
            return session, drop

        session, drop = await self._store.write(unit)
        self._sit(session, hello)
        left = (connection.peer_not_after - self._machines._clock.now()) / SECOND
        return Welcome(
            session=session.number,
            server=terms.server_id,
            release=__version__,
            incarnation=queue.incarnation,
            heartbeat_time=terms.heartbeat_time,
            beat=terms.heartbeat_time / terms.beats,
            checkpoint_interval=terms.checkpoint_interval,
            drop=drop,
            draining=session.drain or "",
            brief=True,
            certificate_valid_for=max(0.0, left),
        )

    def _sit(self, session: Session, hello: Hello) -> None:
        machines = self._machines
        self._seat = Seat(
            self._connection,
            session.number,
            session.worker,
            session.name,
            hello,
            machines._clock.now(),
            self._queue.now,
            heartbeat_time=machines.terms.heartbeat_time,
            told=machines.terms.heartbeat_time,
        )
        former = machines.seats.take(self._seat)
        if former is not None and former.connection is not self._connection:
            former.connection.close("the worker has connected again")
        self._connection.on_closed(self._closed)
        for lease in machines.tails.followed(tuple(session.leases.values())):
            self._queue.outbox.follow(session.number, lease)

    def _closed(self, _reason: str) -> None:
        seat, self._seat = self._seat, None
        if seat is None or self._machines.seats.get(seat.session) is not seat:
            return
        seat.open = False

        def unit(tx: Tx) -> None:
            session = self._queue.index.sessions.get(seat.session)
            if session is not None:
                self._queue.index.change(session, wants=False)
                self._queue.tell_rooms(tx)
            else:
                tx.after(lambda: self._machines._ended(seat.session))  # it had ended before its connection did

        self._store.write(unit).addErrback(lambda failure: failure.trap(Unavailable))

    def _mine(self) -> Seat:
        if self._seat is None:
            raise Gone("this session is over", "say hello again")
        return self._seat

    async def _turn(self, _connection: Connection, turn: Turn) -> Orders:
        seat = self._mine()
        seat.turning = True
        try:
            return await self._answer(seat, turn)
        finally:
            seat.turning = False

    async def _answer(self, seat: Seat, turn: Turn) -> Orders:
        machines, queue = self._machines, self._queue
        turn, abroad = parted(turn, seat) if machines.peers is not None else (turn, None)
        for tail in turn.tails:
            run = queue.index.running.get(tail.lease.job)
            if run is not None and run.lease == tail.lease and run.worker == seat.worker:
                machines.tails.take(tail)

        def unit(tx: Tx) -> Settlement | None:
            session = queue.index.sessions.get(seat.session)
            if session is None:
                return None
            return self._take(tx, seat, session, turn, abroad)

        if (abroad is None or not abroad.results) and self._only_renews(seat, turn, abroad):
            answer: Settlement | None = Settlement()
            self._take_abroad(seat.worker, abroad)
        else:
            answer = await self._store.write(unit)
        if answer is None:
            self._machines.seats.give_up(seat.session)
            self._seat = None
            raise Gone("this session is over", "say hello again")
        seat.heard = queue.now
        seat.wants, seat.heartbeat_time = turn.wants, seat.told
        queue.tallies.heartbeats += 1
        seat.note, seat.free = plain(turn.note, MAX_NOTE), turn.free
        for settled in answer.settled:
            machines.tails.wake(settled.lease)
        session = queue.index.sessions.get(seat.session)
        drained = session is not None and session.drain is not None and not session.leases and not session.lent
        return queue.outbox.take(seat.session, tuple(answer.settled), tuple(answer.retry), drained)

    def _take_abroad(self, worker: int, abroad: Abroad | None, over: tuple[Lease, ...] = ()) -> None:
        if abroad is not None and self._machines.peers is not None:
            self._machines.peers.take(worker, replace(abroad, over=over))

    def _only_renews(self, seat: Seat, turn: Turn, abroad: Abroad | None) -> bool:
        """A turn that brings nothing but renewals, taken; False: it is one for the writer.

        Nothing is decided by it and nothing written, so it need not wait in the writer's queue: heartbeats are answered
        while a long batch is under way, and while the database is away. The index is only looked at here; if a session or
        a lease is being ended at this moment, the turn came before that.
        """
        index, now = self._queue.index, self._queue.now
        session = index.sessions.get(seat.session)
        if session is None or session.drain is not None or turn.results or turn.checkpoints:
            return False
        if turn.wants is not seat.wants or self._over(session, turn, abroad):
            return False
        if turn.time_left is not None and (
            session.deadline is None or abs(now + turn.time_left - session.deadline) > DEADLINE_SLACK
        ):
            return False
        self._renew_leases(seat, turn)
        return True

    def _over(self, session: Session, turn: Turn, abroad: Abroad | None) -> list[Running | Lent]:
        """Whose program has ended, as the worker says, and has its room to be given away now."""
        running = self._queue.index.running
        found: list[Running | Lent] = [running[one.job] for one in turn.over if session.leases.get(one.job) == one]
        found += [session.lent[one] for one in (abroad.over if abroad else ()) if one in session.lent]
        return [run for run in found if session.lets_go(run)]

    def _renew_leases(self, seat: Seat, turn: Turn) -> None:
        running, now = self._queue.index.running, self._queue.now
        if not turn.brief:
            seat.named = now
        for lease in turn.holds:
            run = running.get(lease.job)
            if run is not None and run.lease == lease and run.worker == seat.worker:
                run.renewed = now

    def _take(self, tx: Tx, seat: Seat, session: Session, turn: Turn, abroad: Abroad | None) -> Settlement:
        """All that one turn brings, in one unit."""
        queue = self._queue
        abroad, others = self._divide(tx, session.worker, abroad)
        if abroad is not None and queue.index.returned(session, [result.lease for result in abroad.results]):
            queue.feed(session)
        over = self._over(session, turn, abroad)
        for run in over:
            queue.index.over(session, run)
            queue.feed(session)
        left = tuple(one.lease for one in over if isinstance(one, Lent) and one.over)
        tx.after(lambda: self._take_abroad(session.worker, abroad, left))
        self._renew_leases(seat, turn)
        if session.wants != turn.wants:
            queue.index.change(session, wants=turn.wants)
            queue.feed(session)
        if turn.time_left is not None:
            queue.index.change(session, deadline=queue.now + turn.time_left)
        actor = f"worker:{session.name}"
        full = self._machines._chunks.full()
        if full and turn.results:
            answer = Settlement(retry=[result.lease for result in turn.results])
            answer.retry += [checkpoint.lease for checkpoint in turn.checkpoints]
        else:
            answer = settling.settle(queue, tx, session.worker, turn.results, actor)
            answer.retry += settling.take_checkpoints(queue, tx, session.worker, turn.checkpoints)
        answer.retry += others
        queue.round(tx)
        return answer

    def _divide(self, tx: Tx, worker: int, abroad: Abroad | None) -> tuple[Abroad | None, list[Lease]]:
        """What a worker may hand in of others' jobs, and what it is to keep because another one has it, which may be dead, only
        that nobody knows it yet."""
        if abroad is None or not abroad.results:
            return abroad, []
        leases = dict.fromkeys(result.lease for result in abroad.results)
        others = [lease for lease in leases if settling.of_another(self._queue, tx, worker, lease)]
        return replace(abroad, results=tuple(one for one in abroad.results if one.lease not in others)), others

    async def _goodbye(self, connection: Connection, goodbye: Goodbye) -> None:
        seat = self._mine()

        def unit(tx: Tx) -> None:
            joining.leave(self._queue, tx, seat.session, plain(goodbye.reason, MAX_NOTE))
            self._queue.round(tx)

        await self._store.write(unit)
        self._machines.seats.give_up(seat.session)
        self._seat = None

    async def _renew(self, connection: Connection, question: Enrol) -> Enrolled:
        from cpc.wire.identity import fingerprint_of

        if fingerprint_of(question.request) != connection.peer_fingerprint:
            raise BadInput("a certificate is renewed for the same key only", "enrol a new key with a bundle")
        row = await self._store.read(lambda tx: joining.worker(tx, connection.peer_fingerprint))
        return self._machines._certify(question.request, row.name)
