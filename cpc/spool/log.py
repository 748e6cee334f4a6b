"""An append-only file of frames: mark, length, CRC-32, body. Damage is found, stepped over and kept aside.

A frame starts with a mark that is looked for after damage, so that one flipped bit costs one frame and not all that
come after it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cpc.core.errors import Damaged
from cpc.spool.disk import Disk

MARK = b"\x89CPCs\r\n\x1a"
MAX_BODY = 256 << 20
_HEAD = struct.Struct(">8sII")
_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """A good frame: where it begins, how many bytes it takes with its head, and its body."""

    offset: int
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes from `start` up to `end` that are no frame."""

    start: int
    end: int


def frame(body: bytes) -> bytes:
    """The bytes to append for this body."""
    return _HEAD.pack(MARK, len(body), zlib.crc32(body)) + body


def read_frame(disk: Disk, path: str, offset: int) -> Frame | None:
    """The frame that begins exactly here, None when there is no good one."""
    head = disk.read(path, offset, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack(head)
    if mark != MARK or length > MAX_BODY:
        return None
    body = disk.read(path, offset + _HEAD.size, length)
    if len(body) < length or zlib.crc32(body) != crc:
        return None
    return Frame(offset, _HEAD.size + length, body)


def body_at(disk: Disk, path: str, offset: int) -> bytes:
    """The body of the frame at `offset`, or Damaged with the file's name."""
    found = read_frame(disk, path, offset)
    if found is None:
        raise Damaged(f"{path} is damaged at byte {offset}", "the disk lost or changed what was written there")
    return found.body


def frames(disk: Disk, path: str) -> Iterator[Frame | Hole]:
    """Every frame of the file in order, and the holes between them. A missing file is an empty one."""
    facts = disk.stat(path)
    end = facts.size if facts else 0
    offset = 0
    while offset < end:
        found = read_frame(disk, path, offset)
        if found is not None:
            yield found
            offset += found.size
            continue
        start = offset
        offset = _next_good(disk, path, offset + 1, end)
        yield Hole(start, offset)


def _next_good(disk: Disk, path: str, offset: int, end: int) -> int:
    """Where the next good frame begins at or after `offset`; `end` when there is none."""
    while offset < end:
        window = disk.read(path, offset, _WINDOW)
        place = window.find(MARK)
        if place >= 0:
            if read_frame(disk, path, offset + place) is not None:
                return offset + place
            offset += place + 1
        elif len(window) < _WINDOW:
            return end
        else:
            offset += len(window) - len(MARK) + 1
    return end
