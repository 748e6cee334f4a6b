"""The one writer: units of work decided in order, committed together, answered after the commit.

    reactor   write(unit) ─▶ queue ─────────────────────────────▶ effects, answers
    thread                    └▶ decide 1…n, one COMMIT (fsync) ─┘

While one batch waits for its fsync, the next one collects. If the database refuses anything, the whole batch is undone,
in the database and in memory, and its units are decided again one by one, so that only the guilty one fails. If the
connection breaks at COMMIT, nobody is answered until the sequence number in the database says whether it took place. Of units
that are decided one by one, those that are on disk already are answered, and only the others are decided again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cpc.core.clock import Clock, Timers
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.journal import Journal
from cpc.store import schema
from cpc.store.database import Connection, DatabaseAway, DatabaseBroken, DatabaseFull, StatementError
from cpc.store.statement import Statement
from cpc.store.transaction import Numbers, Tx
from cpc.store.turns import Turns

T = TypeVar("T")
Unit = Callable[[Tx], T]

log = Logger()

RETRY = 1.0

_CLAIM = Statement(
    sa.update(schema.writer)
    .where(
        schema.writer.c.one == 1,
        schema.writer.c.incarnation == sa.bindparam("life"),
        schema.writer.c.seq == sa.bindparam("old"),
        schema.writer.c.holder == sa.bindparam("me"),
    )
    .values(seq=sa.bindparam("new"))
)
_SEQ = Statement(sa.select(schema.writer.c.incarnation, schema.writer.c.seq, schema.writer.c.holder))
_TAKE = Statement(sa.update(schema.writer).where(schema.writer.c.one == 1).values(holder=sa.bindparam("me")))


class Threads(Protocol):
    """Where blocking work is done: a thread of its own, or inline in the simulation."""

    def run(self, call: Callable[[], T]) -> Deferred[T]: ...


class Superseded(Exception):
    """Another server has taken over this database."""


@dataclass(slots=True)
class _Waiting:
    unit: Unit[Any]
    answer: Deferred[Any]


@dataclass(slots=True)
class _Batch:
    """What a batch came to: per unit a value or an error; effects and the last event number once it is on disk."""

    outcomes: list[Any] = field(default_factory=list)
    effects: list[Callable[[], Any]] = field(default_factory=list)
    event: int = 0
    kinds: tuple[str, ...] = ()  # of the ids that it took
    seconds: list[float] = field(default_factory=list)  # of each transaction that was committed

    def add(self, other: _Batch) -> None:
        """These units came after it."""
        self.outcomes += other.outcomes
        self.effects += other.effects
        self.seconds += other.seconds
        self.event = max(self.event, other.event)


class Writer:
    """Runs units against one database connection. `fatal` is called when the process must stop and recover."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        threads: Threads,
        clock: Clock,
        reactor: Timers,
        fatal: Callable[[str], None],
        holder: str,
    ) -> None:
        self.journal = Journal()
        self._connect = connect
        self._threads = threads
        self._clock = clock
        self._reactor = reactor
        self._fatal = fatal
        self._holder = holder
        self._waiting: Turns[_Waiting] = Turns()
        self._busy = False
        self._stopped = ""
        self._idle: list[Deferred[None]] = []
        self.away = ""
        # Told on the reactor, after each commit that wrote events, the number of the newest one.
        self.on_events: list[Callable[[int], None]] = []
        # Called on the reactor when the effects of a commit have taken place, before its answers are given.
        self.effected: Callable[[], object] = lambda: None
        # Told on the reactor how long each transaction took that was committed, in seconds.
        self.took: Callable[[float], object] = lambda seconds: None
        self._told = 0
        self._database = connect()
        self._seq, self.numbers = self._take_over()

    def _take_over(self) -> tuple[int, Numbers]:
        """Write our name into the database: whoever wrote there before is refused from now on."""
        tx = Tx(self._database, self._clock.now())
        tx.run(_TAKE, {"me": self._holder})
        life, seq, _ = cast(tuple[int, int, str], tx.one(_SEQ))
        self._database.commit()
        numbers = Numbers(life, self.journal)
        numbers.load(self._database)
        return seq, numbers

    @property
    def incarnation(self) -> int:
        """This server's life number."""
        return self.numbers.incarnation

    @property
    def last_event(self) -> int:
        """The number of the newest event."""
        return self.numbers.event

    # --- on the reactor ---

    def write(self, unit: Unit[T], guest: str = "", weight: int = 1) -> Deferred[T]:
        """Decide and commit `unit`; fires with its value after the commit, or fails with the refusal it raised.

        `guest`: the peer that causes it; `weight`: about how many results of jobs it is as much work as. See `turns`.
        """
        answer: Deferred[T] = Deferred()
        if self._stopped:
            answer.errback(Unavailable(self._stopped))
            return answer
        self._waiting.add(_Waiting(unit, answer), guest, weight)
        self._start()
        return answer

    async def close(self) -> None:
        """Finish what was accepted, then close the database."""
        while (self._busy or self._waiting) and not self.away:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        self._stop("the server is stopping")
        await self._threads.run(self._database.close)

    def _start(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        self._send(self._waiting.take(), None)

    def _send(self, batch: list[_Waiting], doubtful: _Batch | None) -> None:
        done = self._threads.run(lambda: self._batch([waiting.unit for waiting in batch], doubtful))
        done.addCallbacks(self._committed, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))

    def _committed(self, result: _Batch, batch: list[_Waiting]) -> None:
        self._busy = False
        self.away = ""
        self._answer(result, batch)
        self._start()
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def _answer(self, result: _Batch, batch: list[_Waiting]) -> None:
        """What is on disk takes effect; the units that it came from are told."""
        for effect in result.effects:
            try:
                effect()
            except Exception:
                log.failure("an effect after a commit failed")
        self.effected()
        for seconds in result.seconds:
            self.took(seconds)
        self._tell(result.event)
        for waiting, outcome in zip(batch, result.outcomes, strict=True):
            if isinstance(outcome, Failure):
                waiting.answer.errback(outcome)
            else:
                waiting.answer.callback(outcome)

    def _tell(self, event: int) -> None:
        if event <= self._told:
            return
        self._told = event
        for told in self.on_events:
            try:
                told(event)
            except Exception:
                log.failure("a watcher of the events failed")

    def _failed(self, failure: Failure, batch: list[_Waiting]) -> None:
        error = failure.value
        if isinstance(error, _InDoubt):
            if not self.away:
                log.warn("the database is away: {error}; trying again each second", error=error)
            self.away = str(error)
            decided, left = batch[: len(error.before.outcomes)], batch[len(error.before.outcomes) :]
            self._reactor.callLater(RETRY, self._send, left, error.result)
            if decided:
                self._answer(error.before, decided)
            return
        self._busy = False
        reason = str(error) or type(error).__name__
        if not isinstance(error, DatabaseBroken | Superseded):
            log.failure("the writer failed", failure)
        self._stop(f"the database cannot be used: {reason}")
        for waiting in batch:
            waiting.answer.errback(Unavailable(f"the database cannot be used: {reason}"))
        self._fatal(reason)

    def _stop(self, reason: str) -> None:
        self._stopped = reason
        for waiting in self._waiting.clear():
            waiting.answer.errback(Unavailable(reason))

    # --- on the writer's thread ---

    def _batch(self, units: list[Unit[Any]], doubtful: _Batch | None) -> _Batch:
        result = self._reconnect(doubtful) if self.away or doubtful is not None else _Batch()
        left = units[len(result.outcomes) :]
        if left:
            try:
                result.add(self._decided(left))
            except _InDoubt as error:
                result.add(error.before)
                raise _InDoubt(str(error), error.result, result) from error
        # What the batch came to is decided; if tidying fails, the next commit will say why.
        with contextlib.suppress(DatabaseAway, DatabaseFull, StatementError):
            self._database.tidy()
        return result

    def _decided(self, units: list[Unit[Any]]) -> _Batch:
        try:
            return self._together(units)
        except (StatementError, DatabaseFull, _Refused) as error:
            return self._one_by_one(units, error)

    def _reconnect(self, doubtful: _Batch | None) -> _Batch:
        """Connect again and learn whether what is in doubt was committed; if it was not, it came to nothing."""
        self._database.close()
        try:
            self._database = self._connect()
            life, seq, holder = self._database.fetch(_SEQ.on(self._database.dialect)[0])[0]
        except (DatabaseAway, DatabaseFull, Unavailable, StatementError) as error:
            raise _InDoubt(str(error), doubtful) from error
        if (life, holder) != (self.incarnation, self._holder):
            raise Superseded("another server has taken over this database")
        if doubtful is not None and seq == self._seq + 1:
            self._seq = seq
            self.numbers.stored(doubtful.kinds)
            self.journal.forget()
            return doubtful
        self.journal.undo()
        return _Batch()

    def _one_by_one(self, units: list[Unit[Any]], error: Exception) -> _Batch:
        if len(units) == 1:
            return _Batch([Failure(_for_people(error))])
        result = _Batch()
        for unit in units:
            try:
                single = self._together([unit])
            except (StatementError, DatabaseFull, _Refused) as own:
                single = _Batch([Failure(_for_people(own))])
            except _InDoubt as doubt:
                raise _InDoubt(str(doubt), doubt.result, result) from doubt
            result.add(single)
        return result

    def _together(self, units: list[Unit[Any]]) -> _Batch:
        tx = Tx(self._database, self._clock.now(), self.numbers)
        result = _Batch()
        began = self._clock.monotonic()
        sent = False
        try:
            for unit in units:
                result.outcomes.append(self._decide(unit, tx))
            result.effects = tx.effects
            if tx.writes:
                tx.flush()
                result.event = self.numbers.event
                result.kinds = tuple(tx.kinds)
                self._claim(tx)
                sent = True
                self._database.commit()
                self._seq += 1
                self.numbers.stored(result.kinds)
                result.seconds.append(self._clock.monotonic() - began)
            elif tx.open:
                self._database.rollback()
        except DatabaseAway as error:
            # Memory stays as it is until we know whether the database has it too.
            if not sent:
                self.journal.undo()
            raise _InDoubt(str(error), result if sent else None) from error
        except (StatementError, DatabaseFull, _Refused):
            self.journal.undo()
            self._roll_back()
            raise
        self.journal.forget()
        return result

    def _decide(self, unit: Unit[Any], tx: Tx) -> Any:
        before = (tx.writes, len(self.journal), len(tx.effects))
        try:
            return unit(tx)
        except CopernicusError as refusal:
            if (tx.writes, len(self.journal), len(tx.effects)) == before:
                return Failure(refusal)
            raise _Refused(refusal) from refusal
        except (StatementError, DatabaseFull, DatabaseAway, DatabaseBroken):
            raise
        except Exception as defect:
            raise _Refused(defect) from defect

    def _claim(self, tx: Tx) -> None:
        row = {"life": self.incarnation, "old": self._seq, "new": self._seq + 1, "me": self._holder}
        if tx.run(_CLAIM, row) != 1:
            self._roll_back()
            raise Superseded("another server has taken over this database")

    def _roll_back(self) -> None:
        try:
            self._database.rollback()
        except (DatabaseAway, StatementError) as error:
            raise _InDoubt(str(error), None) from error


class _InDoubt(Exception):
    """The connection broke. `result`: what the units came to whose COMMIT had been sent; `before`: what those before them did,
    which are on disk."""

    def __init__(self, message: str, result: _Batch | None, before: _Batch | None = None) -> None:
        super().__init__(message)
        self.result = result
        self.before = before or _Batch()


class _Refused(Exception):
    """A unit raised after it had written something: the batch must be undone."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _for_people(error: Exception) -> Exception:
    if isinstance(error, _Refused):
        return error.cause
    if isinstance(error, DatabaseFull):
        return Unavailable(str(error), "free some space; nothing was changed")
    return error
