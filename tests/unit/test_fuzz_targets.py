"""Whatever reads bytes from outside or from a disk: its examples, changed a little in many ways, end well or in words."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.examples import corpus
from tests.fuzz.targets import TARGETS

CHANGES = {"http": 150, "settings_files": 150, "certificate": 150, "spool": 150}


def changed(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Bits flipped, pieces lost, doubled or taken from elsewhere, numbers at their ends."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(len(made) + 1)
        size = chance.choice([1, 1, 2, 4, 8, 40])
        act = chance.randrange(6)
        if act == 0 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif act == 1:
            del made[at : at + size]
        elif act == 2:
            made[at:at] = made[at : at + size]
        elif act == 3:
            del made[at:]
        elif act == 4:
            made[at : at + size] = chance.choice([b"\0", b"\xff", b"\x7f", b"\xc1", b"\xdd\xff\xff\xff\xff"]) * size
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            made[at:at] = other[start : start + size * 4]
    return bytes(made)


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_and_changed_ones_end_well_or_in_words(name: str) -> None:
    act, known = TARGETS[name], corpus(name)
    chance = random.Random(name)
    for data in (*known, b"", b"\0", b"\xff" * 100):
        act(data)
    for number in range(CHANGES.get(name, 400)):
        data = changed(chance.choice(known), chance, known)
        try:
            act(data)
        except Exception as error:
            raise AssertionError(f"change {number} of {name} breaks it: {data!r}") from error
