"""Networks of real processes: one for a module where its tests can share it, others made where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.helpers.network_of_processes import Network

Make = Callable[..., Network]


@contextmanager
def networks(paths: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes networks; all are ended with the block."""
    made: list[Network] = []

    def make(database: str = "", **options: Any) -> Network:
        made.append(Network(paths.mktemp("network"), database, **options))
        return made[-1]

    try:
        yield make
    finally:
        for network in made:
            network.close()


@pytest.fixture(scope="module")
def make_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Make a network; it is ended with the module."""
    with networks(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One on SQLite that the modules share; who starts workers or stops the server in it puts it in order again."""
    with networks(tmp_path_factory) as make:
        yield make()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, make_network: Make) -> Network:
    """A network on each kind of database."""
    if request.param == "sqlite":
        return make_network()
    return make_network(str(request.getfixturevalue("postgresql").database()))
