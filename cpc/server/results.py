"""What jobs leave behind, and waiting for it: outputs, logs live and afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import CancelledError, Deferred

from cpc.core import ids
from cpc.core.clock import Clock, Timers
from cpc.core.errors import Conflict, NotFound
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.views import ArrayView, JobDetail, LogView, Page
from cpc.server import views
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.lookup import Target, target
from cpc.server.machines import Machines
from cpc.server.principal import Principal
from cpc.server.queue import Queue
from cpc.server.roles import Act
from cpc.store import attempts, jobs
from cpc.store.store import Store
from cpc.store.transaction import Tx

LONGEST_WAIT = 60.0
PIECE = 64 << 10


class Results:
    """The service behind outputs, logs and `wait`."""

    def __init__(
        self, *, store: Store, gate: Gate, queue: Queue, jobs: Jobs, files: Files, machines: Machines, timers: Timers,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._store = store
        self._gate = gate
        self._queue = queue
        self._jobs = jobs
        self._files = files
        self._machines = machines
        self._timers = timers
        self._clock = clock

    # --- waiting ---

    async def wait(self, who: Principal, id: str, timeout: float) -> JobDetail | ArrayView:
        """The job or array when all of it has ended, or after `timeout` seconds (at most 60) as it is then."""
        end = self._clock.monotonic() + min(timeout, LONGEST_WAIT)

        def unit(tx: Tx, anyway: bool) -> JobDetail | ArrayView | None:
            what = target(tx, self._gate, who, Act.JOB_SHOW, id)
            ended = jobs.done(tx, what.job) if what.single else None
            over = ended is not None or (not what.single and what.row.open == 0)
            return self._jobs.show(tx, what, ended) if over or anyway else None

        number, one = ids.read(id)
        left = min(timeout, LONGEST_WAIT)
        while True:
            # Before looking, so that no end falls in between.
            news = self._queue.ends.next(ids.array(number), number) if one else self._queue.ends.next(number)
            try:
                last = left <= 0
                shown = await self._gate.read(who, Act.JOB_SHOW, lambda tx, last=last: unit(tx, last))  # type: ignore[misc]
                if shown is not None:
                    return shown
                left = end - self._clock.monotonic()
                if left > 0 and not await self._within(news, left):
                    left = 0.0
            finally:
                news.addErrback(lambda failure: failure.trap(CancelledError))
                news.cancel()

    async def _within(self, news: Deferred[None], seconds: float) -> bool:
        """Whether `news` came in time. Cancelled from outside, when nobody waits any more, it raises CancelledError."""
        timer = self._timers.callLater(seconds, news.cancel)
        try:
            await news
        except CancelledError:
            if timer.active():
                raise
            return False
        finally:
            if timer.active():
                timer.cancel()
        return True

    # --- files ---

    async def outputs(self, who: Principal, id: str, attempt: int | None) -> Page:
        """The paths that the accepted attempt left, or another attempt."""
        what, manifest, number = await self._gate.read(
            who, Act.JOB_OUTPUT, lambda tx: self._manifest(tx, who, id, attempt)
        )
        suffix = f"?attempt={number}" if attempt is not None else ""
        base = f"/api/v1/jobs/{what.shown}/outputs"
        shown = [views.file(entry, base) for entry in manifest.entries]
        return Page(items=tuple(shown) if not suffix else tuple(_with(view, suffix) for view in shown))

    async def output(self, who: Principal, id: str, path: bytes, attempt: int | None) -> Entry:
        """One path."""
        what, manifest, _ = await self._gate.read(who, Act.JOB_OUTPUT, lambda tx: self._manifest(tx, who, id, attempt))
        entry = manifest.find(path)
        if entry is None:
            shown = path.decode("utf-8", "replace")
            raise NotFound(f"job {what.shown} has no output {shown!r}", f"see `cpcc fetch --list {what.shown}`")
        return entry

    def _manifest(self, tx: Tx, who: Principal, id: str, attempt: int | None) -> tuple[Target, Manifest, int]:
        what = target(tx, self._gate, who, Act.JOB_OUTPUT, id)
        if not what.single:
            raise Conflict(f"{what.shown} is an array of {what.row.size} jobs", f"name one of them: {what.shown}[0]")
        number = attempt
        if number is None:
            done = jobs.done(tx, what.job)
            if done is None:
                raise Conflict(f"job {what.shown} has not ended yet", f"wait for it: cpcc wait {what.shown}")
            number = done.accepted or done.attempts
        found = attempts.result(tx, what.job, number)
        if found is None:
            return what, Manifest(), number
        return what, found[0], number

    # --- logs ---

    async def log(self, who: Principal, id: str, stream: str, offset: int, limit: int) -> LogView:
        """Part of a stream: what is kept of it while the job runs, the file afterwards."""
        what, lease, _ = await self._gate.read(who, Act.JOB_OUTPUT, lambda tx: self._current(tx, who, id))
        if lease is not None:
            start, data = self._machines.tails.read(lease, stream, offset, limit)
            return _part(stream, start, data, end=False)
        return await self._finished(who, what, stream, offset, limit)

    async def _finished(self, who: Principal, what: Target, stream: str, offset: int, limit: int) -> LogView:
        def unit(tx: Tx) -> tuple[bool, Entry | None]:
            # In one look: a job that ends between two would seem to have ended without output.
            done = jobs.done(tx, what.job)
            if done is None:
                return False, None
            found = attempts.result(tx, what.job, done.accepted or done.attempts)
            return True, found[0].find(stream.encode()) if found else None

        over, entry = await self._store.read(unit)
        if entry is None or entry.content is None:
            return _part(stream, offset, b"", end=over)
        reader = self._files.reader(entry.content)
        data = await reader.read(offset, limit)
        return _part(stream, offset, data, end=offset + len(data) >= reader.size)

    def _current(self, tx: Tx, who: Principal, id: str) -> tuple[Target, Lease | None, int]:
        """The job, its lease while it runs, and the number of the attempt whose output is shown; 0 while it waits."""
        what = target(tx, self._gate, who, Act.JOB_OUTPUT, id)
        if not what.single:
            raise Conflict(f"{what.shown} is an array of {what.row.size} jobs", f"name one of them: {what.shown}[0]")
        run = self._queue.index.running.get(what.job)
        if run is not None:
            return what, run.lease, run.lease.attempt
        done = jobs.done(tx, what.job)
        return what, None, (done.accepted or done.attempts) if done is not None else 0

    async def follow(self, who: Principal, id: str, stream: str, offset: int) -> AsyncIterator[LogView]:
        """A stream from `offset` to its end, as it comes. Goes over from live output to the file by itself.

        Another attempt writes its own output: that is shown from its beginning.
        """
        shown = 0
        while True:
            what, lease, attempt = await self._gate.read(who, Act.JOB_OUTPUT, lambda tx: self._current(tx, who, id))
            if shown and attempt and attempt != shown:
                offset = 0
            shown = attempt or shown
            if lease is not None:
                async for part in self._live(lease, stream, offset):
                    offset = part.next
                    yield part
            else:
                part = await self._finished(who, what, stream, offset, PIECE)
                offset = part.next
                if part.data or part.end:
                    yield part
                if part.end:
                    return
                if not part.data:
                    await self._news(what)

    async def _live(self, lease: Lease, stream: str, offset: int) -> AsyncIterator[LogView]:
        """While this attempt runs."""
        tails = self._machines.tails
        tails.follow(lease)
        try:
            while True:
                start, data = tails.read(lease, stream, offset, PIECE)
                if data:
                    part = _part(stream, start, data, end=False)
                    offset = part.next
                    yield part
                    continue
                run = self._queue.index.running.get(lease.job)
                if run is None or run.lease != lease:
                    return
                news = tails.news(lease)
                try:
                    await self._within(news, 5.0)
                finally:
                    news.addErrback(lambda failure: failure.trap(CancelledError))
                    news.cancel()
        finally:
            tails.unfollow(lease)

    async def _news(self, what: Target) -> None:
        """The job's end, or a second: it waits for a worker."""
        news = self._queue.ends.next(what.row.id, what.job)
        try:
            await self._within(news, 1.0)
        finally:
            news.addErrback(lambda failure: failure.trap(CancelledError))
            news.cancel()


def _with(view: object, suffix: str) -> object:
    import msgspec

    return msgspec.structs.replace(view, url=view.url + suffix)  # type: ignore[attr-defined, type-var]


def _part(stream: str, offset: int, data: bytes, end: bool) -> LogView:
    """Text for people; a character cut at the end of the part comes whole with the next one."""
    if not end and data:
        data = _whole(data)
    return LogView(
        stream=stream, offset=offset, data=data.decode("utf-8", "replace"), end=end, next=offset + len(data)
    )  # fmt: skip


def _whole(data: bytes) -> bytes:
    for cut in range(1, min(4, len(data))):
        if data[-cut] & 0xC0 == 0xC0:  # a first byte of several, that close to the end
            need = 2 if data[-cut] < 0xE0 else 3 if data[-cut] < 0xF0 else 4
            return data[:-cut] if need > cut else data
        if data[-cut] & 0x80 == 0:
            return data
    return data
