"""What must hold between any two events: rows against rows, memory against rows, files against the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.core import ids
from cpc.store.chunks import SMALL, path
from tests.simulation import books
from tests.simulation.programs import FULL

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.server import Server


class Invariants:
    """`check` after every commit; `glance` after every event."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.rows = oracle.rows
        self.wrong = oracle.wrong
        self.checks = 0
        self._finished: dict[int, tuple[int, int]] = {}
        self._put_out: dict[int, frozenset[tuple[int, int]]] = {}  # revoked workers: their successes then
        self._lost: set[tuple[int, int]] = set()
        self._at = 0
        self._seen: tuple[object, ...] = ()

    def check(self, server: Server | None) -> None:
        """Everything that must hold between any two events. Of what has not changed, only the disk is looked at again."""
        self._check_disk()
        seen = (self._oracle.version, server, server is not None and server.ready)
        if seen == self._seen:
            return
        self._seen = seen
        self.checks += 1
        self._check_rows()
        self._check_lives()
        self._check_files()
        for words in books.often(self.rows):
            self.wrong(words)
        if server is not None and server.ready and not server.ended and not server.store.writer.away:
            self._check_memory(server)

    def glance(self, server: Server) -> None:
        """Cheap enough for every event: one session after the other, what it gives is what it has."""
        index = server.queue.index
        if not 0 < len(index.sessions) < 16 or len(server.store.journal):
            return
        self._at += 1
        sessions = list(index.sessions.values())
        session = sessions[self._at % len(sessions)]
        if session.free.cores < 0 or session.free.memory < 0:
            self.wrong(f"{session.name} gives more than it has: {session.free} is left of {session.total}")
        for lease in session.leases.values():
            run = index.running.get(lease.job)
            if run is None or run.lease != lease or run.worker != session.worker:
                self.wrong(f"{session.name} has {lease} in its session, and the index has {run}")

    def forget(self) -> None:
        """The server has been restored."""
        self._finished.clear()
        self._lost.clear()
        self._put_out.clear()

    def _check_lives(self) -> None:
        """Numbers of a lost life are never used again, and what is revoked is out."""
        self._none(
            "SELECT j.id, j.attempts FROM jobs j WHERE j.state = 2 AND NOT EXISTS (SELECT 1 FROM attempts a, writer w WHERE "
            "a.job = j.id AND a.number = j.attempts AND a.incarnation <= w.incarnation)",
            "a job runs in a life that has not begun",
        )
        self._none(
            "SELECT a.job, a.number, w.name FROM attempts a JOIN workers w ON w.id = a.worker "
            "WHERE a.ended IS NULL AND w.revoked IS NOT NULL",
            "a revoked worker runs a job",
        )
        for (worker,) in self.rows("SELECT id FROM workers WHERE revoked IS NOT NULL"):
            good = frozenset(self.rows("SELECT job, number FROM attempts WHERE worker = ? AND outcome = 'ok'", worker))
            if good - self._put_out.setdefault(worker, good):  # type: ignore[operator]
                self.wrong(f"worker {ids.show(worker)} is revoked, and has brought a result since")

    def _none(self, query: str, what: str) -> None:
        for row in self.rows(query):
            self.wrong(f"{what}: {row}")

    def _check_rows(self) -> None:
        self._none("SELECT id FROM jobs WHERE id IN (SELECT id FROM finished)", "a job is live and finished")
        self._none(
            "SELECT j.id, j.attempts, count(a.number), max(a.number) FROM (SELECT id, attempts FROM jobs UNION ALL "
            "SELECT id, attempts FROM finished) j LEFT JOIN attempts a ON a.job = j.id GROUP BY j.id, j.attempts "
            "HAVING count(a.number) != j.attempts OR coalesce(max(a.number), 0) != j.attempts",
            "attempts are not numbered 1, 2, …",
        )
        self._none(
            "SELECT j.id, j.attempts FROM jobs j WHERE j.state = 2 AND NOT EXISTS (SELECT 1 FROM attempts a WHERE "
            "a.job = j.id AND a.number = j.attempts AND a.ended IS NULL)",
            "a running job has no attempt",
        )
        self._none(
            "SELECT a.job, a.number FROM attempts a WHERE a.ended IS NULL AND NOT EXISTS (SELECT 1 FROM jobs j WHERE "
            "j.id = a.job AND j.attempts = a.number AND j.state = 2)",
            "an attempt that is not the job's current one runs",
        )
        self._none(
            "SELECT f.id, f.accepted FROM finished f WHERE f.state = 3 AND NOT EXISTS (SELECT 1 FROM attempts a JOIN "
            "results r ON r.job = a.job AND r.number = a.number WHERE a.job = f.id AND a.number = f.accepted "
            "AND a.outcome = 'ok' AND r.used)",
            "a job has succeeded without a result",
        )
        for array, *counts in self.rows(
            "SELECT a.id, a.open, (SELECT count(*) FROM jobs j WHERE j.id >= a.id AND j.id < a.id + 1048576), a.succeeded, "
            "(SELECT count(*) FROM finished f WHERE f.id >= a.id AND f.id < a.id + 1048576 AND f.state = 3) FROM arrays a"
        ):
            if counts[0] != counts[1] or (counts[2] != counts[3] and not self._oracle.going(array)):
                self.wrong(f"the counts of submission {ids.show(array)} are not those of its jobs: {counts}")
        self._check_blocked()
        self._check_lost()
        self._check_ends()
        self._check_blame()

    def _check_blocked(self) -> None:
        """A job is blocked by exactly those of its dependencies that are open and the instance that is held, else it runs."""
        open_edges = (
            "(SELECT count(*) FROM dependencies d WHERE d.after = (j.id / 1048576) * 1048576 AND (d.kind != 2 OR "
            "EXISTS (SELECT 1 FROM jobs b WHERE b.id = d.before + j.id % 1048576)))"
        )
        held = "(SELECT count(*) FROM step_jobs s WHERE s.array = j.id AND s.state = 3)"
        self._none(
            f"SELECT j.id, j.blockers, {open_edges}, {held} FROM jobs j WHERE j.state = 0 AND (j.blockers = 0 OR "
            f"j.blockers != {open_edges} + {held})",
            "a job is not blocked by what it waits for",
        )
        for job, edges in self.rows(f"SELECT j.id, {open_edges} FROM jobs j WHERE j.state != 0"):
            if edges and not self._oracle.forgiven(job):
                self.wrong(f"job {ids.show(job, True)} does not wait for {edges} dependencies that are open")

    def _check_lost(self) -> None:
        """Only what happens to a worker, or on the way to it, loses a job; never what happens to the server."""
        world = self._oracle.world
        for job, number, host, message in self.rows(
            "SELECT a.job, a.number, w.host, a.message FROM attempts a JOIN workers w ON w.id = a.worker "
            "WHERE a.outcome = 'lost' AND a.message LIKE '%silent%' AND NOT EXISTS (SELECT 1 FROM workers other "
            "WHERE other.host = w.host AND other.id != w.id)"
        ):
            if (job, number) in self._lost:
                continue
            self._lost.add((job, number))
            if world.calm(host, 2 * world.plan.heartbeat_time):
                self.wrong(
                    f"attempt {number} of {ids.show(job, True)} was lost: {message}; nothing has happened to {host}"
                )

    def _check_ends(self) -> None:
        """Terminal is final; a result is accepted once."""
        for job, state, accepted in self.rows("SELECT id, state, accepted FROM finished"):
            before = self._finished.setdefault(job, (state, accepted))
            if before != (state, accepted):
                if not self._oracle.forgiven(job):
                    self.wrong(f"job {ids.show(job, True)} had ended as {before} and now as {(state, accepted)}")
                self._finished[job] = (state, accepted)

    def _check_blame(self) -> None:
        for job, number, life in self.rows(
            "SELECT job, number, incarnation FROM attempts WHERE outcome IN ('failed', 'exceeded')"
        ):
            if self._oracle.exits.get(f"{job}.{number}.{life}", 0) in (0, FULL):
                self.wrong(f"job {ids.show(job, True)} is blamed for attempt {number}, which did not fail by itself")
        for job, failures, count in self.rows(
            "SELECT j.id, j.failures, count(a.number) FROM (SELECT id, failures FROM jobs UNION ALL SELECT id, failures "
            "FROM finished) j LEFT JOIN attempts a ON a.job = j.id AND a.outcome IN ('failed', 'exceeded') "
            "GROUP BY j.id, j.failures HAVING j.failures != count(a.number)"
        ):
            if not self._oracle.forgiven(job):
                self.wrong(f"job {ids.show(job, True)} counts {failures} failures and had {count}")

    def _check_files(self) -> None:
        self._none(
            'SELECT hex(r.digest), r.kind, r.owner FROM "references" r LEFT JOIN chunks c ON c.digest = r.digest '
            "WHERE c.digest IS NULL",
            "a file is referred to and not on record",
        )
        self._none(
            'SELECT r.kind, r.owner, r.number FROM "references" r WHERE '
            "(r.kind = 1 AND NOT EXISTS (SELECT 1 FROM arrays a WHERE a.id = r.owner)) OR "
            "(r.kind = 2 AND NOT EXISTS (SELECT 1 FROM results s WHERE s.job = r.owner AND s.number = r.number)) OR "
            "(r.kind = 3 AND NOT EXISTS (SELECT 1 FROM checkpoints c WHERE c.job = r.owner AND c.number = r.number))",
            "files are kept for nothing",
        )

    def _check_disk(self) -> None:
        disk = self._oracle.world.server_disk
        for digest, size, length in self.rows("SELECT digest, size, length(data) FROM chunks"):
            if size <= SMALL:
                good = length == size
            else:
                file = disk.durable.get(path(digest))
                good = file is not None and len(file.flushed) == size
            if not good:
                self.wrong(f"chunk {digest.hex()[:12]} of {size} bytes is on record and not on disk")

    def _check_memory(self, server: Server) -> None:
        """The index is what the database says."""
        index = server.queue.index
        running = dict(self.rows("SELECT job, number FROM attempts WHERE ended IS NULL"))
        held = {job: run.lease.attempt for job, run in index.running.items()}
        if running != held:
            self.wrong(f"running in the database {running}, in memory {held}")
        waiting: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for project, need, rank, job in self.rows(
            'SELECT project, "class", rank, id FROM jobs WHERE state = 1 ORDER BY rank, id'
        ):
            waiting.setdefault((project, need), []).append((rank, job))
        totals = {place: window.total for place, window in index.windows.items() if window.total}
        if totals != {place: len(keys) for place, keys in waiting.items()}:
            self.wrong(f"waiting in the database {waiting}, in memory {totals}")
        for place, window in index.windows.items():
            keys = waiting.get(place, [])
            mark = window.watermark
            if window.entries != (keys if mark is None else [key for key in keys if key <= mark]):
                self.wrong(f"window {place} holds {window.entries} of {keys}")
        for run in index.running.values():
            found = self.rows("SELECT rank, failures, losses FROM jobs WHERE id = ?", run.lease.job)
            if found != [(run.rank, run.failures, run.losses)]:
                self.wrong(f"{run.lease} is {found} in the database, {(run.rank, run.failures, run.losses)} in memory")
        for session in index.sessions.values():
            runs = [run for run in index.running.values() if run.worker == session.worker]
            used = sum(run.granted.cores for run in (*runs, *session.lent.values()) if not run.ahead and not run.over)
            # What is free of a worker of another server, only that one knows.
            if not session.home and (session.free.cores != session.total.cores - used or session.free.cores < 0):
                self.wrong(f"{session.name} has {session.free.cores} free of {session.total.cores}, and {used} in use")
            over = [run for run in (*runs, *session.lent.values()) if run.over]
            if {str(one.lease) for one in over} != {str(one.lease) for one in session.over.values()}:
                self.wrong(f"programs of {over} have ended at {session.name}, and it is said of {list(session.over)}")
            if sum(run.granted.cores for run in over) > session.total.cores:
                self.wrong(f"{session.name} has results of more than {session.total.cores} cores on their way: {over}")
            ahead = [run.lease for run in (*runs, *session.lent.values()) if run.ahead]
            if {str(one) for one in ahead} != {str(one.lease) for one in session.ahead.values()}:
                self.wrong(f"{session.name} was given {ahead} ahead, and is said to have {list(session.ahead)}")
            if not session.home and len(ahead) > session.most_ahead:
                self.wrong(f"{session.name} was given {len(ahead)} ahead, and takes {session.most_ahead}")
        edges = self.rows("SELECT count(*) FROM dependencies")[0][0]
        if server.queue.edges != edges:
            self.wrong(f"{edges} dependencies in the database, {server.queue.edges} in memory")
