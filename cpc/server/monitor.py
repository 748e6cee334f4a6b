"""The lease monitor: expires what was not renewed, forgives what was this server's own silence, and keeps house."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import Unavailable
from cpc.queue.leaseclock import PACE
from cpc.queue.session import Running, Session
from cpc.server import joining, settling
from cpc.server.queue import Queue
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

#: Ticks between reservations, and between writing down what projects have used.
RESERVE_EVERY = 5
SHARES_EVERY = 60


class Borrowers(Protocol):
    """The part of the federation that answers for workers of other servers. In units."""

    peer_grace: float

    def home_of(self, worker: int) -> str:
        """The home of a borrowed worker; empty for one of ours."""
        ...

    def suspended(self, worker: int) -> bool:
        """Whether its home is silent, so that nobody knows of the worker."""
        ...

    def promised(self, worker: int) -> float:
        """For how many seconds its home may be silent, as far as that knows; 0.0: it is one of ours, or has said nothing yet."""
        ...

    def tidy(self, tx: Tx) -> None:
        """Once a second."""
        ...


class Sessions(Protocol):
    """What is known of joined workers, by their sessions. Times by the lease clock."""

    def heard(self, session: int) -> float:
        """When its last turn came."""
        ...

    def named(self, session: int) -> float:
        """When its worker last said all that it holds."""
        ...

    def promised(self, session: int) -> float:
        """For how many seconds its worker may be silent, as far as it knows; 0.0: nothing is known of that."""
        ...


class Monitor:
    """Ticks once a second from the moment that connections are accepted.

    `crowded`: whether machines had to wait at the door since it was asked last. Their heartbeats could not be received, so
    that time is an outage of this server: after a restart all its workers come back at once.
    """

    def __init__(
        self, queue: Queue, store: Store, timers: Timers, clock: Clock, sessions: Sessions, crowded: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._queue = queue
        self._store = store
        self._timers = timers
        self._clock = clock
        self._sessions = sessions
        self._crowded = crowded
        self.borrowers: Borrowers | None = None
        self._timer: Timer | None = None
        self._ticks = 0
        self._busy = False
        self._trouble = ""

    def start(self) -> None:
        """Begin: every lease has a full period from now on."""
        self._queue.lease_clock.tick(self._clock.monotonic(), away=True)
        self._timer = self._timers.callLater(PACE, self._tick)

    def stop(self) -> None:
        """No more ticks."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tick(self) -> None:
        self._timer = self._timers.callLater(PACE, self._tick)
        away = self._crowded() or bool(self._store.writer.away)
        self._queue.lease_clock.tick(self._clock.monotonic(), away)
        if not self._busy:
            self._busy = True
            ensureDeferred(self._work()).addErrback(lambda failure: log.failure("the lease monitor failed", failure))

    async def _work(self) -> None:
        self._ticks += 1
        try:
            index = self._queue.index
            anybody = bool(index.sessions or index.running)  # without, there is nothing that could expire
            if anybody:
                await self._store.write(self.expire)
            if self._ticks % RESERVE_EVERY == 0 and (anybody or index.windows or index.requirements):
                await self._store.write(self._reserve)
            if self._ticks % SHARES_EVERY == 0:
                await self._store.write(self._queue.save_shares)
            if self._queue.more:
                await self._store.write(self._queue.round)
            self._trouble = ""
        except Unavailable as error:
            # The database is full or away: said once, not each second.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warn("leases are looked at again when the database takes writes: {error}", error=error)
        finally:
            self._busy = False

    def expire(self, tx: Tx) -> int:
        """End every lease that was not renewed for a heartbeat time; how many."""
        queue = self._queue
        limit = queue.lease_clock.reading - queue.limits.heartbeat_time
        late = [run for run in queue.index.running.values() if run.renewed < limit and not self._waits(run)]
        silent = [session for session in queue.index.sessions.values() if self._is_silent(session, limit)]
        if self.borrowers is not None:
            self.borrowers.tidy(tx)
        if not late and not silent:
            return 0
        borrowed = [run for run in late if self._home(run)]
        late = [run for run in late if not self._home(run)]
        gone = {session.worker for session in silent}
        dead = [run for run in late if run.worker in gone or queue.index.of_worker(run.worker) is None]
        lost = {run.lease.job for run in dead}
        undelivered = [run for run in late if run.lease.job not in lost and self._missed(run)]
        span = f"{queue.limits.heartbeat_time:g} s"
        expired = settling.lost(queue, tx, dead, f"its worker was silent for {span}")
        expired += settling.lost(queue, tx, undelivered, "its worker does not have it", counts=False)
        for run in borrowed:
            expired += settling.lost(queue, tx, [run], self._why_borrowed(run), counts=False)
        queue.tallies.silent(tx, len(silent), expired)
        for session in silent:
            joining.silent(queue, tx, session)
        queue.round(tx)
        return expired

    def _is_silent(self, session: Session, limit: float) -> bool:
        """By the heartbeat time that counts, and, if that has been made shorter, by the one that its worker goes by."""
        heard = self._sessions.heard(session.number)
        return heard < limit and heard < self._queue.lease_clock.reading - self._sessions.promised(session.number)

    def _waits(self, run: Running) -> bool:
        """Whether there is a reason to wait for longer than a heartbeat time: the worker's home goes by a longer one, or is
        silent."""
        promised = self.borrowers.promised(run.worker) if self.borrowers is not None else 0.0
        return run.renewed >= self._queue.lease_clock.reading - promised or self._suspended(run)

    def _missed(self, run: Running) -> bool:
        """Whether its worker has named what it holds since, and not this. Until then it is not known whether the worker is
        silent or does not have it, and only the first counts against the job."""
        session = self._queue.index.of_worker(run.worker)
        return session is not None and self._sessions.named(session.number) > run.renewed

    def _home(self, run: Running) -> str:
        return self.borrowers.home_of(run.worker) if self.borrowers is not None else ""

    def _suspended(self, run: Running) -> bool:
        """A lease whose worker's own server is silent waits for that server, but not for ever."""
        borrowers = self.borrowers
        if borrowers is None or not borrowers.suspended(run.worker):
            return False
        return run.renewed >= self._queue.lease_clock.reading - max(
            borrowers.peer_grace, self._queue.limits.heartbeat_time
        )  # fmt: skip

    def _why_borrowed(self, run: Running) -> str:
        """A living home answers for its workers: what it does not name, they do not have."""
        if self.borrowers is not None and self.borrowers.suspended(run.worker):
            return f"its worker's server was silent for {self.borrowers.peer_grace:g} s"
        return "its worker does not have it"

    def _reserve(self, tx: Tx) -> None:
        self._queue.reserve(tx)
        self._queue.round(tx)
        self._prune(tx)

    def _prune(self, tx: Tx) -> None:
        if not tx.writes and not len(self._queue.journal):
            self._queue.index.prune()
