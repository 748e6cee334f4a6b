"""Slow work (hashing, fsync, walking directories) away from the reactor: a thread; inline in simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Runs `work` and gives its result, or raises what it raised. `work` touches nothing that the reactor changes."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def inline(work: Callable[[], T], /) -> T:
    """At once, in the caller's thread: for simulation and for programs without a thread pool."""
    return work()
