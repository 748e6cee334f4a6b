"""Threads for what blocks: the database's writer and reader, the disk, passwords. One small pool for each purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Pool:
    """`run` does a call in one of `size` threads; with one thread, calls run in order."""

    def __init__(self, reactor: Any, name: str, size: int = 1) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=size, maxthreads=size, name=name)
        self._pool.start()

    def run(self, call: Callable[[], T]) -> Deferred[T]:
        """The call's value, later."""
        return deferToThreadPool(self._reactor, self._pool, call)

    def stop(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.stop()
