"""Networks of real processes: one for a module where its tests can share it, others made where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers.network_of_processes import Network


@pytest.fixture(scope="module")
def make_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Network]]:
    """Make a network; it is ended with the module."""
    made: list[Network] = []

    def make(database: str = "", **options: Any) -> Network:
        made.append(Network(tmp_path_factory.mktemp("network"), database, **options))
        return made[-1]

    yield make
    for network in made:
        network.close()


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Network]) -> Network:
    """The module's network, on SQLite; a test that starts workers ends them."""
    return make_network()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, make_network: Callable[..., Network]) -> Network:
    """A network on each kind of database."""
    if request.param == "sqlite":
        return make_network()
    return make_network(str(request.getfixturevalue("postgresql").database()))
