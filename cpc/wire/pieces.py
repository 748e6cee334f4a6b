"""Bytes in the pieces in which they came."""

from __future__ import annotations

from collections.abc import Sequence

Piece = bytes | bytearray | memoryview


class Pieces:
    """What is too large to be copied for nothing: passed on it stays in its pieces, and is put together only where it is read."""

    __slots__ = ("_size", "parts")

    def __init__(self, parts: Sequence[Piece]) -> None:
        self.parts = tuple(parts)
        self._size = sum(map(len, self.parts))

    def __len__(self) -> int:
        """All bytes."""
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def whole(self) -> bytes | memoryview:
        """In one piece; copied unless it is one."""
        return memoryview(self.parts[0]) if len(self.parts) == 1 else bytes(self)

    def after(self, start: int) -> Pieces:
        """Without the first `start` bytes, which are of the first piece."""
        first, *others = self.parts
        return Pieces((memoryview(first)[start:], *others))
