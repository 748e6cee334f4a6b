"""The event log for people: pages, and streams that go on for ever without loss or repeat.

A stream is a position in the log. It reads forward until it has everything that is committed, then sleeps until the
writer says that there is more: an idle watcher costs nothing. What is new is read once for all who watch; only a watcher
that lags behind reads for itself. Events are committed in the order of their numbers by one writer, so whoever has read up
to a number has read all there will ever be up to it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core import ids
from cpc.core.errors import BadInput, Gone, NotFound
from cpc.core.views import EventView, Page
from cpc.server import audit
from cpc.server.gate import Gate
from cpc.server.principal import Principal
from cpc.server.roles import Act
from cpc.store import arrays, events, members
from cpc.store.events import EventRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

SCAN = 2000  # events looked at in one read
SCANS = 5  # reads in one page
TAIL = 2000  # newest events kept in memory while somebody watches

_KIND = re.compile(r"[a-z-]+(\.[a-z-]+)*(\.\*)?")
# After one of these, somebody may see more or less than before, or nothing at all.
_RIGHTS = ("member.", "project.", "token.", "bundle.", "user.changed", "user.deleted")


@dataclass(frozen=True, slots=True)
class _Filter:
    """What a reader wants: a kind or `group.*`, a project, a job or array (0: any)."""

    kind: str = ""
    project: int = 0
    array: int = 0
    job: str = ""

    @property
    def like(self) -> str:
        """The kind as an SQL pattern."""
        return self.kind.removesuffix("*") + "%" if self.kind.endswith("*") else self.kind or "%"

    def takes(self, row: EventRow) -> bool:
        """Whether the reader wants this event."""
        group = self.kind.removesuffix("*")
        wanted = row.kind.startswith(group) if group != self.kind else self.kind in ("", row.kind)
        if self.project and row.project != self.project:
            return False
        if self.array and not (row.kind.startswith("job.") and ids.array(row.subject) == self.array):
            return False
        return wanted and (not self.job or self._about_job(row))

    def _about_job(self, row: EventRow) -> bool:
        # An event that names its whole array is about each of its jobs.
        shown = row.details.get("jobs") or ()
        return not shown or self.job in shown or ids.show(self.array) in shown


@dataclass(frozen=True, slots=True)
class _Sight:
    """Whose events somebody sees: all, or those of their projects and what is about workers and the server."""

    everything: bool
    projects: frozenset[int]
    only: int  # the one project of a narrow token

    def sees(self, row: EventRow) -> bool:
        if self.only and row.project not in (0, self.only):
            return False
        if row.project:
            return self.everything or row.project in self.projects
        return (self.everything and not self.only) or row.kind.startswith(("worker.", "server."))


@dataclass(frozen=True, slots=True)
class _Read:
    """What one read gave: events, how far it looked, whether there may be more behind."""

    rows: list[EventRow]
    position: int
    more: bool


class Events:
    """Reads the log for principals."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self._newest = store.writer.last_event
        self._waiting: dict[Deferred[None], None] = {}
        self._tail: deque[EventRow] = deque()
        self._tail_from = self._tail_to = self._newest
        self._pulling = False
        self._rights = 0
        self._subscribers: list[Callable[[int], None]] = []
        store.writer.on_events.append(self._committed)

    # --- pages ---

    async def page(self, who: Principal, after: int = 0, kind: str = "", project: str = "", limit: int = 100) -> Page:
        """Events after a number that `who` may see. `next` is where to go on, also when this page holds few or none.

        `kind` is one kind, or a group as `job.*`. Gone when retention has removed some of what was asked for.
        """
        _check_kind(kind)

        def unit(tx: Tx) -> Page:
            fresh = self._gate.check(tx, who, Act.EVENT_LIST)
            found = self._read(tx, fresh, self._filter(tx, fresh, kind, project, ""), after, limit)
            return Page(items=tuple(map(_view, found.rows)), next=str(found.position) if found.more else "")

        return await self._gate.read(who, Act.EVENT_LIST, unit)

    async def audit(self, who: Principal, after: int = 0, user: str = "", limit: int = 100) -> Page:
        """What was done with special rights, and logins; oldest first."""

        def unit(tx: Tx) -> Page:
            rows = audit.rows(tx, after, limit + 1, user)
            last = str(rows[limit - 1].number) if len(rows) > limit else ""
            return Page(items=tuple(map(_view, rows[:limit])), next=last)

        return await self._gate.read(who, Act.AUDIT, unit)

    # --- streams ---

    def subscribe(self, told: Callable[[int], None]) -> Callable[[], None]:
        """Call `told(number of the newest event)` after each commit with events; the answer ends that."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told)

    async def stream(
        self, who: Principal, after: int = 0, *, kind: str = "", project: str = "", job: str = ""
    ) -> AsyncIterator[EventView]:
        """Events after a number, in commit order, each once; waits for more when there is none.

        Refusals as in `page`, at the first step. It ends with NotLoggedIn when the token or the user does, looked at when
        rights have changed. Close it (or cancel what it waits for) to end it.
        """
        _check_kind(kind)
        wanted = await self._gate.read(who, Act.EVENT_LIST, lambda tx: self._filter(tx, who, kind, project, job))
        rights, sight, position = -1, _Sight(False, frozenset(), 0), after
        while True:
            if position < self._tail_from:
                committed = self._newest
                found = await self._catch_up(who, wanted, position)
                for row in found.rows:
                    yield _view(row)
                position = found.position if found.more else max(found.position, committed)
            elif self._tail_to < self._newest:
                await self._pulled()
            elif position >= self._tail_to:
                await self._more()
            else:
                for row in self._newer(position):
                    if rights != self._rights:
                        rights = self._rights
                        sight = await self._gate.read(who, Act.EVENT_LIST, lambda tx: self._sight(tx, who, wanted))
                    position = row.number
                    if wanted.takes(row) and sight.sees(row):
                        yield _view(row)

    def _newer(self, position: int) -> list[EventRow]:
        found = []
        for row in reversed(self._tail):
            if row.number <= position:
                break
            found.append(row)
        return found[::-1]

    # --- the common tail ---

    def _committed(self, newest: int) -> None:
        self._newest = newest
        if self._waiting:
            self._start_pull()
        for told in list(self._subscribers):
            told(newest)

    def _pulled(self) -> Deferred[None]:
        waiter = self._more()
        self._start_pull()
        return waiter

    def _more(self) -> Deferred[None]:
        """Fires when the tail has grown; fails when it cannot be read."""
        waiter: Deferred[None] = Deferred(lambda gone: self._waiting.pop(gone, None))
        self._waiting[waiter] = None
        return waiter

    def _start_pull(self) -> None:
        # Not by the watcher who wants it: others wait for it too, and that one may leave.
        if not self._pulling:
            self._pulling = True
            ensureDeferred(self._pull()).addErrback(self._wake)

    async def _pull(self) -> None:
        """Read what is new into the tail and wake who waits. After a long gap begin a new tail instead."""
        try:
            while self._tail_to < self._newest:
                last = self._newest
                rows, whole = await self._fresh(last)
                if not whole:
                    self._tail.clear()
                    self._tail_from = last
                self._tail.extend(row for row in rows if row.number > self._tail_from)
                while len(self._tail) > TAIL:
                    self._tail_from = self._tail.popleft().number
                self._tail_to = last
                if not whole or any(row.kind.startswith(_RIGHTS) for row in rows):
                    self._rights += 1
        finally:
            self._pulling = False
        self._wake(None)

    def _fresh(self, last: int) -> Deferred[tuple[list[EventRow], bool]]:
        """What came since the last pull, and whether that is all of it: not too much, nothing removed meanwhile."""
        after = self._tail_to

        def unit(tx: Tx) -> tuple[list[EventRow], bool]:
            rows = events.between(tx, after, last, TAIL)
            return rows, len(rows) < TAIL and events.trimmed(tx) <= after

        return self._store.read(unit)

    def _wake(self, failure: Failure | None) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if failure is None:
                waiter.callback(None)
            else:
                waiter.errback(failure)

    # --- reading ---

    async def _catch_up(self, who: Principal, wanted: _Filter, after: int) -> _Read:
        def unit(tx: Tx) -> _Read:
            return self._read(tx, self._gate.check(tx, who, Act.EVENT_LIST), wanted, after, SCAN)

        return await self._gate.read(who, Act.EVENT_LIST, unit)

    def _read(self, tx: Tx, who: Principal, wanted: _Filter, after: int, limit: int) -> _Read:
        """Up to `limit` events after a number: as many reads of bounded size as it takes, but not too many."""
        sight = self._sight(tx, who, wanted)
        user = None if who.super_user else who.user
        gone = events.trimmed(tx, project=wanted.project, user=user)
        if 0 < after < gone:
            raise Gone(
                f"some events after number {after} are past their retention", f"start again after {gone}, or from 0"
            )
        rows: list[EventRow] = []
        position = after
        for _ in range(SCANS):
            last, more = events.window(tx, position, SCAN, wanted.project)
            room = limit - len(rows)
            found = events.between(tx, position, last, room, kind=wanted.like, project=wanted.project, user=user)
            rows += [row for row in found if wanted.takes(row) and sight.sees(row)]
            if len(found) == room:
                return _Read(rows, found[-1].number, True)
            position = last
            if not more:
                return _Read(rows, position, False)
        return _Read(rows, position, True)

    def _filter(self, tx: Tx, who: Principal, kind: str, project: str, job: str) -> _Filter:
        wanted = self._gate.project(tx, project, who).id if project else 0
        if wanted:
            self._gate.check(tx, who, Act.PROJECT_SHOW, wanted, f"project {project}")
        if not job:
            return _Filter(kind, wanted)
        number, element = ids.read(job)
        row = arrays.get(tx, ids.array(number))
        if row is None or wanted not in (0, row.project):
            raise NotFound(f"there is no job {job[:40]}", "see `cpcc jobs`")
        self._gate.check(tx, who, Act.JOB_SHOW, row.project, f"job {job[:40]}")
        return _Filter(kind, row.project, row.id, ids.show(number, True) if element and row.elements else "")

    def _sight(self, tx: Tx, who: Principal, wanted: _Filter) -> _Sight:
        who = self._gate.check(tx, who, Act.PROJECT_SHOW if wanted.project else Act.EVENT_LIST, wanted.project)
        mine = frozenset[int]() if who.super_user else members.projects_of(tx, who.user)
        return _Sight(who.super_user, mine, who.project)


def _check_kind(kind: str) -> None:
    if kind and not (len(kind) <= 64 and _KIND.fullmatch(kind)):
        raise BadInput(f"{kind[:40]!r} is not a kind of event", "kinds look like job.failed; job.* means all of job")


def _view(row: EventRow) -> EventView:
    if row.kind.startswith("job.") and row.subject:
        jobs: list[str] = row.details.get("jobs") or []
        subject = jobs[0] if len(jobs) == 1 else ids.show(ids.array(row.subject))
    else:
        named = row.details.get("name") or row.details.get("worker")
        subject = str(named) if named else ids.show(row.subject) if row.subject else ""
    return EventView(
        number=row.number, time=row.time, actor=row.actor, kind=row.kind, version=row.version,
        project=row.project_name, subject=subject, details=row.details,
    )  # fmt: skip
