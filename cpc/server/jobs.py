"""Jobs, as people use them: the service behind the API's job calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from cpc.core import ids
from cpc.core.errors import BadInput, Conflict
from cpc.core.spec import JobSpec
from cpc.core.views import ArrayView, JobDetail, JobView, Page, Reason, Submitted, WhyView
from cpc.queue import why
from cpc.queue.job import State, read_states
from cpc.queue.match import Exact
from cpc.queue.why import Because, Facts
from cpc.server import closing, settling, submission, views
from cpc.server.gate import Gate
from cpc.server.lookup import Target, target
from cpc.server.principal import Call, Principal
from cpc.server.queue import Queue
from cpc.server.roles import Act
from cpc.server.storage import Storage
from cpc.store import (
    arrays,
    attempts,
    dependencies,
    history,
    instances,
    jobs,
    members,
    page,
    projects,
    steps,
    users,
    workers,
)
from cpc.store.arrays import ArrayRow
from cpc.store.attempts import AttemptRow
from cpc.store.jobs import DoneRow, JobRow, Range
from cpc.store.store import Store
from cpc.store.transaction import Tx

EVERYTHING = Range(0, 1 << 62)
STEP = 1000


class Counted(msgspec.Struct, frozen=True):
    """How many jobs a call changed."""

    count: int


@dataclass(slots=True)
class _Names:
    """Names of projects, users and workers, looked up once per call."""

    tx: Tx
    projects: dict[int, str]
    users: dict[int, str]
    workers: dict[int, str]

    @classmethod
    def on(cls, tx: Tx) -> _Names:
        return cls(tx, {}, {}, {})

    def project(self, number: int) -> str:
        if number not in self.projects:
            row = projects.by_id(self.tx, number)
            self.projects[number] = row.name if row else ""
        return self.projects[number]

    def user(self, number: int) -> str:
        if number not in self.users:
            row = users.by_id(self.tx, number)
            self.users[number] = row.name if row else ""
        return self.users[number]

    def worker(self, number: int) -> str:
        if number not in self.workers:
            row = workers.get(self.tx, number)
            self.workers[number] = row.name if row else ""
        return self.workers[number]


class Jobs:
    """Submit, look, cancel, retry. Ids are strings as people write them: `57`, `57[3]`."""

    def __init__(
        self, store: Store, gate: Gate, queue: Queue, storage: Storage, purge: Callable[[int], object]
    ) -> None:
        self._purge = purge  # goes on forgetting a submission, in the background
        self._store = store
        self._gate = gate
        self._queue = queue
        self._storage = storage
        self.servers: Callable[[], int] = lambda: 0  # how many other servers are connected
        self.pools_say: Callable[[Tx, Facts], list[Because]] = lambda tx, job: []  # set where there are pools

    # --- changing ---

    def submit(self, call: Call, project: str, spec: JobSpec, dry_run: bool) -> Awaitable[Submitted]:
        """Store a job or an array. When this returns, it is on disk and will run. `dry_run`: only say what would be."""

        def unit(tx: Tx) -> Submitted:
            row = self._gate.project(tx, project)
            if dry_run:
                submission.validate(tx, row.id, spec)
                return Submitted(id="", size=spec.size, dry_run=True, warnings=self._warnings(tx, row.id, spec))
            self._storage.check_intake()
            made = submission.submit(self._queue, tx, row.id, call.who.user, call.who.actor, spec)
            self._queue.round(tx)
            return Submitted(id=ids.show(made.id), size=made.size)

        return self._gate.write(call, Act.JOB_SUBMIT, unit, project=project, answer=Submitted)

    def cancel(self, call: Call, id: str, reason: str) -> Awaitable[Counted]:
        """End what is not finished of a job or array, on its worker too."""

        def unit(tx: Tx) -> Counted:
            what = target(tx, self._gate, call.who, Act.JOB_CANCEL, id)
            words = reason or f"cancelled by {call.who.name}"
            count = closing.cancel(self._queue, tx, what.row.id, what.which, words, call.who.actor)
            if not count:
                raise Conflict(f"{what.shown} has ended already", "see `cpcc job`")
            self._queue.round(tx)
            return Counted(count)

        return self._gate.write(call, Act.JOB_CANCEL, unit, answer=Counted)

    def retry(self, call: Call, id: str) -> Awaitable[Submitted]:
        """Failed and cancelled jobs wait again."""

        def unit(tx: Tx) -> Submitted:
            what = target(tx, self._gate, call.who, Act.JOB_RETRY, id)
            self._storage.check_intake()
            count = submission.retry(self._queue, tx, what.row.id, what.which, call.who.actor)
            self._queue.round(tx)
            return Submitted(id=what.shown, size=count)

        return self._gate.write(call, Act.JOB_RETRY, unit, answer=Submitted)

    def fail_attempt(self, call: Call, id: str) -> Awaitable[Counted]:
        """Declare the running attempt lost: it is ended at the worker and the job goes back to the queue."""

        def unit(tx: Tx) -> Counted:
            what = target(tx, self._gate, call.who, Act.JOB_FAIL_ATTEMPT, id)
            run = self._queue.index.running.get(what.job)
            if not what.single or run is None:
                raise Conflict(f"{what.shown} is not one running job", "see `cpcc running`")
            session = self._queue.index.of_worker(run.worker)
            settling.lost(self._queue, tx, [run], f"declared lost by {call.who.name}", counts=False)
            if session is not None:
                self._queue.outbox.give_up(tx, session.number, run.lease, f"declared lost by {call.who.name}")
            self._queue.round(tx)
            return Counted(1)

        return self._gate.write(call, Act.JOB_FAIL_ATTEMPT, unit, answer=Counted)

    def prioritise(self, call: Call, id: str, priority: int) -> Awaitable[Counted]:
        """Another priority, −30…30, for what waits."""
        if not -30 <= priority <= 30:
            raise BadInput(f"priority {priority} is not between -30 and 30")

        def unit(tx: Tx) -> Counted:
            what = target(tx, self._gate, call.who, Act.JOB_PRIORITISE, id)
            counts = jobs.count(tx, what.which)
            if not counts:
                raise Conflict(f"{what.shown} has ended already")
            submission.prioritise(self._queue, tx, what.row.id, what.which, priority)
            self._queue.round(tx)
            return Counted(sum(counts.values()))

        return self._gate.write(call, Act.JOB_PRIORITISE, unit, answer=Counted)

    def forget(self, call: Call, id: str) -> Awaitable[Counted]:
        """Remove a finished submission and the files that only it refers to."""

        def unit(tx: Tx) -> Counted:
            what = target(tx, self._gate, call.who, Act.JOB_FORGET, id)
            if what.single and what.row.elements:
                raise BadInput(f"{what.shown} is part of an array", "forget the whole array")
            if what.row.open:
                raise Conflict(f"{what.shown} has {what.row.open} job(s) that are not finished", "cancel it first")
            self._forget(tx, what, call.who.actor)
            tx.event(call.who.actor, "job.forgotten", project=what.row.project, subject=what.row.id, jobs=[what.shown])
            return Counted(what.row.size)

        return self._gate.write(call, Act.JOB_FORGET, unit, answer=Counted)

    def _forget(self, tx: Tx, what: Target, actor: str) -> None:
        """The first step now; what is left of a large array goes in small ones, so that nobody waits behind it. That it
        is to go is on record: what a kill or a full disk cuts short, retention goes on with.
        """
        self._queue.specs.forget(what.row.id)
        if not history.purge(tx, what.row.id, STEP):
            tx.event(actor, history.FORGETTING, project=what.row.project, subject=what.row.id)
            tx.after(lambda: self._purge(what.row.id))

    def cancel_all(self, tx: Tx, project: int, actor: str) -> None:
        """Within a unit that deletes a project: everything live of it ends."""
        before = 1 << 62
        while rows := arrays.page(tx, project, before, 500):
            for row in rows:
                if row.open:
                    closing.cancel(self._queue, tx, row.id, Range.of(row.id, False), "its project was deleted", actor)
            before = rows[-1].id

    # --- looking ---

    def page(
        self, who: Principal, project: str | None, *,
        states: tuple[str, ...], name: str, array: str, since: int, after: str, limit: int,
    ) -> Awaitable[Page]:  # fmt: skip
        """Jobs of a project, or of all that `who` may see; newest first."""
        try:
            wanted = read_states(",".join(states)) or tuple(State)
        except KeyError as unknown:
            names = ", ".join(state.label for state in State)
            raise BadInput(
                f"{str(unknown).strip(chr(39)).lower()!r} is not a state of a job", f"states are {names}"
            ) from None
        which = EVERYTHING if not array else Range.of(ids.read(array)[0], ids.read(array)[1])
        if after:
            which = Range(which.first, min(which.end, ids.read(after)[0]))

        def unit(tx: Tx) -> Page:
            found: list[JobRow | DoneRow] = []
            for number in self._visible(tx, who, project):
                found += jobs.page(tx, number, wanted, which, limit)
            found = sorted(found, key=lambda row: -row.id)[:limit]
            names = _Names.on(tx)
            shown = [self._view(tx, names, row) for row in found]
            shown = [job for job in shown if job.submitted >= since and (not name or job.name == name)]
            more = ids.show(found[-1].id, True) if len(found) == limit else ""
            return Page(items=tuple(shown), next=more)

        act = Act.JOB_LIST if project else Act.JOB_LIST_ALL
        return self._gate.read(who, act, unit, project=project or None)

    def _visible(self, tx: Tx, who: Principal, project: str | None) -> list[int | None]:
        if project:
            return [self._gate.project(tx, project, who).id]
        if who.project:
            return [who.project]
        if who.super_user:
            return [None]
        return list(members.projects_of(tx, who.user))

    def arrays(self, who: Principal, project: str, after: str, limit: int) -> Awaitable[Page]:
        """Submissions of a project, newest first."""
        before = ids.read(after)[0] if after else 1 << 62

        def unit(tx: Tx) -> Page:
            rows = arrays.page(tx, self._gate.project(tx, project, who).id, before, limit)
            names = _Names.on(tx)
            shown = [views.array(row, project, names.user(row.submitter), self._states(tx, row.id)) for row in rows]
            return Page(items=tuple(shown), next=ids.show(rows[-1].id) if len(rows) == limit else "")

        return self._gate.read(who, Act.JOB_LIST, unit, project=project)

    def _states(self, tx: Tx, array: int) -> dict[str, int]:
        which = Range.of(array, False)
        return {state.label: count for state, count in (jobs.count(tx, which) | jobs.count_done(tx, which)).items()}

    def detail(self, who: Principal, id: str) -> Awaitable[JobDetail | ArrayView]:
        """Everything about one job, or the counts of an array."""
        return self._gate.read(
            who, Act.JOB_SHOW, lambda tx: self.show(tx, target(tx, self._gate, who, Act.JOB_SHOW, id))
        )

    def show(self, tx: Tx, what: Target, ended: DoneRow | None = None) -> JobDetail | ArrayView:
        """Within a unit. `ended`: how the job has ended, if that has been read."""
        names = _Names.on(tx)
        row = what.row
        if not what.single:
            return views.array(row, names.project(row.project), names.user(row.submitter), self._states(tx, row.id))
        job: JobRow | DoneRow | None = ended or jobs.get(tx, what.job) or jobs.done(tx, what.job)
        about = page.job(tx, row.id, what.job)
        if job is None or about is None:
            raise Conflict(f"{what.shown} has just been removed")
        names.projects[row.project], names.users[row.submitter] = about.project, about.submitter
        names.workers = {one.row.worker: one.worker for one in about.history}
        return views.detail(self._view(tx, names, job, row, [one.row for one in about.history]), about)

    def _view(
        self, tx: Tx, names: _Names, row: JobRow | DoneRow,
        array: ArrayRow | None = None, history: Sequence[AttemptRow] = (),
    ) -> JobView:  # fmt: skip
        """A job in a list. Its submission and its attempts are read if they are not given."""
        array = array or arrays.get(tx, ids.array(row.id))
        assert array is not None, "a job has a submission"
        known = {one.number: one for one in history}
        last = (known.get(row.attempts) or attempts.get(tx, row.id, row.attempts)) if row.attempts else None
        worker = names.worker(last.worker) if last else ""
        accepted = row.accepted if isinstance(row, DoneRow) else 0
        ran = last
        if accepted not in (0, row.attempts):
            ran = known.get(accepted) or attempts.get(tx, row.id, accepted)
        # Not in the writer: one look at one field, which says only what the server takes to be so anyway.
        run = self._queue.index.running.get(row.id)
        ahead = run is not None and run.ahead and row.state is State.RUNNING
        return views.job(
            row, array, names.project(row.project), names.user(array.submitter), last, worker,
            wall=ran.wall if ran and ran.ended and ran.wall else None, waits_for_room=ahead,
        )  # fmt: skip

    # --- why ---

    def why(self, who: Principal, id: str) -> Awaitable[WhyView]:
        """Why a job is not running; of an array, why its first job that does not run does not."""

        async def answer() -> WhyView:
            # In the writer, because the index may only be read there; it writes nothing, so it costs no commit.
            return await self._store.write(unit)

        def unit(tx: Tx) -> WhyView:
            what = target(tx, self._gate, who, Act.JOB_SHOW, id)
            number = what.job
            if not what.single:
                idle = [row for row in jobs.of_array(tx, what.row.id) if row.state is not State.RUNNING]
                number = idle[0].id if idle else what.row.id
            return self._why(tx, what, number)

        return answer()

    def _why(self, tx: Tx, what: Target, number: int) -> WhyView:
        row = jobs.get(tx, number)
        shown = ids.show(number, what.row.elements)
        if row is None:
            done = jobs.done(tx, number)
            assert done is not None, "a job is live or finished"
            text = done.reason or f"it has {done.state.label}"
            step = "cpcc retry " + shown if done.state is not State.SUCCEEDED else ""
            return _reasons(shown, done.state, [Because("ended", text, step)])
        if row.state is State.RUNNING:
            run = self._queue.index.running[number]
            name = _Names.on(tx).worker(run.worker)
            if run.ahead:
                words = f"it is placed at worker {name}, and waits for room there: brief jobs are given ahead"
                return _reasons(shown, row.state, [Because("placed", words)])
            return _reasons(shown, row.state, [Because("running", f"it runs on {name}, attempt {run.lease.attempt}")])
        if row.state is State.BLOCKED:
            found = [*_held(tx, what.row), *self._blockers(tx, what.row.id)]
            return _reasons(shown, row.state, [*found, *_again(tx, row)])
        return _reasons(shown, row.state, self._waiting(tx, row))

    def _blockers(self, tx: Tx, array: int) -> list[Because]:
        found = []
        for edge in dependencies.of(tx, array):
            before = arrays.get(tx, ids.array(edge.before))
            name = ids.show(edge.before, before is not None and before.elements and ids.index(edge.before) > 0)
            left = f"; {before.open} of its {before.size} job(s) are not finished" if before else ""
            need = "succeed" if edge.needs_success else "end"
            found.append(Because("blocked", f"it waits for {name} to {need}{left}", f"cpcc why {name}"))
        return found

    def _waiting(self, tx: Tx, row: JobRow) -> list[Because]:
        queue = self._queue
        queue.need(tx, row.requirement)
        intake = self._storage.intake_paused
        known = sum(
            one.bundle > 0 and one.revoked is None for one in workers.seen_since(tx, tx.now - 7 * 86_400_000_000)
        )
        silent = known - sum(not session.home for session in queue.index.sessions.values())
        facts = Facts(
            job=row.id, state=row.state, project=row.project,
            requirement=queue.index.requirements[row.requirement], number=row.requirement, key=row.key,
            exact=queue.exact(tx, ids.array(row.id)), ahead=jobs.ahead(tx, row), silent=max(0, silent),
        )  # fmt: skip
        found = why.waiting(queue.index, facts, queue.now)
        if found[0].kind not in ("soon", "paused"):
            pools = self.pools_say(tx, facts)
            if pools and found[0].kind == "no-worker":
                found[0] = replace(found[0], step="pools bring them, or start one: cpc-worker -c BUNDLE.cnx")
            found = [*pools, *found]  # what is on its way comes first
        if found[-1].kind in ("no-worker", "nobody") and (connected := self.servers()):
            found.append(why.nobody_lends(connected))
        found += _again(tx, row)
        return [Because("intake", intake, "see `cpcc status`"), *found] if intake else found

    def _warnings(self, tx: Tx, project: int, spec: JobSpec) -> tuple[str, ...]:
        """For a dry run: what would keep it from running now."""
        from cpc.queue import requirement

        needed = requirement.of(spec)
        facts = Facts(
            job=0, state=State.WAITING, project=project, requirement=needed, number=0, key=(0, 0),
            exact=Exact(spec.need, spec.max_cores, spec.walltime, bool(spec.checkpoint)), ahead=0,
        )  # fmt: skip
        return tuple(one.text for one in why.waiting(self._queue.index, facts, self._queue.now) if one.kind != "soon")


def _held(tx: Tx, row: ArrayRow) -> list[Because]:
    """That it belongs to an instance which is held."""
    step = steps.get(tx, row.step) if row.step else None
    if step is None or not steps.parked(tx, step.id, row.id):
        return []
    path = instances.path(tx, step.instance)
    return [
        Because("held", f"{path} is held, and its jobs do not begin before it is activated", f"cpcc activate {path}")
    ]


def _again(tx: Tx, row: JobRow) -> list[Because]:
    """How the attempt before ended."""
    last = attempts.get(tx, row.id, row.attempts) if row.losses or row.failures else None
    if last is None:
        return []
    return [Because("again", f"attempt {last.number} ended {last.outcome}: {last.message}".rstrip(": "))]


def _reasons(shown: str, state: State, found: list[Because]) -> WhyView:
    reasons = tuple(Reason(kind=one.kind, text=one.text, step=one.step) for one in found)
    return WhyView(id=shown, state=state.label, reasons=reasons)
