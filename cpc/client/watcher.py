"""Who of many jobs has ended: one thread and few questions, also for arrays of many thousands.

It waits at the server for the end of the oldest job that it follows; then it asks for the ended jobs above that one,
newest first. Jobs end roughly in the order in which they were submitted, so that is a short list. Between two such looks it
lets some time pass, and the more the longer one takes.
"""

from __future__ import annotations

import threading
import time  # a program of a user is at the edge: it may look at the clock
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cpc.core import ids
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.views import JobDetail, JobView

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.futures import JobFuture

OVER = ("succeeded", "failed", "cancelled")
SHARE = 10  # looking takes at most one part in so many of the time
SHORTEST, LONGEST = 0.25, 5.0  # seconds between two looks
PAGE = 1000


class Watcher:
    """Follows the jobs of one project. Its own client, used by its own thread only."""

    def __init__(self, client: Client, project: str) -> None:
        self._client = client
        self._project = project
        self._lock = threading.Lock()
        self._futures: dict[int, JobFuture] = {}  # in the order of their ids: they are submitted in that order
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, futures: Iterable[JobFuture]) -> None:
        """Follow these too."""
        with self._lock:
            self._futures.update((ids.read(future.job)[0], future) for future in futures)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="copernicus-watcher", daemon=True)
                self._thread.start()
        self._news.set()

    def forget(self, job: str) -> None:
        """Follow it no more."""
        with self._lock:
            self._futures.pop(ids.read(job)[0], None)

    def pending(self) -> list[JobFuture]:
        """What is followed now."""
        with self._lock:
            return list(self._futures.values())

    def stop(self, wait: bool) -> None:
        """End, with `wait` when all that is followed has ended. Nothing can be added afterwards."""
        import concurrent.futures

        if wait:
            concurrent.futures.wait(self.pending())
        self._stopped.set()
        self._news.set()
        self._client.transport.abort()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10.0)
        self._client.close()

    def _run(self) -> None:
        pause, due = SHORTEST, 0.0
        while not self._stopped.is_set():
            with self._lock:
                first = min(self._futures, default=None)
                several = len(self._futures) > 1
            if first is None:
                self._news.wait()
                self._news.clear()
                continue
            self._wait_for(first, pause if several else LONGEST)
            if several:
                # Jobs end one after the other, but are asked for together.
                self._stopped.wait(max(0.0, due - time.perf_counter()))
                begun = time.perf_counter()
                self._look(first)
                now = time.perf_counter()
                pause = min(LONGEST, max(SHORTEST, SHARE * (now - begun)))
                due = now + pause

    def _wait_for(self, number: int, timeout: float) -> None:
        with self._lock:
            future = self._futures.get(number)
        if future is None:
            return
        try:
            found = self._client.wait(future.job, timeout)
        except Unavailable:
            self._pause()  # the client has tried for a while; the server is away longer: try again
        except CopernicusError as error:
            self._end(number, error)
        else:
            if isinstance(found, JobDetail) and found.state in OVER:
                self._end(number, found)

    def _look(self, first: int) -> None:
        """Take note of all that have ended, from the newest that is followed down to `first`."""
        with self._lock:
            last = max(self._futures, default=first)
        array = ids.show(ids.array(first)) if ids.array(first) == ids.array(last) else ""
        after = ids.show(last + 1, True)
        try:
            while after:
                jobs, after = self._client.jobs_page(
                    self._project, states=",".join(OVER), array=array, after=after, limit=PAGE
                )
                for job in jobs:
                    self._end(ids.read(job.id)[0], job)
                if not jobs or ids.read(jobs[-1].id)[0] <= first:
                    return
        except CopernicusError:
            self._pause()

    def _pause(self) -> None:
        self._stopped.wait(2.0)

    def _end(self, number: int, found: JobView | CopernicusError) -> None:
        with self._lock:
            future = self._futures.pop(number, None)
        if future is not None:
            future.settle(found)
