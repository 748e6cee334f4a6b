"""Worlds of servers that lend each other workers, made by a test and closed at its end. Import the fixtures that are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpc.core.peer import Agreement
from tests.helpers.lending_world import World

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a world of servers with these names."""
    made: list[World] = []

    def build(*names: str, monitored: bool = True) -> World:
        made.append(World(tmp_path, *names, monitored=monitored))
        return made[-1]

    yield build
    for world in made:
        world.close()


@pytest.fixture
def two(make: Make) -> World:
    """The worker's server `a`, and `c` with the jobs."""
    world = make("a", "c")
    world.net.trust("a", "c")
    return world


@pytest.fixture
def chain(make: Make) -> World:
    """a – b – c, where a lets those behind b use its workers."""
    world = make("a", "b", "c")
    world.net.trust("a", "b", ones=Agreement(lend_on=1))
    world.net.trust("b", "c")
    return world
