"""Bytes as a bad disk gives them back: cut short, or with one bit flipped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from cpc.core.errors import CopernicusError


def attempt(act: Callable[[], object]) -> object:
    """What it gives, or the refusal that it raises."""
    try:
        return act()
    except CopernicusError as error:
        return error


def cut(data: bytes, every: int = 1) -> Iterator[bytes]:
    """Each shorter length; of long data one in `every`."""
    for length in range(0, len(data), every):
        yield data[:length]


def flipped(data: bytes, seed: int, every: int = 1) -> Iterator[tuple[int, bytes]]:
    """(place, data with one bit flipped there), for each byte, or one in `every`."""
    chance = random.Random(seed)
    for place in range(0, len(data), every):
        made = bytearray(data)
        made[place] ^= 1 << chance.randrange(8)
        yield place, bytes(made)
