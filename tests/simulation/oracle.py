"""What must be true, checked against the database, the disk and what was seen at the workers: not against the server's word."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.spec import JobSpec
from cpc.queue.job import State
from cpc.store.chunks import SMALL, path
from cpc.wire.messages import Result, Settled
from cpc.worker.placing import key_of
from cpc.worker.processes import Launch
from tests.simulation import books
from tests.simulation.invariants import Invariants
from tests.simulation.network_truth import NetworkTruth
from tests.simulation.programs import checkpoint, output
from tests.simulation.truth import Truth

if TYPE_CHECKING:
    from tests.simulation.realm import Realm
    from tests.simulation.workers import Worker


def attempt_key(key: str) -> str:
    """job.attempt.incarnation of a program's name, which says more at a worker of another server."""
    return ".".join(key.split(".")[:3])


@dataclass
class Known:
    """A submission that the server has acknowledged, and what its client has asked for since."""

    array: int
    spec: JobSpec
    cancelled: set[int] = field(default_factory=set)  # elements that somebody asked to cancel
    retried: set[int] = field(default_factory=set)
    forgotten: bool = False  # or its project is deleted: it may be gone with its files

    @property
    def kind(self) -> str:
        return self.spec.argv[1]

    @property
    def jobs(self) -> range:
        return range(self.array, self.array + self.spec.size)


class Oracle:
    """Remembers what happened outside the server, and compares. `broken` is what was found, in words."""

    def __init__(self, world: Realm) -> None:
        self.world = world
        self.broken = world.common.broken
        self.known: dict[int, Known] = {}
        self._database: sqlite3.Connection | None = None
        self.exits: dict[str, int] = {}
        self._launched: dict[str, str] = {}
        self._good: dict[Lease, str] = {}  # successes that were safe in a spool, and where
        self._kept: dict[Lease, str] = {}  # in a spool, and not settled
        self._told: set[Lease] = set()  # settled, in the worker's ears too
        self.revoked: set[str] = set()  # bundles that somebody has asked to revoke, or that a restore has undone
        self.life = 1
        self.verdicts: Counter[str] = Counter()
        self.invariants = Invariants(self)
        self.truth = Truth(self)
        self.networks = NetworkTruth(self)

    def close(self) -> None:
        """Until rows are asked for again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def wrong(self, what: str) -> None:
        """An invariant does not hold."""
        self.world.story.tell("!!!", what)
        self.broken.append(what)

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        if self._database is None:
            self._database = sqlite3.connect(self.world.path, isolation_level=None)
        return self._database.execute(query, arguments).fetchall()

    @property
    def version(self) -> tuple[object, ...]:
        """Another one after each change of the database."""
        (number,) = self.rows("PRAGMA data_version")[0]
        return self._database, number

    # --- what is heard --------------------------------------------------------------------------------------------------

    def acknowledged(self, array: int, spec: JobSpec) -> None:
        """A client has been told that this is on record."""
        known = self.known[array] = Known(array, spec)
        known.forgotten = self.world.plan.keep > 0
        if known.forgotten:
            return
        found = self.rows("SELECT size, open + succeeded + failed + cancelled FROM arrays WHERE id = ?", array)
        if found != [(spec.size, spec.size)]:
            self.wrong(f"{ids.show(array)} was acknowledged, and is not on record: {found}")

    def started(self, worker: Worker, launch: Launch, lease: Lease) -> None:
        """A program begins."""
        key = attempt_key(launch.key)
        self.world.story.tell(worker.name, f"runs {launch.key}: {' '.join(launch.argv[1:])}")
        if key in self._launched:
            self.wrong(f"attempt {key} began twice: at {self._launched[key]} and {worker.name}")
        self._launched[key] = worker.name
        self._fits(worker, launch)
        if launch.argv[1] in ("steps", "grow"):
            self._goes_on(worker, launch, lease)
        self._waited(lease.job)

    def _waited(self, job: int) -> None:
        """What it had to wait for has ended; what a person has retried since may run again at the same time."""
        if not any(known.retried for known in self.known.values()):
            for words in books.too_early(self.rows, job, self.truth.known_spec(ids.array(job))):
                self.wrong(words)

    def _fits(self, worker: Worker, launch: Launch) -> None:
        """The programs of a worker, with this one, need no more than it has."""
        assert worker.agent is not None
        running = set(worker.processes.running()) | {launch.key}
        granted = [each.task.granted for lease, each in worker.agent.desk.attempts.items() if key_of(lease) in running]
        cores, memory = sum(each.cores for each in granted), sum(each.memory for each in granted)
        if cores > worker.kind.cores or memory > worker.kind.memory:
            self.wrong(f"{launch.key} begins at {worker.name}, which has not enough for {len(granted)} jobs at a time")

    def _goes_on(self, worker: Worker, launch: Launch, lease: Lease) -> None:
        """It begins with the checkpoint that is on record."""
        query = "SELECT c.manifest FROM checkpoints c JOIN jobs j ON j.id = c.job WHERE j.id = ? AND j.attempts = ?"
        for (manifest,) in self.rows(query, lease.job, lease.attempt):
            entry = msgspec.msgpack.decode(manifest, type=Manifest).find(b"p.cpt")
            size = entry.content.size if entry and entry.content else 0
            here = worker.disk.stat(f"{launch.cwd}/p.cpt")
            if (here.size if here else 0) < size:
                self.wrong(f"{launch.key} does not go on from its checkpoint of {size} bytes")

    def exited(self, worker: str, key: str, code: int) -> None:
        """A program ended by itself."""
        self.exits[attempt_key(key)] = code

    def spooled(self, worker: Worker, lease: Lease, result: Result) -> None:
        """A result is safe on a worker's disk."""
        self.world.story.tell(worker.name, f"keeps the result of {lease}: {result.outcome.value}")
        home = worker.world
        if worker.name not in home.workers or worker.bundle.name in home.oracle.revoked:
            return  # nobody will take it
        if lease in self._told:
            return  # the server was faster than the disk: it is not needed here any more
        self._kept[lease] = worker.name
        ours = "SELECT job FROM attempts WHERE job = ? AND number = ? AND incarnation = ?"
        lost = lease.incarnation < self.life and not self.rows(ours, lease.job, lease.attempt, lease.incarnation)
        if result.outcome is Outcome.OK and not lost:
            self._good[lease] = worker.name

    def settled(self, worker: str, settled: Settled) -> None:
        """A worker is told that it may forget a result."""
        lease = settled.lease
        self.world.story.tell(worker, f"is told of {lease}: {settled.verdict} {settled.note}".rstrip())
        self.verdicts[settled.verdict] += 1
        self._told.add(lease)
        self._kept.pop(lease, None)
        good = lease in self._good or settled.verdict == "known"
        if good and settled.verdict not in ("accepted", "accepted late") and not self._over(lease.job):
            self.wrong(f"{lease} had succeeded, was settled as {settled.verdict}, and the job has not ended")
        if settled.verdict in ("accepted", "accepted late"):
            found = self.rows("SELECT state, accepted FROM finished WHERE id = ?", lease.job)
            known = self.known.get(ids.array(lease.job))
            gone = not found and (known is None or known.forgotten)
            if found != [(int(State.SUCCEEDED), lease.attempt)] and not gone and not self.forgiven(lease.job):
                self.wrong(f"{lease} was settled as {settled.verdict}, and is on record as {found}")

    def entrusted(self, lease: Lease) -> None:
        """A worker is told that its home keeps the result: it need not come from the worker any more."""
        self._told.add(lease)
        self._kept.pop(lease, None)

    def discarded(self, lease: Lease) -> None:
        """Nobody need take this result any more."""
        self._told.add(lease)
        self._kept.pop(lease, None)
        self._good.pop(lease, None)

    def checkpointed(self, worker: str, lease: Lease, files: Manifest) -> None:
        """The server has answered a turn with this checkpoint: it counts if the worker, by this name, has that lease."""
        query = (
            "SELECT c.manifest FROM attempts a JOIN jobs j ON j.id = a.job AND j.attempts = a.number LEFT JOIN "
            "checkpoints c ON c.job = a.job WHERE a.job = ? AND a.number = ? AND a.ended IS NULL AND a.worker = "
            "(SELECT w.id FROM workers w WHERE w.name = ?)"
        )
        for (manifest,) in self.rows(query, lease.job, lease.attempt, worker):
            if manifest is None or msgspec.msgpack.decode(manifest, type=Manifest) != files:
                self.wrong(f"the checkpoint of {lease} was taken, and is not on record")

    def _over(self, job: int) -> bool:
        """Whether a success may come to nothing: the job has ended, and a person has perhaps begun it anew since."""
        return self.forgiven(job) or not self.rows("SELECT id FROM jobs WHERE id = ?", job)

    def forgiven(self, job: int) -> bool:
        known = self.known.get(ids.array(job))
        if known is None and self.rows("SELECT step FROM step_jobs WHERE array = ?", job):
            return True  # somebody has perhaps cancelled it and submitted it again
        return known is not None and job in known.retried

    def why(self, server: Any, job: int, kinds: Any, final: bool) -> bool:
        """See `Truth.why`."""
        return self.truth.why(server, job, kinds, final)

    def going(self, array: int) -> bool:
        """Whether a submission may be on its way out, step by step."""
        known = self.known.get(array)
        return self.world.plan.keep > 0 or known is None or known.forgotten

    # --- what makes it forget -------------------------------------------------------------------------------------------

    def revoking(self, bundle: str) -> None:
        """From now on nobody need take what the workers of this bundle bring."""
        self.revoked.add(bundle)
        gone = {name for name, worker in self.world.workers.items() if worker.bundle.name == bundle}
        for leases in (self._kept, self._good):
            for lease in [lease for lease, worker in leases.items() if worker in gone]:
                del leases[lease]

    def forget_what_came_after(self, life: int) -> None:
        """The server has been restored: what it had been told since the backup is lost, and workers have forgotten it."""
        there = {row[0] for row in self.rows("SELECT id FROM arrays")}
        self.known = {array: known for array, known in self.known.items() if array in there}
        ours = {Lease(*row) for row in self.rows("SELECT job, number, incarnation FROM attempts")}
        self._good = {lease: worker for lease, worker in self._good.items() if lease in self._kept and lease in ours}
        self.revoked.clear()
        bundles = {row[0] for row in self.rows("SELECT name FROM bundles")}
        for bundle in sorted({worker.bundle.name for worker in self.world.workers.values()} - bundles):
            self.revoking(bundle)  # made since: it is worth nothing any more
        self.invariants.forget()
        self.life = life

    # --- at the end -----------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[int]:
        """Jobs that should end by themselves and have not."""
        live = [row[0] for row in self.rows("SELECT id FROM jobs ORDER BY id")]
        nowhere = {
            array: "nowhere" in self.truth.known_spec(array).labels for array in {ids.array(job) for job in live}
        }
        return [job for job in live if not nowhere[ids.array(job)]]

    def verdict(self) -> None:
        """Everything that must hold when all has settled."""
        for known in self.known.values():
            for job in known.jobs:
                self._check_end(known, job)
        for words in books.at_the_end(self.rows, self.known):
            self.wrong(words)
        for lease in self.kept():
            self.wrong(f"the result of {lease} was safe at {self._kept[lease]}, and was never handed in")

    def half_forgotten(self) -> list[int]:
        """Submissions that somebody has forgotten, and a project's that was deleted, which are not gone yet."""
        return [row[0] for row in self.rows(
            "SELECT a.id FROM arrays a JOIN projects p ON p.id = a.project WHERE a.open = 0 AND (p.deleted IS NOT NULL OR "
            "EXISTS (SELECT 1 FROM events e WHERE e.subject = a.id AND e.kind = 'submission.forgotten'))"
        )]  # fmt: skip

    def kept(self) -> list[Lease]:
        """Results that are safe with a worker, and wanted, and not handed in."""
        found = []
        for lease, worker in self._kept.items():
            known = self.known.get(ids.array(lease.job))
            unwanted = known is not None and lease.job in known.cancelled
            if not unwanted and not self.world.removed(worker):
                found.append(lease)
        return found

    def _check_end(self, known: Known, job: int) -> None:
        name, kind = ids.show(job, True), known.kind
        found = self.rows("SELECT state, failures, losses, accepted, outcome, reason FROM finished WHERE id = ?", job)
        if not found:
            if not self.rows("SELECT id FROM jobs WHERE id = ?", job) and not known.forgotten:
                self.wrong(f"job {name} was acknowledged and is gone")
            return
        state, failures, losses, accepted, _, reason = found[0]
        state = State(state)
        asked = job in known.cancelled
        doomed = bool(known.spec.after) and "did not succeed" in reason
        # Terminal is final: a success that comes after the job's last failure is kept, and changes nothing.
        final = asked or self.forgiven(job) or (state is State.FAILED and self._may_fail(known, job, failures, losses))
        science = next((worker for lease, worker in self._good.items() if lease.job == job), "")
        if science and state is not State.SUCCEEDED and not final:
            self.wrong(f"job {name} had finished at {science} and is {state.label}: {reason}")
        if state is State.CANCELLED and not asked and not doomed:
            self.wrong(f"job {name} was cancelled, and nobody asked for it: {reason}")
        if state is State.FAILED and not self._may_fail(known, job, failures, losses):
            self.wrong(f"job {name} ({kind}) failed: {failures} failures, {losses} losses: {reason}")
        if state is State.SUCCEEDED and kind in ("bad", "poison"):
            self.wrong(f"job {name} ({kind}) succeeded")
        if state is State.SUCCEEDED and not known.forgotten:
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
        if known.kind in ("ok", "big"):
            if self.bytes_of(files, b"out") != output(job, int(known.spec.argv[3])):
                self.wrong(f"the output of job {ids.show(job, True)} is not what it wrote")
        elif known.kind in ("steps", "grow"):
            found = self.bytes_of(files, b"p.cpt")
            if found != checkpoint(known.kind, float(known.spec.argv[2])):
                self.wrong(f"job {ids.show(job, True)} did not do each step once: {len(found)} bytes")

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
