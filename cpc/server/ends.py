"""Whoever waits for the end of a job is told at once, without polling."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from cpc.store.transaction import Tx


class Ends:
    """Waiters by submission. `happened` in a unit of the writer; the rest on the reactor."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Deferred[None]]] = {}

    def happened(self, tx: Tx, array: int) -> None:
        """A job of this submission got a terminal state, once this is committed."""
        tx.after(lambda: self._wake(array))

    def next(self, array: int) -> Deferred[None]:
        """Fires when the next job of the submission ends. Cancel it to wait no more."""
        waiter: Deferred[None] = Deferred(lambda _: self._drop(array, waiter))
        self._waiting.setdefault(array, []).append(waiter)
        return waiter

    def _wake(self, array: int) -> None:
        for waiter in self._waiting.pop(array, []):
            waiter.callback(None)

    def _drop(self, array: int, waiter: Deferred[None]) -> None:
        waiting = self._waiting.get(array, [])
        if waiter in waiting:
            waiting.remove(waiter)
        if not waiting:
            self._waiting.pop(array, None)
