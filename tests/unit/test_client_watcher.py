"""Following many jobs: how much is asked for, and in what time an end is noticed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cpc.client import watcher
from cpc.client.watcher import Watcher
from cpc.core import ids
from cpc.core.views import JobView
from tests.helpers import sample_views as sample

SIZE = 10_000
AT_ONCE = 64  # jobs that run at the same time, and end in any order


class Transport:
    def abort(self) -> None:
        pass


class Crowd:
    """A client whose server runs an array in about the order of submission; counts what it was asked for."""

    transport = Transport()

    def __init__(self) -> None:
        self.over = [False] * SIZE
        self.first = 0
        self.waits = self.pages = self.sent = 0

    def wait(self, job: str, timeout: float) -> Any:
        self.waits += 1
        self._work()
        index = ids.index(ids.read(job)[0])
        return sample.detail(job, state="succeeded" if self.over[index] else "running")

    def _work(self) -> None:
        """Of those that run, all but one in three end; the oldest does not always."""
        for index in range(self.first, min(SIZE, self.first + AT_ONCE)):
            if (index * 7 + self.waits) % 3:
                self.over[index] = True
        while self.first < SIZE and self.over[self.first]:
            self.first += 1

    def jobs_page(self, project: str, *, states: str, array: str, after: str, limit: int) -> tuple[list[JobView], str]:
        assert (project, array, states) == ("p", "5", "succeeded,failed,cancelled")
        self.pages += 1
        top = min(SIZE, ids.index(ids.read(after)[0]))
        found = [index for index in range(top - 1, -1, -1) if self.over[index]][:limit]
        self.sent += len(found)
        jobs = [sample.job(f"5[{index}]", state="succeeded") for index in found]
        return jobs, jobs[-1].id if len(jobs) == limit else ""

    def close(self) -> None:
        pass


class Future:
    """What the watcher needs of one."""

    def __init__(self, job: str, left: threading.Semaphore) -> None:
        self.job = job
        self.ended: list[str] = []
        self._left = left

    def settle(self, found: JobView) -> None:
        self.ended.append(found.id)
        self._left.release()


def test_ten_thousand_jobs_are_followed_with_few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PAGE", 100)
    monkeypatch.setattr(watcher, "SHORTEST", 0.0)
    monkeypatch.setattr(watcher, "SHARE", 0)
    crowd, left = Crowd(), threading.Semaphore(0)
    following = Watcher(crowd, "p")  # type: ignore[arg-type]
    futures = [Future(f"5[{index}]", left) for index in range(SIZE)]
    following.add(futures)  # type: ignore[arg-type]
    for _ in range(SIZE):
        assert left.acquire(timeout=30)
    following.stop(wait=False)
    assert all(future.ended == [future.job] for future in futures)
    assert crowd.waits < SIZE / 10
    assert crowd.sent < 12 * SIZE
    assert crowd.pages < SIZE / 5
