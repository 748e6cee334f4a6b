"""Whoever waits for the end of a job is told at once, without polling, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred

from cpc.store.transaction import Tx

_WHOLE = 0  # no job has this id


class Ends:
    """Waiters by submission and, in it, by job. `happened` in a unit of the writer; the rest on the reactor."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[int, list[Deferred[None]]]] = {}

    def happened(self, tx: Tx, array: int, jobs: Iterable[int] | None, over: bool) -> None:
        """These jobs of the submission got a terminal state (None: perhaps any of them), once this is committed.

        `over`: none of it is open any more.
        """
        ended = None if jobs is None else tuple(jobs)
        tx.after(lambda: self._wake(array, ended, over))

    def next(self, array: int, job: int = _WHOLE) -> Deferred[None]:
        """Fires when the job ends, or without one, when all of the submission has. Cancel it to wait no more."""
        waiter: Deferred[None] = Deferred(lambda _: self._drop(array, job, waiter))
        self._waiting.setdefault(array, {}).setdefault(job, []).append(waiter)
        return waiter

    def _wake(self, array: int, jobs: tuple[int, ...] | None, over: bool) -> None:
        waiting = self._waiting.get(array)
        if not waiting:
            return
        told = [job for job in (waiting if jobs is None else jobs) if job != _WHOLE]
        woken = [waiter for job in (*told, *((_WHOLE,) if over else ())) for waiter in waiting.pop(job, ())]
        if not waiting:
            del self._waiting[array]
        for waiter in woken:
            waiter.callback(None)

    def _drop(self, array: int, job: int, waiter: Deferred[None]) -> None:
        jobs = self._waiting.get(array, {})
        waiting = jobs.get(job, [])
        if waiter in waiting:
            waiting.remove(waiter)
        if not waiting:
            jobs.pop(job, None)
        if not jobs:
            self._waiting.pop(array, None)
