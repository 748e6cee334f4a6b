"""The queue in memory: windows of waiting jobs, running jobs, joined workers. An index of the database, never the truth.

Every change notes its inverse in the journal of the writer's batch (`cpc.core.journal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from cpc.core.journal import Journal
from cpc.core.lease import Lease
from cpc.queue.lent import Lent
from cpc.queue.requirement import Profile, Requirement, misses
from cpc.queue.session import Running, Session
from cpc.queue.share import Shares
from cpc.queue.window import UNTRIED, Key, Tried, Window


class Index:
    """All that matching looks at."""

    def __init__(self, journal: Journal, half_life: float = 86400.0) -> None:
        self.journal = journal
        self.shares = Shares(half_life, journal)
        self.requirements: dict[int, Requirement] = {}
        self.windows: dict[tuple[int, int], Window] = {}  # (project, class)
        self.running: dict[int, Running] = {}
        self.sessions: dict[int, Session] = {}
        self.paused: set[int] = set()  # projects that get no new leases
        self.changed: dict[int, Session] = {}  # workers that may be lent whose room has changed; the queue empties it
        self._by_worker: dict[int, int] = {}  # worker → its session
        self._held: dict[int, dict[int, Running]] = {}  # worker → what of `running` names it
        self._alike: dict[
            tuple[int, int], dict[int, Running]
        ] = {}  # (project, class) → what of `running` is of it, in order
        self._hungry: dict[Profile, dict[int, Session]] = {}
        self._can_run: dict[Profile, dict[int, bool]] = {}

    # --- waiting ---

    def window(self, project: int, requirement: int) -> Window:
        """The window of a project and class; made when it is first asked for."""
        found = self.windows.get((project, requirement))
        if found is None:
            found = self.windows[project, requirement] = Window(project, requirement, self.journal)
        return found

    def waiting(self, project: int, requirement: int, key: Key, tried: Tried = UNTRIED) -> None:
        """A job is eligible now."""
        self.window(project, requirement).add(key, tried)

    def not_waiting(self, project: int, requirement: int, key: Key) -> None:
        """A job is not eligible any more."""
        self.window(project, requirement).remove(key)

    def prune(self) -> None:
        """Between batches: windows and classes that hold nothing cost nothing."""
        for place, window in list(self.windows.items()):
            if window.total <= 0 and not window.entries:
                del self.windows[place]
        used = {requirement for _, requirement in self.windows}
        used.update(run.requirement for run in self.running.values())
        for gone in [number for number in self.requirements if number not in used]:
            self._unlearn(gone)

    def learn(self, number: int, requirement: Requirement) -> None:
        """A class, by its number; a rollback takes it back, because the number may then go to another class."""
        if number not in self.requirements:
            self.requirements[number] = requirement
            self.journal.note(self._unlearn, number)

    # --- running ---

    def load(self, run: Running) -> None:
        """A job that runs already, at the start."""
        self.running[run.lease.job] = run
        self._held.setdefault(run.worker, {})[run.lease.job] = run
        self._alike.setdefault((run.project, run.requirement), {})[run.lease.job] = run

    def held(self, worker: int) -> list[Running]:
        """What a worker runs, joined or not; a copy: the caller ends some."""
        return list(self._held.get(worker, {}).values())

    def cores(self, worker: int) -> int:
        """How many cores jobs of ours have there."""
        return sum(run.granted.cores for run in self._held.get(worker, {}).values() if not run.ahead)

    def holders(self) -> list[int]:
        """The workers that have jobs of ours, joined or not."""
        return list(self._held)

    def ages(self, project: int, requirement: int, now: int) -> tuple[int, int, int]:
        """How many jobs of a project and class run, for how long (µs) the one that began first has, and the one in the middle."""
        runs = self._alike.get((project, requirement), {})
        if not runs:
            return 0, 0, 0
        first, middle = next(iter(runs.values())), next(islice(runs.values(), len(runs) // 2, None))
        return len(runs), max(0, now - first.started), max(0, now - middle.started)

    def start(self, run: Running) -> None:
        """A job got a lease."""
        self.load(run)
        self.journal.note(self._unload, run)
        session = self._session_of(run.worker)
        if session is not None:
            self._take(session, run)

    def end(self, job: int) -> Running:
        """The job's lease is over; its resources are free again."""
        run = self.running[job]
        self._unload(run)
        self.journal.note(self.load, run)
        session = self._session_of(run.worker)
        if session is not None and job in session.leases:
            self._let_go(session, run)
            self._promote(session)
        return run

    def over(self, session: Session, run: Running | Lent) -> None:
        """Its program has ended; the lease goes on until the result is here, but its resources are free."""
        if not session.lets_go(run):
            return
        before = dict(session.ahead)
        self._drop(session, run)
        run.ahead, run.over = False, True
        self._add(session, run)
        self.journal.note(self._unfinish, session, run, before)
        self._promote(session)

    def alter(self, run: Running, **values: object) -> None:
        """Set fields of a running job; the session's room does not depend on any of them."""
        before = {name: getattr(run, name) for name in values}
        self.journal.note(_assign, run, before)
        _assign(run, values)

    # --- lent ---

    def lend(self, session: Session, lent: Lent) -> None:
        """The worker gets a job of another server."""
        self._take(session, lent)

    def returned(self, session: Session, leases: Iterable[Lease]) -> list[Lent]:
        """Jobs of other servers are over here; those that were there."""
        found = [lent for lease in leases if (lent := session.lent.get(lease)) is not None]
        for lent in found:
            self._let_go(session, lent)
        self._promote(session)
        return found

    # --- workers ---

    def join(self, session: Session) -> None:
        """A worker is here; its leases are those of `running` that name it."""
        self.sessions[session.number] = session
        self._by_worker[session.worker] = session.number
        self.journal.note(self._forget_session, session)
        for run in sorted(self.held(session.worker), key=lambda run: run.ahead):
            # After a restart of this server nobody knows which of them the worker has begun: the oldest, most likely.
            ahead = run.ahead or not (run.over or session.free.covers(run.granted))
            self._mark(run, ahead and session.most_ahead > 0)
            self._take(session, run)
        self._promote(session)
        self._sort(session)

    def leave(self, number: int) -> Session:
        """A worker's session is over. Its leases stay in `running` until they are ended one by one."""
        session = self.sessions[number]
        self._forget_session(session)
        self.journal.note(self._put_back_session, session)
        return session

    def of_worker(self, worker: int) -> Session | None:
        """The worker's session, if it is joined."""
        return self._session_of(worker)

    def change(self, session: Session, **values: object) -> None:
        """Set fields of a session."""
        before = {name: getattr(session, name) for name in values}
        self.journal.note(self._set, session, before)
        self._set(session, values)

    def can_run(self, profile: Profile, requirement: int) -> bool:
        """Whether workers of this profile could ever run jobs of this class. Remembered."""
        answers = self._can_run.setdefault(profile, {})
        answer = answers.get(requirement)
        if answer is None:
            answer = answers[requirement] = not misses(self.requirements[requirement], profile)
        return answer

    def hungry(self, window: Window) -> Iterator[Session]:
        """Joined workers that could be given a job of this window now, as far as can be told without its exact need."""
        for profile, sessions in self._hungry.items():
            if sessions and self.can_run(profile, window.requirement):
                least = self.requirements[window.requirement].least
                for session in sessions.values():
                    if session.serves(window.project) and session.free.covers(least):
                        yield session

    def candidates(self, session: Session) -> Iterator[Window]:
        """Windows with jobs that this worker could ever run."""
        for window in self.windows.values():
            if (
                window.total > 0
                and session.serves(window.project)
                and window.project not in self.paused
                and self.can_run(session.profile, window.requirement)
            ):
                yield window

    # --- inside ---

    def _unload(self, run: Running) -> None:
        job, worker = run.lease.job, run.worker
        del self.running[job]
        held = self._held[worker]
        del held[job]
        if not held:
            del self._held[worker]
        alike = self._alike[run.project, run.requirement]
        del alike[job]
        if not alike:
            del self._alike[run.project, run.requirement]

    def _session_of(self, worker: int) -> Session | None:
        number = self._by_worker.get(worker)
        return None if number is None else self.sessions.get(number)

    def _forget_session(self, session: Session) -> None:
        self.sessions.pop(session.number, None)
        if self._by_worker.get(session.worker) == session.number:
            del self._by_worker[session.worker]
        self._list(session, False)

    def _put_back_session(self, session: Session) -> None:
        self.sessions[session.number] = session
        self._by_worker[session.worker] = session.number
        self._sort(session)

    def _take(self, session: Session, run: Running | Lent) -> None:
        """The lease is the session's: with its resources, or ahead of them."""
        self._add(session, run)
        self.journal.note(self._drop, session, run)
        if session.asked_for is not None:
            self.change(session, sated=True)

    def _let_go(self, session: Session, run: Running | Lent) -> None:
        self._drop(session, run)
        self.journal.note(self._add, session, run)

    def _promote(self, session: Session) -> None:
        """What waits at the worker and fits what is free now is begun there."""
        promoted = False
        while session.ahead:
            run = next(iter(session.ahead.values()))
            if not session.free.covers(run.granted):
                break
            del session.ahead[_key(run)]
            run.ahead = False
            session.free -= run.granted
            self.journal.note(self._demote, session, run)
            promoted = True
        if promoted:
            self._sort(session)

    def _demote(self, session: Session, run: Running | Lent) -> None:
        """It waits at the worker again, before all others."""
        run.ahead = True
        session.free += run.granted
        session.ahead = {_key(run): run, **session.ahead}
        self._sort(session)

    def _unfinish(self, session: Session, run: Running | Lent, ahead: dict[int | Lease, Running | Lent]) -> None:
        self._drop(session, run)
        run.ahead, run.over = _key(run) in ahead, False
        self._add(session, run)
        session.ahead = ahead
        self._sort(session)

    def _mark(self, run: Running | Lent, ahead: bool) -> None:
        if run.ahead != ahead:
            self.journal.note(setattr, run, "ahead", run.ahead)
            run.ahead = ahead

    def _add(self, session: Session, run: Running | Lent) -> None:
        if isinstance(run, Lent):
            session.lent[run.lease] = run
        else:
            session.leases[run.lease.job] = run.lease
        if run.over:
            session.over[_key(run)] = run
        elif run.ahead:
            session.ahead[_key(run)] = run
        else:
            session.free -= run.granted
        self._sort(session)

    def _drop(self, session: Session, run: Running | Lent) -> None:
        if isinstance(run, Lent):
            session.lent.pop(run.lease, None)
        else:
            session.leases.pop(run.lease.job, None)
        if run.over:
            session.over.pop(_key(run), None)
        elif run.ahead:
            session.ahead.pop(_key(run), None)
        else:
            session.free += run.granted
        self._sort(session)

    def _set(self, session: Session, values: dict[str, object]) -> None:
        if "profile" in values:
            self._list(session, False)  # where it is found by the former one
        _assign(session, values)
        self._sort(session)

    def _unlearn(self, number: int) -> None:
        self.requirements.pop(number, None)
        for answers in self._can_run.values():
            answers.pop(number, None)

    def _sort(self, session: Session) -> None:
        """Keep the session where matching looks for it: among the hungry ones of its profile, or nowhere."""
        if session.paths:
            self.changed[session.number] = session
        self._list(session, session.hungry and session.number in self.sessions)

    def _list(self, session: Session, hungry: bool) -> None:
        if hungry is session.listed:
            return
        session.listed = hungry
        sessions = self._hungry.setdefault(session.profile, {})
        if hungry:
            sessions[session.number] = session
        else:
            sessions.pop(session.number, None)


def _key(run: Running | Lent) -> int | Lease:
    """Where it is found among what waits at its worker: others' jobs have their numbers from there."""
    return run.lease if isinstance(run, Lent) else run.lease.job


def _assign(what: Running | Session, values: dict[str, object]) -> None:
    for name, value in values.items():
        setattr(what, name, value)
