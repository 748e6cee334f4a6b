"""The bytes of one request as they come: bounded, with back-pressure, and not taken before somebody asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from twisted.internet.defer import Deferred

from cpc.core.errors import BadInput, TooLarge
from cpc.core.resources import show_size


class Gone(Exception):
    """The other side has closed the connection. Nobody is left to be told."""


class Source(Protocol):
    """Where a body comes from: the connection."""

    def pause_body(self) -> None: ...
    def resume_body(self, expected: int) -> None: ...


class Body:
    """`length` is what the headers announce; None when it comes in chunks of unknown number."""

    def __init__(self, source: Source, length: int | None) -> None:
        self.length = length
        self.ended = length == 0
        self._source = source
        self._pieces: list[bytes] = []
        self._size = 0
        self._target = 0
        self._lost = False
        self._discarding = False
        self._waiter: Deferred[None] | None = None

    # --- from the connection ---

    def add(self, data: bytes) -> None:
        """More has come. What nobody waits for stops the connection from reading on."""
        if self._discarding:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._target:
            self._source.pause_body()
            self._wake()

    def end(self) -> None:
        """All of it is here."""
        self.ended = True
        self._wake()

    def lose(self) -> None:
        """The connection is gone before the end."""
        self._lost = True
        self._wake()

    def discard(self) -> None:
        """Nobody will ask for the rest."""
        self._discarding = True
        self._pieces = []

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    # --- for the call ---

    def refuse_larger(self, limit: int) -> None:
        """TooLarge when the headers announce more than `limit` bytes."""
        if self.length is not None and self.length > limit:
            raise TooLarge(f"the body has {show_size(self.length)}; at most {show_size(limit)} are taken here")

    async def read(self, limit: int) -> bytes:
        """All of it, at most `limit` bytes."""
        self.refuse_larger(limit)
        await self._until(limit + 1)
        if self._size > limit:
            raise TooLarge(f"the body has more than {show_size(limit)}, the most that is taken here")
        return self._take(self._size)

    async def parts(self, size: int, limit: int) -> AsyncIterator[bytes]:
        """Its parts of `size` bytes in order, the last may be shorter; a part that was cut off is never given."""
        self.refuse_larger(limit)
        total = 0
        while True:
            await self._until(size)
            part = self._take(min(size, self._size))
            total += len(part)
            if total > limit:
                raise TooLarge(f"the body has more than {show_size(limit)}, the most that is taken here")
            if part:
                yield part
            if self.ended and not self._size:
                return

    async def nothing(self) -> None:
        """BadInput unless the body is empty (or `{}`)."""
        if not self.ended and (await self.read(64 << 10)).strip() not in (b"", b"{}", b"null"):
            raise BadInput("this call takes no body")

    async def _until(self, size: int) -> None:
        while not self.ended and self._size < size:
            if self._lost:
                raise Gone
            self._target = size
            self._waiter = Deferred()
            expected = size if self.length is None else min(size, self.length)
            self._source.resume_body(expected - self._size)
            await self._waiter
            self._target = 0
        if self._lost and not self.ended:
            raise Gone

    def _take(self, size: int) -> bytes:
        data = b"".join(self._pieces)
        self._pieces = [data[size:]] if len(data) > size else []
        self._size -= size
        return data[:size] if len(data) > size else data
