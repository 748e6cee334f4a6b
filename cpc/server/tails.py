"""Live output of running attempts: the last part of each stream, in memory, for whoever follows it now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from cpc.core.lease import Lease
from cpc.wire.messages import Tail

KEPT = 256 << 10
STREAMS = ("stdout", "stderr")


@dataclass(slots=True)
class _Stream:
    offset: int = 0  # of the first byte kept
    data: bytearray = field(default_factory=bytearray)

    def add(self, offset: int, data: bytes) -> None:
        end = self.offset + len(self.data)
        if offset > end:  # a part was not sent: begin again there
            self.offset, self.data = offset, bytearray()
            end = offset
        self.data += data[max(0, end - offset) :]
        if len(self.data) > KEPT:
            surplus = len(self.data) - KEPT
            del self.data[:surplus]
            self.offset += surplus


class Tails:
    """Kept only while somebody follows: `wanted` and `unwanted` are told which leases to ask the worker for."""

    def __init__(self, wanted: Callable[[Lease], None]) -> None:
        self._wanted = wanted
        self._followers: dict[Lease, int] = {}
        self._streams: dict[tuple[Lease, str], _Stream] = {}
        self._news: dict[Lease, list[Deferred[None]]] = {}

    def follow(self, lease: Lease) -> None:
        """Somebody begins to watch this attempt."""
        self._followers[lease] = self._followers.get(lease, 0) + 1
        self._wanted(lease)

    def unfollow(self, lease: Lease) -> None:
        """Somebody watches it no more."""
        left = self._followers.get(lease, 1) - 1
        if left > 0:
            self._followers[lease] = left
            return
        self._followers.pop(lease, None)
        for stream in STREAMS:
            self._streams.pop((lease, stream), None)

    def followed(self, leases: tuple[Lease, ...]) -> tuple[Lease, ...]:
        """Which of these somebody watches: told to a worker that joins again."""
        return tuple(lease for lease in leases if lease in self._followers)

    def take(self, tail: Tail) -> None:
        """What a worker sent."""
        if tail.lease in self._followers and tail.stream in STREAMS:
            self._streams.setdefault((tail.lease, tail.stream), _Stream()).add(tail.offset, tail.data)
            self.wake(tail.lease)

    def wake(self, lease: Lease) -> None:
        """Something happened to the attempt."""
        for waiter in self._news.pop(lease, []):
            waiter.callback(None)

    def news(self, lease: Lease) -> Deferred[None]:
        """Fires at the next output, or when the attempt ends."""
        waiter: Deferred[None] = Deferred(lambda _: self._news.get(lease, []).remove(waiter))
        self._news.setdefault(lease, []).append(waiter)
        return waiter

    def read(self, lease: Lease, stream: str, offset: int, limit: int) -> tuple[int, bytes]:
        """What is kept from `offset` on: where it begins (later, if the beginning is not kept), and the bytes."""
        found = self._streams.get((lease, stream))
        if found is None:
            return offset, b""
        start = max(offset, found.offset)
        data = bytes(found.data[start - found.offset : start - found.offset + limit])
        return start, data
