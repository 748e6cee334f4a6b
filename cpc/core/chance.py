"""Randomness as an argument, so that a simulation with the same seed takes the same path."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Chance(Protocol):
    """Where ids, tokens and jitter come from."""

    def token(self, size: int = 16) -> bytes:
        """`size` bytes that nobody can guess."""

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high): jitter."""


class SystemChance:
    """The operating system's randomness."""

    def token(self, size: int = 16) -> bytes:
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        return secrets.SystemRandom().uniform(low, high)


class SeededChance:
    """Repeatable: for simulation only."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int = 16) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
