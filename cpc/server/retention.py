"""What is over goes away: expired uploads, unused chunks, old jobs, results, events and answers.

Everything is done in steps of one small commit each, so that the writer is never held up for long; whatever a stop cuts
short goes on at the next round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.logger import Logger

from cpc.core.clock import SECOND, Clock, Timer, Timers
from cpc.core.errors import CopernicusError
from cpc.store import allocations, chunkstore, drafts, history, networks, uploads
from cpc.store.chunkstore import ChunkStore, Removed
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

STEP = 250  # rows in one commit: some ten milliseconds on a slow disk
ROUND = 60.0
LONG_ROUND = 3600.0


#: Files that are kept at hand for controllers: seconds without anybody asking. The longest run may take a week.
AT_HAND = 8 * 86400.0


class Directories(Protocol):
    """Local files of projects; `cpc.server.workspace.Workspace`."""

    def forget_project(self, project: int) -> Awaitable[None]: ...
    def tidy(self, before: float) -> Awaitable[None]: ...


class Borrowed(Protocol):
    """Workers of other servers; `cpc.server.federation.register.Register`."""

    def forget(self, tx: Tx, before: int, limit: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many seconds things are kept after their end; 0: for ever."""

    jobs: float = 0.0  # finished submissions, whole
    results: float = 0.0  # output files of finished jobs
    events: float = 90 * 86400.0  # about jobs
    audit: float = 400 * 86400.0  # all other events


class Retention:
    """Runs a short round each minute (uploads, chunks, deleted projects) and a long one each hour (history)."""

    def __init__(
        self,
        store: Store,
        chunks: ChunkStore,
        keep: Callable[[], Keep],
        expire_answers: Callable[[], Awaitable[int]],
        clock: Clock,
        timers: Timers,
    ) -> None:
        self._store = store
        self._chunks = chunks
        self._keep = keep
        self._expire_answers = expire_answers
        self._clock = clock
        self._timers = timers
        self._timer: Timer | None = None
        self._one = DeferredLock()
        self._stopped = False
        self._long_due = 0.0
        self.directories: Directories | None = None  # set by whoever puts the server together
        self.borrowed: Borrowed | None = None  # so is this

    def start(self) -> None:
        """Begin the rounds; the first sweeps up files that a crash has left."""
        self._stopped = False
        self._run(self._chunks.sweep())

    def stop(self) -> None:
        """End after the step that is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _run(self, work: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await work
            except CopernicusError as refusal:
                log.warn("housekeeping goes on later: {reason}", reason=refusal)
            finally:
                if not self._stopped:
                    self._timer = self._timers.callLater(ROUND, lambda: self._run(self.round()))

        ensureDeferred(guarded()).addErrback(lambda failure: log.failure("housekeeping failed", failure))

    async def round(self) -> None:
        """A short round, and a long one when it is due."""
        await self.short_round()
        if self._clock.monotonic() >= self._long_due:
            self._long_due = self._clock.monotonic() + LONG_ROUND
            await self.long_round()

    async def short_round(self, grace: float = chunkstore.GRACE) -> Removed:
        """Expired uploads and files, jobs of deleted projects, forgotten ones, chunks unused for `grace` seconds; what was
        freed.
        """
        await self._one.acquire()
        try:
            await self._steps(lambda: self._store.write(lambda tx: uploads.expire(tx, STEP)))
            for doomed in (history.arrays_of_deleted_projects, history.half_forgotten):
                while arrays := await self._store.read(lambda tx, doomed=doomed: doomed(tx, STEP)):  # type: ignore[misc]
                    for array in arrays:
                        await self.purge(array)
                    if self._stopped:
                        break
            await self._forget_networks()
            return await self._chunks.collect(grace)
        finally:
            self._one.release()

    async def _forget_networks(self) -> None:
        """Networks of deleted projects, and open transactions of sessions that have ended."""
        await self._steps(lambda: self._store.write(lambda tx: drafts.drop_orphans(tx, STEP)))
        for project in await self._store.read(lambda tx: networks.of_deleted_projects(tx, STEP)):
            # First: what would be left behind then, nobody would know of.
            if self.directories is not None:
                await self.directories.forget_project(project)
            while not self._stopped and not await self._forget_network(project):
                pass

    def _forget_network(self, project: int) -> Deferred[bool]:
        return self._store.write(lambda tx: networks.purge(tx, project, STEP))

    async def free_now(self) -> Removed:
        """The disk is nearly full: remove at once what is unused."""
        return await self.short_round(0.0)

    def hurry(self) -> None:
        """Begin `free_now` in the background, unless a round is under way; for `Storage.on_low`."""
        if not self._one.locked:
            ensureDeferred(self.free_now()).addErrback(
                lambda failure: log.warn("making room failed: {reason}", reason=failure.value)
            )

    async def long_round(self) -> None:
        """Submissions, results, events and answers older than their settings."""
        keep = self._keep()
        if keep.jobs:
            await self._old_jobs(self._before(keep.jobs))
        if keep.results:
            await self._old_results(self._before(keep.results))
        if keep.jobs:
            before = self._before(keep.jobs)
            await self._steps(lambda: self._store.write(lambda tx: allocations.forget(tx, before, STEP)))
            if (borrowed := self.borrowed) is not None:
                await self._steps(lambda: self._store.write(lambda tx: borrowed.forget(tx, before, STEP)))
        await self._old_events(self._before(keep.events), self._before(keep.audit))
        await self._steps(self._expire_answers)
        if self.directories is not None:
            await self.directories.tidy(self._before(AT_HAND) / SECOND)

    async def purge(self, array: int) -> None:
        """Forget a finished submission and its files, step by step. One with live jobs is left alone."""
        while not await self._purge_step(array):
            pass

    def _purge_step(self, array: int) -> Deferred[bool]:
        return self._store.write(lambda tx: history.purge(tx, array, STEP))

    def _before(self, seconds: float) -> int:
        """The time that was so long ago; 0, before everything, for what is kept for ever."""
        return self._clock.now() - int(seconds * SECOND) if seconds else 0

    async def _steps(self, step: Callable[[], Awaitable[int]]) -> None:
        while await step() and not self._stopped:
            pass

    async def _old_jobs(self, before: int) -> None:
        after = 0
        while arrays := await self._closed(after, before):
            for array in arrays:
                if not await self._ended_since(array, before):
                    await self.purge(array)
                if self._stopped:
                    return
            after = arrays[-1]

    def _closed(self, after: int, before: int) -> Deferred[list[int]]:
        return self._store.read(lambda tx: history.closed_arrays(tx, after, before, STEP))

    def _ended_since(self, array: int, since: int) -> Deferred[bool]:
        return self._store.read(lambda tx: history.ended_since(tx, array, since))

    async def _old_results(self, before: int) -> None:
        after = -1
        while after and not self._stopped:
            after = await self._result_step(after, before)

    async def _result_step(self, after: int, before: int) -> int:
        old, last = await self._store.read(lambda tx: history.old_results(tx, after, before, STEP))
        while old and not self._stopped:
            old = old[await self._drop(old) :]
        return last

    def _drop(self, results: list[tuple[int, int]]) -> Deferred[int]:
        return self._store.write(lambda tx: history.drop_results(tx, results, STEP))

    async def _old_events(self, jobs: int, others: int) -> None:
        after = -1
        while after and not self._stopped:
            after = await self._event_step(after, jobs, others)

    def _event_step(self, after: int, jobs: int, others: int) -> Deferred[int]:
        return self._store.write(lambda tx: history.trim_events(tx, after, jobs, others, STEP))
