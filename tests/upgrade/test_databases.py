"""A database of every release is brought up to date by `cpc-server start`, and nothing of it is lost."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

import cpc
from cpc.core.clock import SystemClock
from cpc.core.errors import CopernicusError
from cpc.server import upkeep
from cpc.server.config import Config, Place
from cpc.store import copying, migrate
from tests.helpers.stores import ManualClock
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


def config(url: str, directory: Path) -> Config:
    return Config(
        name="lab", host="127.0.0.1", listen=("127.0.0.1",), port=1, client_port=2, database=url, run_dir=str(directory)
    )  # fmt: skip


def test_without_room_for_a_copy_nothing_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, target: Path) -> None:
        target.write_bytes(b"half")
        raise sqlite3.OperationalError("database or disk is full")

    url = f"sqlite:///{tmp_path}/a.db"
    migrate.initialise(url, server="s", name="n", now=1)
    monkeypatch.setattr(copying, "snapshot_as_it_is", full)
    monkeypatch.setattr(migrate, "upgrade", lambda *_: pytest.fail("it was upgraded"))
    wanted = config(url, tmp_path)
    with pytest.raises(
        CopernicusError, match=r"was not upgraded, because its copy .* database or disk is full"
    ) as caught:
        upkeep.upgrade(wanted, SystemClock(), lambda line: None)
    assert "make room" in caught.value.hint
    assert list((tmp_path / "backups").iterdir()) == []


def test_copies_of_one_second_are_kept_side_by_side(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    migrate.initialise(url, server="s", name="n", now=1)
    wanted = config(url, tmp_path)
    clock = ManualClock()
    for number in range(1, 4):
        upkeep.upgrade(wanted, clock, lambda line: None)
        upkeep.upgrade(wanted, clock, lambda line: None)
        assert len(list((tmp_path / "backups").iterdir())) == number
        copying.new_life(url)
