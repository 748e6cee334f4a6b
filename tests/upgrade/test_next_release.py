"""A release with another shape of the tables takes over a real server: it migrates, or fails and leaves all as it was.

The next release is today's code with one more revision, run by real processes on the database of the newest fixture.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cpc.server.config import Place
from cpc.store import database, migrate
from cpc.store.lock import DatabaseLock
from tests.helpers.network_of_processes import BIN, Answer, Network
from tests.upgrade import checks, fixture
from tests.upgrade.fixture import KINDS, Fixture, newest
from tests.upgrade.release import Release

REVISION = """
'''Finished jobs know how long they took, and there is one more table.'''
import os
import signal

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    recreate = "always" if connection.dialect.name == "sqlite" else "auto"
    op.create_table("marks", sa.Column("name", sa.Text(), primary_key=True))
    with op.batch_alter_table("finished", recreate=recreate) as table:
        table.add_column(sa.Column("seconds", sa.Double(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE finished SET seconds = (SELECT COALESCE(SUM(wall), 0) FROM attempts WHERE attempts.job = finished.id)"
    )
    op.execute("DELETE FROM settings")
    {end}
"""
ENDS = {
    "well": "",
    "badly": "op.execute(\"INSERT INTO users (id) VALUES (1)\")",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
}  # fmt: skip


@pytest.fixture(scope="module")
def next_releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """By how their migration ends."""
    directory = tmp_path_factory.mktemp("releases")
    made = {end: Release(directory, f"9.0.{number}") for number, end in enumerate(ENDS)}
    for end, release in made.items():
        text = REVISION.format(before=migrate.newest(), end=ENDS[end])
        # What the newer program has set by default is not what the older one has set: the settings are taken away.
        text = text if end != "well" else text.replace('    op.execute("DELETE FROM settings")\n', "")
        release.write("migrations/versions/9001_next.py", text)
    return made


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    """The newest fixture, unpacked and not started."""
    url = str(request.getfixturevalue("postgresql").database()) if request.param == "postgresql" else ""
    network = fixture.unpack(Fixture(newest(), request.param), tmp_path, url)
    yield network
    network.close()


def start(network: Network, programs: Path) -> Answer:
    """`cpc-server start` of a release."""
    network.bin = programs
    return network.run("cpc-server", "start")


def copies(network: Network) -> list[Path]:
    return sorted((network.run_directory / "backups").glob("*"))


def brought_up_to_date(network: Network, about: fixture.About) -> fixture.About:
    """Today's code has taken the database over; what was recorded of it, with the tables as they are now."""
    start(network, BIN).done()
    network.run("cpc-server", "stop").done()
    shape = fixture.shape(Place(network.place).read().database)
    return msgspec.structs.replace(about, revision=migrate.newest(), shape=shape)


def looks_as_before(network: Network, about: fixture.About) -> None:
    """The former release starts, and everything is there."""
    url = Place(network.place).read().database
    assert fixture.shape(url) == about.shape
    start(network, BIN).done()
    checks.all_is_there(network, about)
    network.run("cpc-server", "stop").done()


def test_a_server_is_migrated_or_left_as_it_was(old: Network, next_releases: dict[str, Release]) -> None:
    kind = "postgresql" if "postgres" in Place(old.place).read().database else "sqlite"
    about = brought_up_to_date(old, Fixture(newest(), kind).about())
    if kind == "postgresql":
        it_waits_for_the_other_server(old, next_releases["well"], about)
    it_fails(old, next_releases["badly"], about)
    # The machine goes down in the middle of it.
    assert start(old, next_releases["killed"].bin).code not in (0, 1)
    looks_as_before(old, about)
    it_works(old, next_releases["well"], about)
    there_is_a_way_back(old, kind, about)


def it_waits_for_the_other_server(old: Network, release: Release, about: fixture.About) -> None:
    """Another machine's server that works on the same database is not upgraded under its feet."""
    url = Place(old.place).read().database
    lock = DatabaseLock(url)
    assert "in use by another server process" in start(old, release.bin).refused()
    lock.release()
    assert fixture.shape(url) == about.shape


def it_fails(old: Network, release: Release, about: fixture.About) -> None:
    """In one line, with a copy, as often as somebody tries."""
    before = copies(old)
    failed = start(old, release.bin)
    assert failed.code == 1
    *told, line = failed.err.splitlines()
    assert line.startswith("cpc-server: the database could not be upgraded and is as it was: "), failed.err
    assert "go on with the older release; a copy is in" in line
    assert "null" in line.casefold()
    assert len(told) == 2, "what is done is told before it is done"
    (copy,) = set(copies(old)) - set(before)
    assert str(copy) in line
    assert migrate.current(f"sqlite:///{copy}") == about.revision
    assert start(old, release.bin).code == 1
    assert copies(old) == sorted([*before, copy]), (
        "a server that is started again and again does not fill the disk with copies"
    )


def it_works(old: Network, release: Release, about: fixture.About) -> None:
    """Everything is there, goes on, and has its new shape."""
    before = copies(old)
    start(old, release.bin).done()
    assert len(copies(old)) == len(before) + 1, "the older release has written something since the last copy"
    old.meet()
    old.client.project = "p"
    checks.all_is_there(old, about)
    checks.all_goes_on(old, about)
    engine = database.engine(Place(old.place).read().database)
    with engine.connect() as connection:
        took = connection.exec_driver_sql("SELECT COUNT(*) FROM finished WHERE seconds > 0").scalar_one()
    engine.dispose()
    assert took > 5
    old.run("cpc-server", "stop").done()


def there_is_a_way_back(old: Network, kind: str, about: fixture.About) -> None:
    """The older release refuses the newer database; on SQLite the copy takes its place, as the manual says."""
    refused = start(old, BIN).refused()
    assert "the shape 9001, which this release does not know (it was written by a newer release" in refused
    assert "newer release" in old.run("cpc-server", "doctor").out
    if kind == "sqlite":
        path = database.sqlite_path(Place(old.place).read().database)
        for journal in path.parent.glob(path.name + "-*"):
            os.unlink(journal)
        shutil.copy(copies(old)[-1], path)
        looks_as_before(old, about)
