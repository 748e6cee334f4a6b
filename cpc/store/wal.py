"""SQLite's write-ahead log, looked at before SQLite does: it drops whatever comes after a damaged place without a word.

The log holds frames of one page each, with a check sum over all before it; a transaction ends with a frame that says so. Each
commit is flushed, so a power loss can tear the last transaction only, and nobody was told of that one. Whole transactions
behind a frame that is not what it was are damage: they were acknowledged, and would be gone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682  # with the last bit: check sums over big-endian words
_ALL = 0xFFFFFFFF
LOOKED_THROUGH = 64 << 20  # about a second; a server that was not killed leaves no log at all


@dataclass(frozen=True, slots=True)
class Damage:
    """The first frame that cannot be read lies at byte `offset`; `lost` transactions end behind it."""

    offset: int
    lost: int


def of(database: Path) -> Path:
    """Where the log of a database lies."""
    return database.with_name(database.name + "-wal")


def damage(database: Path, limit: int = LOOKED_THROUGH) -> Damage | None:
    """What SQLite would drop silently; None when nothing of it was acknowledged. The database must not be in use."""
    try:
        with of(database).open("rb") as file:
            data = file.read(limit)
    except FileNotFoundError:
        return None
    if len(data) <= _HEAD.size:
        return None
    magic, _, size, _, salt1, salt2, sum1, sum2 = _HEAD.unpack_from(data)
    little = magic == _MAGIC
    sums = _add(data[:24], little, (0, 0))
    if magic & ~1 != _MAGIC or sums != (sum1, sum2) or not 512 <= size <= 65536:
        return _headless(data)
    step = _FRAME.size + size
    places = range(_HEAD.size, len(data) - step + 1, step)
    for place in places:
        _, _, one, two, sum1, sum2 = _FRAME.unpack_from(data, place)
        sums = _add(data[place : place + 8], little, sums)
        sums = _add(data[place + _FRAME.size : place + step], little, sums)
        if (one, two) != (salt1, salt2) or (sum1, sum2) != sums:
            lost = _commits(data, range(place, places.stop, step), (salt1, salt2))
            return Damage(place, lost) if lost > 1 else None
    return None


def _headless(data: bytes) -> Damage | None:
    """The head is damaged, so that SQLite would take the log for empty. Frames of one generation tell that it is not."""
    for size in (4096, 1024, 8192, 16384, 32768, 65536, 512, 2048):
        step = _FRAME.size + size
        places = range(_HEAD.size, len(data) - step + 1, step)
        if not places:
            continue
        page, _, salt1, salt2, _, _ = _FRAME.unpack_from(data, _HEAD.size)
        lost = _commits(data, places, (salt1, salt2))
        if page and lost:
            return Damage(0, lost)
    return None


def _commits(data: bytes, places: range, salts: tuple[int, int]) -> int:
    """How many frames of this generation end a transaction."""
    found = 0
    for place in places:
        page, ends, one, two, _, _ = _FRAME.unpack_from(data, place)
        found += bool(page and ends and (one, two) == salts)
    return found


def _add(data: bytes, little: bool, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's check sum (section 4.2 of its file format)."""
    one, two = sums
    words = struct.unpack(f"{'<' if little else '>'}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _ALL
        two = (two + second + one) & _ALL
    return one, two
