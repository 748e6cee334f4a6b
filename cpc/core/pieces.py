"""Bytes in the pieces in which they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

Piece: TypeAlias = bytes | bytearray | memoryview


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

    def after(self, start: int) -> Pieces:
        """Without the first `start` bytes, which are of the first piece."""
        first, *others = self.parts
        return Pieces((memoryview(first)[start:], *others))


Data: TypeAlias = bytes | memoryview | Pieces


def parts_of(data: Data) -> tuple[Piece, ...]:
    """What it consists of; of bytes in one piece, that one."""
    return data.parts if isinstance(data, Pieces) else (data,)


def views(data: Data, start: int, length: int) -> Iterator[memoryview]:
    """`length` bytes from `start`, fewer at the end, nothing copied."""
    for part in parts_of(data):
        if start >= len(part):
            start -= len(part)
            continue
        view = memoryview(part)[start : start + length]
        yield view
        length -= len(view)
        start = 0
        if not length:
            return


def pieces_of(data: Data) -> Pieces:
    """The same, nothing copied."""
    return data if isinstance(data, Pieces) else Pieces((data,))


def whole(data: Data) -> bytes | memoryview:
    """In one piece; copied unless it is one."""
    if not isinstance(data, Pieces):
        return data
    return memoryview(data.parts[0]) if len(data.parts) == 1 else bytes(data)
