"""What must be true, checked against the database, the disk and what was seen at the workers: not against the server's word."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec
from cpc.queue.job import State
from cpc.store.chunks import SMALL, path
from cpc.wire.messages import Result, Settled
from cpc.worker.placing import key_of
from cpc.worker.processes import Launch
from tests.simulation.programs import FULL, STEP, output

if TYPE_CHECKING:
    from tests.simulation.server import Server
    from tests.simulation.workers import Worker
    from tests.simulation.world import World


@dataclass
class Known:
    """A submission that the server has acknowledged, and what its client has asked for since."""

    array: int
    spec: JobSpec
    cancelled: set[int] = field(default_factory=set)  # elements that somebody asked to cancel
    retried: set[int] = field(default_factory=set)

    @property
    def kind(self) -> str:
        return self.spec.argv[1]

    @property
    def jobs(self) -> range:
        return range(self.array, self.array + self.spec.size)


class Oracle:
    """Remembers what happened outside the server, and compares. `broken` is what was found, in words."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broken: list[str] = []
        self.known: dict[int, Known] = {}
        self.checks = 0
        self._database = sqlite3.connect(world.path, isolation_level=None)
        self._launched: dict[str, str] = {}
        self._exits: dict[str, int] = {}
        self._finished: dict[int, tuple[int, int]] = {}
        self._science: dict[int, str] = {}  # jobs with a success in a spool
        self._good: set[Lease] = set()  # its leases
        self._kept: dict[Lease, str] = {}  # in a spool, and not settled
        self._soon: dict[int, float] = {}
        self.verdicts: Counter[str] = Counter()

    def close(self) -> None:
        self._database.close()

    def wrong(self, what: str) -> None:
        """An invariant does not hold."""
        self.world.story.tell("!!!", what)
        self.broken.append(what)

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(query, arguments).fetchall()

    # --- what is heard --------------------------------------------------------------------------------------------------

    def acknowledged(self, array: int, spec: JobSpec) -> None:
        """A client has been told that this is on record."""
        self.known[array] = Known(array, spec)
        found = self.rows("SELECT size, open + succeeded + failed + cancelled FROM arrays WHERE id = ?", array)
        if found != [(spec.size, spec.size)]:
            self.wrong(f"{ids.show(array)} was acknowledged, and is not on record: {found}")

    def started(self, worker: Worker, launch: Launch) -> None:
        """A program begins."""
        self.world.story.tell(worker.name, f"runs {launch.key}: {' '.join(launch.argv[1:])}")
        if launch.key in self._launched:
            self.wrong(f"attempt {launch.key} began twice: at {self._launched[launch.key]} and {worker.name}")
        self._launched[launch.key] = worker.name
        self._fits(worker, launch)
        if launch.argv[1] == "steps":
            self._goes_on(worker, launch)

    def _fits(self, worker: Worker, launch: Launch) -> None:
        """The programs of a worker, with this one, need no more than it has."""
        assert worker.agent is not None
        running = set(worker.processes.running()) | {launch.key}
        granted = [each.task.granted for lease, each in worker.agent.desk.attempts.items() if key_of(lease) in running]
        cores, memory = sum(each.cores for each in granted), sum(each.memory for each in granted)
        if cores > worker.kind.cores or memory > worker.kind.memory:
            self.wrong(f"{launch.key} begins at {worker.name}, which has not enough for {len(granted)} jobs at a time")

    def _goes_on(self, worker: Worker, launch: Launch) -> None:
        """It begins with the checkpoint that is on record."""
        job, attempt, _ = (int(part) for part in launch.key.split("."))
        query = "SELECT c.manifest FROM checkpoints c JOIN jobs j ON j.id = c.job WHERE j.id = ? AND j.attempts = ?"
        for (manifest,) in self.rows(query, job, attempt):
            entry = msgspec.msgpack.decode(manifest, type=Manifest).find(b"p.cpt")
            size = entry.content.size if entry and entry.content else 0
            here = worker.disk.stat(f"{launch.cwd}/p.cpt")
            if (here.size if here else 0) < size:
                self.wrong(f"{launch.key} does not go on from its checkpoint of {size} bytes")

    def exited(self, worker: str, key: str, code: int) -> None:
        """A program ended by itself."""
        self._exits[key] = code

    def spooled(self, worker: str, lease: Lease, result: Result) -> None:
        """A result is safe on a worker's disk."""
        self.world.story.tell(worker, f"keeps the result of {lease}: {result.outcome.value}")
        self._kept[lease] = worker
        if result.outcome is Outcome.OK:
            self._science.setdefault(lease.job, worker)
            self._good.add(lease)

    def settled(self, worker: str, settled: Settled) -> None:
        """A worker is told that it may forget a result."""
        lease = settled.lease
        self.world.story.tell(worker, f"is told of {lease}: {settled.verdict} {settled.note}".rstrip())
        self.verdicts[settled.verdict] += 1
        self._kept.pop(lease, None)
        good = lease in self._good or settled.verdict == "known"
        if good and settled.verdict not in ("accepted", "accepted late") and not self._over(lease.job):
            self.wrong(f"{lease} had succeeded, was settled as {settled.verdict}, and the job has not ended")
        if settled.verdict in ("accepted", "accepted late"):
            found = self.rows("SELECT state, accepted FROM finished WHERE id = ?", lease.job)
            if found != [(int(State.SUCCEEDED), lease.attempt)] and not self._forgiven(lease.job):
                self.wrong(f"{lease} was settled as {settled.verdict}, and is on record as {found}")

    def checkpointed(self, worker: str, lease: Lease, files: Manifest) -> None:
        """The server has answered a turn with this checkpoint."""
        query = (
            "SELECT c.manifest FROM attempts a JOIN jobs j ON j.id = a.job AND j.attempts = a.number LEFT JOIN "
            "checkpoints c ON c.job = a.job WHERE a.job = ? AND a.number = ? AND a.ended IS NULL"
        )
        for (manifest,) in self.rows(query, lease.job, lease.attempt):
            if manifest is None or msgspec.msgpack.decode(manifest, type=Manifest) != files:
                self.wrong(f"the checkpoint of {lease} was taken, and is not on record")

    def _over(self, job: int) -> bool:
        """Whether a success may come to nothing: the job has ended, and a person has perhaps begun it anew since."""
        return self._forgiven(job) or bool(self.rows("SELECT id FROM finished WHERE id = ?", job))

    def _forgiven(self, job: int) -> bool:
        known = self.known.get(ids.array(job))
        return known is not None and job in known.retried

    # --- what is checked often ------------------------------------------------------------------------------------------

    def check(self, server: Server | None) -> None:
        """Everything that must hold between any two events."""
        self.checks += 1
        self._check_rows()
        self._check_files()
        if server is not None and server.ready and not server.ended and not server.store.writer.away:
            self._check_memory(server)

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
        self._none(
            "SELECT a.id, a.open, a.succeeded, a.failed, a.cancelled FROM arrays a WHERE "
            "a.open != (SELECT count(*) FROM jobs j WHERE j.id >= a.id AND j.id < a.id + 1048576) OR "
            "a.succeeded != (SELECT count(*) FROM finished f WHERE f.id >= a.id AND f.id < a.id + 1048576 AND "
            "f.state = 3)",
            "the counts of a submission are not those of its jobs",
        )
        self._check_blocked()
        self._check_ends()
        self._check_blame()

    def _check_blocked(self) -> None:
        """A job is blocked by exactly those of its dependencies that are open, and runs when there is none."""
        open_edges = (
            "(SELECT count(*) FROM dependencies d WHERE d.after = (j.id / 1048576) * 1048576 AND (d.kind != 2 OR "
            "EXISTS (SELECT 1 FROM jobs b WHERE b.id = d.before + j.id % 1048576)))"
        )
        self._none(
            f"SELECT j.id, j.blockers, {open_edges} FROM jobs j WHERE j.state = 0 AND (j.blockers = 0 OR "
            f"j.blockers != {open_edges})",
            "a job is not blocked by what it waits for",
        )
        for job, edges in self.rows(f"SELECT j.id, {open_edges} FROM jobs j WHERE j.state != 0"):
            if edges and not self._forgiven(job):
                self.wrong(f"job {ids.show(job, True)} does not wait for {edges} dependencies that are open")

    def _check_ends(self) -> None:
        """Terminal is final; a result is accepted once."""
        for job, state, accepted in self.rows("SELECT id, state, accepted FROM finished"):
            before = self._finished.setdefault(job, (state, accepted))
            if before != (state, accepted):
                if not self._forgiven(job):
                    self.wrong(f"job {ids.show(job, True)} had ended as {before} and now as {(state, accepted)}")
                self._finished[job] = (state, accepted)

    def _check_blame(self) -> None:
        for job, number, life in self.rows(
            "SELECT job, number, incarnation FROM attempts WHERE outcome IN ('failed', 'exceeded')"
        ):
            if self._exits.get(f"{job}.{number}.{life}", 0) in (0, FULL):
                self.wrong(f"job {ids.show(job, True)} is blamed for attempt {number}, which did not fail by itself")
        for job, failures, count in self.rows(
            "SELECT j.id, j.failures, count(a.number) FROM (SELECT id, failures FROM jobs UNION ALL SELECT id, failures "
            "FROM finished) j LEFT JOIN attempts a ON a.job = j.id AND a.outcome IN ('failed', 'exceeded') "
            "GROUP BY j.id, j.failures HAVING j.failures != count(a.number)"
        ):
            if not self._forgiven(job):
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
        disk = self.world.server_disk
        for digest, size, data in self.rows("SELECT digest, size, data FROM chunks"):
            if size <= SMALL:
                good = data is not None and len(data) == size
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
            used = sum(run.granted.cores for run in runs if not run.ahead)
            if session.free.cores != session.total.cores - used or session.free.cores < 0:
                self.wrong(f"{session.name} has {session.free.cores} free of {session.total.cores}, and {used} in use")
            ahead = [run.lease.job for run in runs if run.ahead]
            if sorted(ahead) != sorted(session.ahead) or len(ahead) > session.most_ahead:
                self.wrong(f"{session.name} was given {ahead} ahead, and is said to have {list(session.ahead)}")
        edges = self.rows("SELECT count(*) FROM dependencies")[0][0]
        if server.queue.edges != edges:
            self.wrong(f"{edges} dependencies in the database, {server.queue.edges} in memory")

    # --- why ------------------------------------------------------------------------------------------------------------

    def waiting(self, limit: int) -> list[int]:
        """Some jobs that wait."""
        return [row[0] for row in self.rows("SELECT id FROM jobs WHERE state = 1 ORDER BY rank, id")][:limit]

    def why(self, server: Server, job: int, kinds: Iterable[str], final: bool) -> bool:
        """Whether the reason that a person is given is the true one. Between the answer and this look, other units of
        the same batch may have changed the truth: only what is wrong again and again (`final`) is wrong."""
        kinds = [kind for kind in kinds if kind not in ("again", "intake")]
        if self.rows("SELECT state, id FROM jobs WHERE id = ?", job) != [(1, job)]:
            self._soon.pop(job, None)
            return True
        truth = self._truth(server, job)
        if not kinds or kinds[0] not in truth:
            if not final:
                return False
            self.wrong(f"job {ids.show(job, True)} waits because of {kinds}; the truth is {truth}")
        if kinds[0] == "soon":
            since = self._soon.setdefault(job, self.world.now)
            if self.world.now - since > 2 * self.world.plan.probe_every:
                self.wrong(f"job {ids.show(job, True)} could run and has waited for {self.world.now - since:.0f} s")
        else:
            self._soon.pop(job, None)
        return True

    def _truth(self, server: Server, job: int) -> tuple[str, ...]:
        """Worked out from the offers of the machines and the ledger of attempts."""
        spec = self.known_spec(job)
        (project,) = self.rows("SELECT project FROM jobs WHERE id = ?", job)[0]
        sessions = list(server.queue.index.sessions.values())
        names = dict(self.rows("SELECT id, host FROM workers"))
        offers = {session.number: self.world.kind_of(names[session.worker]) for session in sessions}
        numbers = self.world.project_numbers
        sessions = [s for s in sessions if not offers[s.number].project or numbers[offers[s.number].project] == project]
        if not sessions:
            return ("no-worker",)
        able = [session for session in sessions if _fits(spec, offers[session.number])]
        if not able:
            return ("nobody",)
        ready = [session for session in able if session.wants and session.drain is None]
        if not ready:
            return ("draining", "stepped-back")
        free = []
        for session in ready:
            kind, left = offers[session.number], session.deadline
            cores, memory = kind.cores, kind.memory
            for held, granted in self.rows(
                "SELECT job, granted FROM attempts WHERE ended IS NULL AND worker = ?", session.worker
            ):
                if held in session.ahead:
                    continue
                amounts = msgspec.msgpack.decode(granted, type=Amounts)
                cores, memory = cores - amounts.cores, memory - amounts.memory
            enough = cores >= spec.need.cores and memory >= spec.need.memory
            time = left is None or spec.walltime <= left - server.queue.now or spec.checkpoint
            if enough and time:
                free.append(session)
        return ("soon", "turn") if free else ("full",)

    def known_spec(self, job: int) -> JobSpec:
        """What was submitted; also when nobody was told yet."""
        (text,) = self.rows("SELECT spec FROM arrays WHERE id = ?", ids.array(job))[0]
        return msgspec.msgpack.decode(text, type=JobSpec)

    # --- at the end -----------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[int]:
        """Jobs that should end by themselves and have not."""
        live = [row[0] for row in self.rows("SELECT id FROM jobs ORDER BY id")]
        nowhere = {array: "nowhere" in self.known_spec(array).labels for array in {ids.array(job) for job in live}}
        return [job for job in live if not nowhere[ids.array(job)]]

    def verdict(self) -> None:
        """Everything that must hold when all has settled."""
        for known in self.known.values():
            for job in known.jobs:
                self._check_end(known, job)
        for lease, worker in self._kept.items():
            known = self.known.get(ids.array(lease.job))
            unwanted = known is not None and lease.job in known.cancelled
            if not unwanted and not self.world.removed(worker):
                self.wrong(f"the result of {lease} was safe at {worker}, and was never handed in")

    def _check_end(self, known: Known, job: int) -> None:
        name, kind = ids.show(job, True), known.kind
        found = self.rows("SELECT state, failures, losses, accepted, outcome, reason FROM finished WHERE id = ?", job)
        if not found:
            if not self.rows("SELECT id FROM jobs WHERE id = ?", job):
                self.wrong(f"job {name} was acknowledged and is gone")
            return
        state, failures, losses, accepted, _, reason = found[0]
        state = State(state)
        asked = job in known.cancelled
        doomed = bool(known.spec.after) and "did not succeed" in reason
        # Terminal is final: a success that comes after the job's last failure is kept, and changes nothing.
        final = asked or self._forgiven(job) or (state is State.FAILED and self._may_fail(known, job, failures, losses))
        if job in self._science and state is not State.SUCCEEDED and not final:
            self.wrong(f"job {name} had finished at {self._science[job]} and is {state.label}: {reason}")
        if state is State.CANCELLED and not asked and not doomed:
            self.wrong(f"job {name} was cancelled, and nobody asked for it: {reason}")
        if state is State.FAILED and not self._may_fail(known, job, failures, losses):
            self.wrong(f"job {name} ({kind}) failed: {failures} failures, {losses} losses: {reason}")
        if state is State.SUCCEEDED:
            if kind in ("bad", "poison"):
                self.wrong(f"job {name} ({kind}) succeeded")
            self._check_output(known, job, accepted)

    def _may_fail(self, known: Known, job: int, failures: int, losses: int) -> bool:
        spec = known.spec
        if losses >= spec.max_losses:
            return True
        if known.kind == "bad" or (spec.walltime and float(spec.argv[2]) > spec.walltime):
            return failures == spec.max_failures
        return known.kind == "flaky" and failures == spec.max_failures

    def _check_output(self, known: Known, job: int, accepted: int) -> None:
        """The files of a result are those that its program wrote."""
        manifest, *_ = self.rows("SELECT manifest FROM results WHERE job = ? AND number = ?", job, accepted)[0]
        files = msgspec.msgpack.decode(manifest, type=Manifest)
        if known.kind == "ok":
            if self.bytes_of(files, b"out") != output(job, int(known.spec.argv[3])):
                self.wrong(f"the output of job {ids.show(job, True)} is not what it wrote")
        elif known.kind == "steps":
            lines = self.bytes_of(files, b"p.cpt").splitlines()
            wanted = -(-float(known.spec.argv[2]) // STEP)
            if lines != [b"%07d" % number for number in range(int(wanted))]:
                self.wrong(f"job {ids.show(job, True)} did not do each step once: {len(lines)} of {wanted:g}")

    def bytes_of(self, files: Manifest, name: bytes) -> bytes:
        """From what is on disk."""
        entry = files.find(name)
        if entry is None or entry.content is None:
            return b""
        parts = []
        for digest in entry.content.chunks:
            for size, data in self.rows("SELECT size, data FROM chunks WHERE digest = ?", digest):
                file = self.world.server_disk.names.get(path(digest))
                parts.append(data if size <= SMALL else file.data if file else b"")
        return b"".join(parts)


def _fits(spec: JobSpec, kind: Any) -> bool:
    versions = [float(version) for name, version in kind.programs if name == spec.executable]
    wanted = float(spec.versions.removeprefix(">=") or 0)
    return (
        set(spec.labels) <= set(kind.labels)
        and kind.cores >= spec.need.cores
        and kind.memory >= spec.need.memory
        and (not spec.executable or any(version >= wanted for version in versions))
    )
