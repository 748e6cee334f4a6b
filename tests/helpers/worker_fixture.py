"""Worlds of a test, checked at its end. Import `expected` where `world` is used: it is a fixture for all tests there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.programs import Program
from tests.helpers.worker_world import World

WORLDS: list[World] = []


def world(**programs: Program) -> World:
    WORLDS.append(World(programs={"true": Program(1.0), **programs}))
    return WORLDS[-1]


@pytest.fixture(autouse=True)
def expected() -> Iterator[None]:
    """Nothing goes wrong that the agent did not expect."""
    yield
    for here in WORLDS:
        here.check()
    WORLDS.clear()
