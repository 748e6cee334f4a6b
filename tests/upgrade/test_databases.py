"""A database of every release is brought up to date by `cpc-server start`, and nothing of it is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cpc
from cpc.server.config import Place
from cpc.store import copying, migrate
from tests.upgrade import checks, fixture
from tests.upgrade.fixture import Fixture, all_fixtures

AGAIN = "python -m tests.upgrade.record"
HISTORY = ("trimmed",)  # tables that have rows only after months


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """An empty PostgreSQL database for a recorded one of that kind; "" for SQLite."""
    recorded = request.getfixturevalue("recorded")
    return str(request.getfixturevalue("postgresql").database()) if recorded.kind == "postgresql" else ""


@pytest.mark.parametrize("recorded", all_fixtures(), ids=str)
def test_a_database_of_every_release_is_upgraded_and_all_goes_on(recorded: Fixture, url: str, tmp_path: Path) -> None:
    about = recorded.about()
    network = fixture.unpack(recorded, tmp_path, url)
    database = Place(network.place).read().database
    try:
        assert migrate.current(database) == about.revision
        network.start()
        copies = list((network.run_directory / "backups").glob("before-*.sqlite"))
        assert len(copies) == (about.revision != migrate.newest()), "a copy is made when there is something to change"
        assert migrate.current(database) == migrate.newest()
        network.meet()
        network.client.project = "p"
        checks.all_is_there(network, about)
        checks.all_goes_on(network, about)
    finally:
        network.close()


@pytest.mark.parametrize("recorded", all_fixtures(), ids=str)
def test_a_fixture_has_rows_in_every_table_and_gets_the_shape_of_a_new_one(
    recorded: Fixture, url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    network = fixture.unpack(recorded, tmp_path, url)
    upgraded = Place(network.place).read().database
    rows = fixture.counts(upgraded)
    empty = [table for table, count in rows.items() if not count and table not in HISTORY]
    assert not empty, f"tests/upgrade/scenario.py leaves nothing in {', '.join(empty)}"
    migrate.upgrade(upgraded)
    fresh = f"sqlite:///{tmp_path}/fresh.db" if not url else request.getfixturevalue("postgresql").database()
    migrate.upgrade(fresh)
    assert fixture.shape(upgraded) == fixture.shape(fresh)


@pytest.mark.parametrize("recorded", all_fixtures(), ids=str)
def test_a_migration_that_was_released_is_never_changed(
    recorded: Fixture, url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    about = recorded.about()
    fresh = f"sqlite:///{tmp_path}/then.db" if not url else request.getfixturevalue("postgresql").database()
    migrate.upgrade(fresh, about.revision)
    assert fixture.shape(fresh) == about.shape, (
        f"revision {about.revision} makes other tables than it made in release {recorded.release}: databases of that "
        f"release are out there. Add a new revision in migrations/versions instead; only while {recorded.release} has "
        f"not been released, record it again: {AGAIN} {recorded.release}"
    )


def test_a_release_has_its_fixtures() -> None:
    """At a release: what it leaves behind is in the tree, in the newest shape, and older ones stay."""
    recorded = {each.release: each for each in all_fixtures()}
    missing = [kind for kind in fixture.KINDS for name in recorded if not Fixture(name, kind).archive.exists()]
    assert not missing
    if re.fullmatch(r"[\d.]+", cpc.__version__):
        assert cpc.__version__ in recorded, f"record it: {AGAIN} {cpc.__version__}"
        assert recorded[cpc.__version__].about().revision == migrate.newest()


def test_a_copy_serves_again_only_while_nothing_was_written(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/a.db", tmp_path / "copy.sqlite"
    migrate.initialise(url, server="s", name="n", now=1)
    copying.snapshot(url, copy)
    assert copying.is_of_this_moment(url, copy)
    copying.new_life(url)
    assert not copying.is_of_this_moment(url, copy)
    copy.write_bytes(b"not a database, but long enough to look like a file of something" * 100)
    assert not copying.is_of_this_moment(url, copy)
