"""The queue at work: the index in memory and the database in step, inside units of the writer.

Whatever changes jobs, leases or workers goes through here: `submission`, `settling`, `closing` and `joining` use it, and
each ends its unit with `round`, which gives free workers jobs. Used on the writer's thread only, but for `outbox`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cpc.core import ids
from cpc.core.clock import SECOND, Clock
from cpc.core.journal import Journal
from cpc.core.lease import Lease
from cpc.core.spec import element_values, fill
from cpc.queue import match
from cpc.queue.index import Index
from cpc.queue.leaseclock import LeaseClock
from cpc.queue.match import Exact, Round
from cpc.queue.pace import Pace
from cpc.queue.session import Running, Session
from cpc.queue.window import CAPACITY, Window
from cpc.server.ends import Ends
from cpc.server.loans import Loans, NoLoans, Room
from cpc.server.outbox import Outbox
from cpc.server.specs import Specs, Submission
from cpc.server.tallies import Tallies
from cpc.store import arrays, attempts, dependencies, jobs, shares
from cpc.store.attempts import AttemptRow
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.messages import Hello, Task

#: Leases of one round; what is left gets the next one, so that a batch stays short.
MOST = 1000


@dataclass(slots=True)
class Limits:
    """The settings that the queue goes by."""

    heartbeat_time: float = 120.0
    patience: float = 600.0  # a job waits so long for room before a worker is reserved for it


def _no_steps(tx: Tx, step: int, array: int) -> None:
    """Nobody has networks here."""


def _no_pools(*_: object) -> None:
    """Nobody asks batch systems for workers here."""


class Queue:
    """Index, descriptions, clock and outbox: what every unit about jobs needs.

    Of a job that a step has asked for `step_job_ended(tx, step, array)` is told, in the same unit, when it ends, and
    `step_job_waits` when it waits for another attempt.
    `worker_joined(tx, row, session, hello)` and `worker_left(tx, session, kind, reason)` are told of workers, in the same unit.
    `stirred(workers)` is called after a commit that brought jobs or room, with the workers that were given jobs.
    """

    def __init__(self, journal: Journal, clock: Clock, incarnation: int, outbox: Outbox, limits: Limits) -> None:
        self.clock = clock
        self.incarnation = incarnation
        self.outbox = outbox
        self.ends = Ends()
        self.tallies = Tallies()
        self.limits = limits
        self.index = Index(journal)
        self.specs = Specs(journal)
        self.pace = Pace()
        self.journal = journal
        self.lease_clock = LeaseClock(clock.monotonic())
        self.edges = 0  # open dependencies: none means that nobody needs to look for dependents
        self.step_job_ended: Callable[[Tx, int, int], object] = _no_steps
        self.step_job_waits: Callable[[Tx, int, int], object] = _no_steps
        self.loans: Loans = NoLoans()
        self.worker_joined: Callable[[Tx, WorkerRow, Session, Hello], object] = _no_pools
        self.worker_left: Callable[[Tx, Session, str, str], object] = _no_pools
        self.stirred: Callable[[frozenset[int]], object] | None = None
        self.more = False  # the last round stopped at its limit
        self._hungry: dict[int, None] = {}
        self._fresh: dict[tuple[int, int], None] = {}

    @property
    def now(self) -> float:
        """The lease clock."""
        return self.lease_clock.at(self.clock.monotonic())

    # --- at start ---

    def load(self, tx: Tx) -> None:
        """Read what is live. Every running attempt gets a full lease from now on."""
        for share in shares.load(tx):
            age = max(0.0, (tx.now - share.at) / SECOND)
            self.index.shares.load(share.project, share.usage, self.now - age, share.weight)
        for number, requirement, count in jobs.waiting(tx):
            self.need(tx, requirement)
            self.index.window(number, requirement).forget(count)
        for row in sorted(attempts.running(tx), key=lambda row: row.attempt.started):
            self.need(tx, row.requirement)
            self.index.load(self._running(row))
        self.edges = dependencies.count(tx)

    def _running(self, row: attempts.RunningRow) -> Running:
        attempt = row.attempt
        return Running(
            lease=Lease(attempt.job, attempt.number, attempt.incarnation),
            array=ids.array(attempt.job),
            project=row.project,
            requirement=row.requirement,
            rank=row.rank,
            worker=attempt.worker,
            granted=attempt.granted,
            version="",
            renewed=self.now,
            started=attempt.started,
            checkpoint=row.checkpoint,
            failures=row.failures,
            losses=row.losses,
        )

    # --- what changed ---

    def need(self, tx: Tx, requirement: int) -> None:
        """Have the class in memory."""
        if requirement not in self.index.requirements:
            self.index.learn(requirement, arrays.requirement(tx, requirement))

    def feed(self, session: Session | None) -> None:
        """The worker has room, perhaps: the coming round looks."""
        if session is not None:
            self._hungry[session.number] = None

    def look(self, project: int, requirement: int) -> None:
        """Jobs became eligible: the coming round finds workers for them."""
        self._fresh[project, requirement] = None

    def ready(self, tx: Tx, project: int, requirement: int, first: int, rank: int, count: int) -> None:
        """`count` new neighbours from `first` on are eligible, on disk already."""
        if count > CAPACITY // 4:
            self.freed(tx, project, requirement, count)
            return
        self.need(tx, requirement)
        window = self.index.window(project, requirement)
        for job in range(first, first + count):
            window.add((rank, job))
        self.look(project, requirement)

    def freed(self, tx: Tx, project: int, requirement: int, count: int) -> None:
        """`count` jobs somewhere in the order became eligible on disk: the window reads again."""
        self.need(tx, requirement)
        self.index.window(project, requirement).forget(count)
        self.look(project, requirement)

    # --- the round ---

    def round(self, tx: Tx) -> None:
        """Give workers with room what they can run. Leases are in this commit; the tasks leave after it."""
        circumstances = Round(
            now=self.now,
            wall=tx.now,
            incarnation=self.incarnation,
            exact=lambda array: self.exact(tx, array),
            refill=lambda window: self.refill(tx, window),
            pace=self.pace.of,
        )
        placed: list[Running] = []
        if self._hungry or self._fresh:
            self.journal.note(self._look_again, self._hungry, self._fresh)
        hungry, self._hungry = self._hungry, {}
        for number in hungry:
            session = self.index.sessions.get(number)
            if session is not None:
                placed += match.fill(self.index, session, circumstances, MOST - len(placed))
        fresh, self._fresh = self._fresh, {}
        left_over = False
        for place in fresh:
            while (window := self.index.windows.get(place)) and len(placed) < MOST:
                chosen = match.offer(self.index, window, circumstances)
                runs = match.fill(self.index, chosen, circumstances, MOST - len(placed)) if chosen else []
                if not runs:
                    break
                placed += runs
            left_over = left_over or (window is not None and window.total > 0)
        # Last of all: only what nobody has room for is worth giving ahead.
        for number in hungry:
            session = self.index.sessions.get(number)
            if session is not None:
                placed += match.fill_ahead(self.index, session, circumstances, MOST - len(placed))
        self.more = len(placed) >= MOST
        if self.more:
            self._hungry.update(hungry)
            self._fresh.update(fresh)
        if placed:
            self._start(tx, placed)
        if self.stirred is not None and (hungry or fresh):
            stirred, given = self.stirred, frozenset(run.worker for run in placed)
            tx.after(lambda: stirred(given))
        if left_over:
            tx.after(self.loans.left_over)
        self.tell_rooms(tx)

    def tell_rooms(self, tx: Tx) -> None:
        """Whose room has changed that may be lent: known to who lends it after the commit."""
        changed = self.index.changed
        if not changed:
            return
        self.index.changed = {}
        rooms = [
            Room(
                session.worker, session.profile, session.spare,
                0 if session.spare_ahead and self.own_waits(session) else session.spare_ahead,
                session.number in self.index.sessions,
            )
            for session in changed.values()
        ]  # fmt: skip
        tx.after(lambda: self.loans.rooms(rooms))

    def own_waits(self, session: Session) -> bool:
        """Whether a job of ours waits that the worker could run. One of our own workers is then given no jobs of others beyond
        its room, or ours would never find it without one."""
        return any(True for _ in self.index.candidates(session))

    def _look_again(self, hungry: dict[int, None], fresh: dict[tuple[int, int], None]) -> None:
        """The round was rolled back: what it was to look at is still to be looked at."""
        self._hungry = hungry | self._hungry
        self._fresh = fresh | self._fresh
        self.more = True

    def exact(self, tx: Tx, array: int) -> Exact:
        """What the jobs of a submission really need."""
        return self.specs.get(tx, array).exact

    def refill(self, tx: Tx, window: Window) -> None:
        """Bring waiting jobs past the watermark in."""
        after = window.watermark
        if after is not None:
            window.fill(jobs.eligible(tx, window.project, window.requirement, after, CAPACITY), CAPACITY)

    def _start(self, tx: Tx, placed: list[Running]) -> None:
        jobs.lease(tx, [(run.lease.job, run.lease.attempt) for run in placed], tx.now)
        attempts.start(tx, [self._attempt(run) for run in placed])
        by_array: dict[int, list[str]] = {}
        by_worker: dict[int, list[Task]] = {}
        for run in placed:
            submission = self.specs.get(tx, run.array)
            by_worker.setdefault(run.worker, []).append(self._task(tx, run, submission))
            self.tallies.start(tx, submission.row.submitted, run.lease.attempt)
            by_array.setdefault(run.array, []).append(ids.show(run.lease.job, submission.row.elements))
        for worker, tasks in by_worker.items():
            session = self.index.of_worker(worker)
            assert session is not None, "a lease goes to a joined worker"
            self.outbox.tasks(tx, session.number, tasks)
        for array, shown in by_array.items():
            project = self.specs.get(tx, array).row.project
            tx.event("server", "job.started", project=project, subject=array, jobs=shown)

    def _attempt(self, run: Running) -> AttemptRow:
        session = self.index.of_worker(run.worker)
        lease = run.lease
        return AttemptRow(
            job=lease.job, number=lease.attempt, incarnation=lease.incarnation, worker=run.worker,
            session=session.number if session else 0, granted=run.granted, started=run.started,
        )  # fmt: skip

    def _task(self, tx: Tx, run: Running, submission: Submission) -> Task:
        spec = submission.spec
        values = element_values(spec, ids.index(run.lease.job))
        checkpoint = attempts.checkpoint(tx, run.lease.job) if run.lease.attempt > 1 else None
        run.checkpoint = checkpoint is not None
        variables = {name: fill(text, values) for name, text in spec.env.items()}
        variables |= {f"CPC_{name.upper()}": text for name, text in values.items()}
        return Task(
            lease=run.lease,
            project=run.project,
            granted=run.granted,
            argv=tuple(fill(text, values) for text in spec.argv),
            executable=spec.executable,
            version=run.version,
            env=variables,
            stdin=spec.stdin,
            inputs=tuple((entry.path, entry.content, entry.executable) for entry in spec.inputs),
            outputs=spec.outputs,
            checkpoint_patterns=spec.checkpoint,
            checkpoint=checkpoint[2] if checkpoint else None,
            walltime=spec.walltime,
            name=spec.name,
        )

    # --- maintenance ---

    def reserve(self, tx: Tx) -> None:
        """Keep a worker free for jobs that have waited too long for room."""
        made, freed = match.reserve(self.index, self.now, self.limits.patience, lambda array: self.exact(tx, array))
        for number in freed:
            self.feed(self.index.sessions.get(number))
        for job, number in made:
            self.feed(self.index.sessions.get(number))
            tx.event("server", "job.reserved", subject=ids.array(job), worker=self.index.sessions[number].name)

    def save_shares(self, tx: Tx) -> None:
        """Write down what projects have used, so that a restart does not forget it."""
        shares.save(
            tx, [(share.project, self.index.shares.usage(share.project, self.now)) for share in shares.load(tx)]
        )

    def split(self, counts: dict[int, dict[str, int]]) -> dict[int, dict[str, int]]:
        """Counts of jobs by project, with what is `open` told apart as blocked, waiting and running: memory knows."""
        running, waiting = Counter[int](), Counter[int]()
        for run in list(self.index.running.values()):
            running[run.project] += 1
        for window in list(self.index.windows.values()):
            waiting[window.project] += window.total
        found: dict[int, dict[str, int]] = {}
        for project, states in counts.items():
            rest = {state: count for state, count in states.items() if state != "open"}
            blocked = max(0, states.get("open", 0) - running[project] - waiting[project])
            live = {"blocked": blocked, "waiting": waiting[project], "running": running[project]}
            found[project] = {state: count for state, count in (live | rest).items() if count}
        return found

    def each_running(self) -> Iterable[Running]:
        """A copy: the caller ends some."""
        return list(self.index.running.values())
