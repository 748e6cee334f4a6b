"""The database's history ends in the shape that the code works with, on both databases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cpc.core.errors import Damaged
from cpc.store import database, migrate
from cpc.store.schema import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    return str(request.getfixturevalue("postgresql").database())


def run(url: str, text: str) -> list[tuple[object, ...]]:
    engine = database.engine(url)
    with engine.begin() as connection:
        found = connection.execute(sa.text(text))
        rows = [tuple(row) for row in found] if found.returns_rows else []
    engine.dispose()
    return rows


def test_the_migrations_make_the_tables_that_the_code_declares(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    engine = database.engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_an_upgraded_database_is_left_as_it_is(empty_url: str) -> None:
    migrate.initialise(empty_url, server="s", name="n", now=1)
    assert migrate.check(empty_url) == ""
    migrate.upgrade(empty_url)
    assert run(empty_url, "SELECT id, name FROM server") == [("s", "n")]


def test_an_empty_database_is_old_and_one_of_a_newer_release_is_refused(empty_url: str) -> None:
    assert migrate.check(empty_url) == "old"
    migrate.upgrade(empty_url)
    run(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Damaged, match="newer release"):
        migrate.check(empty_url)


def test_a_change_of_tables_that_fails_leaves_no_trace(empty_url: str) -> None:
    migrate.initialise(empty_url, server="s", name="n", now=1)
    engine = database.engine(empty_url)

    def fail() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE half (a INTEGER)"))
            connection.execute(sa.text("ALTER TABLE server ADD COLUMN mood TEXT"))
            connection.execute(sa.text("UPDATE server SET mood = 'new'"))
            connection.execute(sa.text("INSERT INTO server (one) VALUES (2)"))

    with pytest.raises(sa.exc.DBAPIError) as caught:
        fail()
    assert "\n" not in migrate.why(caught.value)
    assert "null" in migrate.why(caught.value).casefold()
    look = sa.inspect(engine)
    assert "half" not in look.get_table_names()
    assert "mood" not in [column["name"] for column in look.get_columns("server")]
    engine.dispose()


def test_a_claim_reads_an_index_in_its_own_order(tmp_path: Path) -> None:
    """Anything else would sort or scan: two orders of magnitude at depth."""
    url = f"sqlite:///{tmp_path}/plan.db"
    migrate.upgrade(url)
    plan = run(
        url,
        "EXPLAIN QUERY PLAN SELECT rank, id FROM jobs WHERE project = 1 AND class = 1 AND state = 1 "
        "AND (rank, id) > (0, 0) ORDER BY rank, id LIMIT 10",
    )
    words = " ".join(str(row[-1]) for row in plan)
    assert "ix_jobs_claim" in words
    assert "TEMP B-TREE" not in words


def test_the_scripts_are_named_by_their_revisions() -> None:
    """So that a server that starts need not load Alembic to know which is the newest."""
    scripts = list(ScriptDirectory.from_config(migrate._config()).walk_revisions())
    assert scripts[0].revision == migrate.newest()
    assert {script.revision for script in scripts} == migrate._revisions()


def test_a_server_on_sqlite_loads_no_driver_of_postgresql_and_no_alembic() -> None:
    code = "import sys, cpc.server.service; print(sorted({'psycopg', 'alembic'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"
