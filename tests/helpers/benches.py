"""A queue on a real database without a network: units of the writer, driven by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock as FakeReactor

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.queue.job import State
from cpc.queue.session import Session
from cpc.server import joining, settling, submission
from cpc.server.outbox import Outbox
from cpc.server.queue import Limits, Queue
from cpc.store import attempts, jobs, projects, schema
from cpc.store.statement import Statement
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Hello, Orders, Program, Result, Settled, Task, Turn
from tests.helpers.stores import ManualClock, open_store, result, sqlite_url

T = TypeVar("T")


class Bench:
    """A server's queue. Methods are what workers and people do; each is one committed unit."""

    def __init__(self, directory: Path | None = None, *, url: str = "") -> None:
        self.clock = ManualClock()
        self.url = url or sqlite_url(directory)  # type: ignore[arg-type]
        self.orders: dict[int, list[Orders]] = {}
        self._open()
        self.project = self.do(lambda tx: projects.add(tx, "p", 1, 0, 1.0)).id

    def _open(self) -> None:
        self.store: Store = open_store(self.url, self.clock)
        self.reactor = FakeReactor()
        outbox = Outbox(self.reactor)
        outbox.send = lambda session, orders: self.orders.setdefault(session, []).append(orders)
        self.queue = Queue(self.store.journal, self.clock, self.store.incarnation, outbox, Limits())
        self.do(self.queue.load)

    def restart(self) -> None:
        """kill -9 and start again: memory is gone, the database stays."""
        self.close()
        self._open()

    def close(self) -> None:
        """Let go of the database."""
        result(ensureDeferred(self.store.close()))

    def do(self, unit: Callable[[Tx], T]) -> T:
        """One unit, committed; what workers are told is delivered."""
        value = result(self.store.write(unit))
        self.reactor.advance(0)
        return value

    def submit(self, *argv: str, project: int = 0, **fields: Any) -> int:
        """Submit; the array's id."""
        spec = JobSpec(argv=argv or ("true",), **fields)

        def unit(tx: Tx) -> int:
            row = submission.submit(self.queue, tx, project or self.project, 1, "user:test", spec)
            self.queue.round(tx)
            return row.id

        return self.do(unit)

    def worker(self, name: str = "w", boot: str = "b", wants: bool = True, bundle: int = 1, **fields: Any) -> Session:
        """A worker joins and takes a first turn."""
        programs = tuple(Program(name=one, version=version) for one, version in fields.pop("programs", ()))
        total = fields.pop("total", Amounts(cores=fields.pop("cores", 4)))
        hello = Hello(boot=boot, host="h", release="t", platform="smp", total=total, programs=programs, **fields)

        def unit(tx: Tx) -> tuple[Session, tuple[Lease, ...]]:
            row = joining.enrolled(tx, name, name, bundle)
            return joining.join(self.queue, tx, joining.worker(tx, row.fingerprint), hello, False)

        session, self.dropped = self.do(unit)
        if wants:
            self.turn(session)
        return session

    def turn(self, session: Session, *results: Result, wants: bool = True) -> list[Settled]:
        """A worker's turn, holding all that the server thinks it has."""

        def unit(tx: Tx) -> list[Settled]:
            here = self.queue.index.sessions[session.number]
            for run in self.queue.each_running():
                if run.worker == here.worker:
                    run.renewed = self.queue.now
            self.queue.index.change(here, wants=wants)
            self.queue.feed(here)
            answer = settling.settle(self.queue, tx, here.worker, results, f"worker:{here.name}")
            assert not answer.retry
            self.queue.round(tx)
            return answer.settled

        return self.do(unit)

    def tasks(self, session: Session) -> list[Task]:
        """The tasks that the worker was sent since the last look."""
        return [task for orders in self.orders.pop(session.number, []) for task in orders.tasks]

    def report(self, session: Session, lease: Lease, outcome: Outcome = Outcome.OK, **fields: Any) -> str:
        """The worker reports one attempt; the verdict."""
        files = fields.pop("files", Manifest())
        code = fields.pop("exit_code", 0 if outcome is Outcome.OK else 1)
        said = self.turn(session, Result(lease=lease, outcome=outcome, exit_code=code, files=files, **fields))
        return said[0].verdict

    def state(self, job: int) -> State:
        """Where a job stands, by the database."""

        def unit(tx: Tx) -> State:
            row = jobs.get(tx, job) or jobs.done(tx, job)
            assert row is not None, f"job {ids.show(job, True)} is not there"
            return row.state

        return self.do(unit)

    def states(self, array: int, size: int) -> list[str]:
        """The states of an array's jobs."""
        return [self.state(array + index).label for index in range(size)]

    def count(self, table: sa.Table, **where: Any) -> int:
        """Rows of a table."""
        query = sa.select(sa.func.count()).select_from(table)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        return self.do(lambda tx: int(tx.scalar(Statement(query))))

    def check(self) -> None:
        """What must hold after every unit: memory agrees with the database, counts agree with rows."""
        index = self.queue.index

        def unit(tx: Tx) -> None:
            running = {row.attempt.job: row.attempt.number for row in attempts.running(tx)}
            assert running == {job: run.lease.attempt for job, run in index.running.items()}
            waiting = {(project, need): count for project, need, count in jobs.waiting(tx)}
            assert waiting == {place: window.total for place, window in index.windows.items() if window.total}
            for (project, need), window in index.windows.items():
                rows = jobs.eligible(tx, project, need, (-99, 0), 1 << 30)
                keys = [(row[0], row[1]) for row in rows]
                held = keys if window.watermark is None else [key for key in keys if key <= window.watermark]
                assert window.entries == held, f"window {project} {need}"
            for session in index.sessions.values():
                runs = {job: run for job, run in index.running.items() if run.worker == session.worker}
                used = sum(run.granted.cores for run in runs.values() if not run.ahead and not run.over)
                assert session.free.cores == session.total.cores - used >= 0
                assert set(session.leases) == set(runs)
                assert set(session.ahead) == {job for job, run in runs.items() if run.ahead}

        self.do(unit)


__all__ = ["Bench", "Turn", "dataclasses", "schema"]
