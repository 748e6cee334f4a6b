"""`pool set` changes what is named and keeps the rest; what is made up of many things is changed piece by piece, or emptied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.errors import BadInput, NotFound
from cpc.core.pool_views import PoolSettings
from cpc.server.pools.settings import Clearable
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    made.pool(
        environment={"A": "1", "B": "2"}, programs=("gromacs/mdrun 2022.5",), project_limits={"p": 8}, labels=("fast",)
    )
    yield made
    made.close()


def changed(world: PoolWorld, clear: tuple[Clearable, ...] = (), **given: object) -> PoolSettings:
    settings = PoolSettings(**given)  # type: ignore[arg-type]
    return world.finish(world.pools.set(world.call(), "hpc", settings, False, clear)).settings


def test_what_is_not_named_stays(world: PoolWorld) -> None:
    now = changed(world, environment={"B": "3", "C": ""}, programs=("gromacs/mdrun 2023",), idle=30.0)
    assert now.environment == {"A": "1", "B": "3", "C": ""}
    assert now.programs == ("gromacs/mdrun 2022.5", "gromacs/mdrun 2023")
    assert (now.project_limits, now.labels, now.cores) == ({"p": 8}, ("fast",), 2)


def test_one_variable_and_one_limit_can_be_removed(world: PoolWorld) -> None:
    now = changed(world, environment={"A": None, "nosuch": None}, project_limits={"p": None})
    assert (now.environment, now.project_limits) == ({"B": "2"}, {})
    with pytest.raises(NotFound, match="there is no project 'nosuch'"):
        changed(world, project_limits={"nosuch": None})


def test_all_of_them_can_be_removed_and_new_ones_given_in_one_call(world: PoolWorld) -> None:
    now = changed(world, ("environment", "programs", "project_limits"), environment={"C": "3"})
    assert (now.environment, now.programs, now.project_limits) == ({"C": "3"}, None, {})
    facts = next(iter(world.keeper.book.pools.values())).facts
    assert (facts.environment, facts.programs, facts.bound) == ({"C": "3"}, None, False)


def test_a_change_that_cannot_be_changes_nothing(world: PoolWorld) -> None:
    with pytest.raises(BadInput, match="cannot be a variable"):
        changed(world, ("programs",), environment={"1X": "y"})
    now = changed(world, idle=30.0)
    assert (now.environment, now.programs) == ({"A": "1", "B": "2"}, ("gromacs/mdrun 2022.5",))
