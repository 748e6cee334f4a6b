"""The database's shape: made, recognised, brought up to date.

Alembic's revisions live in `migrations/`, installed as `cpc.migrations`. A database that is older is upgraded (after a
backup, by the caller); one that is newer than this program is refused and left alone.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from cpc.core.errors import Damaged, Unavailable
from cpc.store import database, schema

# Alembic takes 10 MB: it is loaded when something is to be changed, which a server that starts rarely has.
if TYPE_CHECKING:
    from alembic.config import Config

_VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))


def _config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files("cpc.migrations")))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this program works with: its scripts are named by their numbers."""
    return max(_revisions())


def _revisions() -> set[str]:
    names = (each.name for each in importlib.resources.files("cpc.migrations.versions").iterdir())
    return {name.partition("_")[0] for name in names if name[:4].isdecimal() and name.endswith(".py")}


def current(url: str) -> str:
    """The database's revision; "" when it has none of our tables. Damaged or Unavailable when it cannot be read."""
    engine = database.engine(url)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(_VERSION.name):
                return ""
            return connection.execute(sa.select(_VERSION.c.version_num)).scalar() or ""
    except sa.exc.OperationalError as error:
        raise Unavailable(f"the database cannot be opened: {error.orig}", "check its URL and that it runs") from error
    except sa.exc.DatabaseError as error:
        raise Damaged(
            f"the database {url} cannot be read: {error.orig}", "restore it with `cpc-server restore FILE`"
        ) from error
    finally:
        engine.dispose()


def upgrade(url: str, revision: str = "head") -> None:
    """Make the tables, or change old ones into the newest shape. One transaction: all of it or nothing."""
    from alembic import command

    engine = database.engine(url)
    try:
        with engine.begin() as connection:
            command.upgrade(_config(connection), revision)
    finally:
        engine.dispose()


def why(error: Exception) -> str:
    """What went wrong, in the database's own words and in one line."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    said = (str(cause).strip().splitlines() or [""])[0]
    return said or type(cause).__name__


def erase(url: str) -> None:
    """Take all our tables away again: for a setup or restore that failed half-way in a database that was empty."""
    engine = database.engine(url)
    try:
        with engine.begin() as connection:
            ours = sa.MetaData()
            ours.reflect(connection, only=lambda name, _: name in schema.metadata.tables or name == _VERSION.name)
            ours.drop_all(connection)
    finally:
        engine.dispose()


def check(url: str) -> str:
    """Whether the database fits: "" if so, "old" if it must be upgraded; Damaged when it is of a newer release."""
    revision = current(url)
    if revision == newest():
        return ""
    if revision and revision not in _revisions():
        raise Damaged(
            f"the database has the shape {revision}, which this release does not know",
            "it was written by a newer release: install that one",
        )
    return "old"


def initialise(url: str, *, server: str, name: str, now: int, incarnation: int = 1) -> None:
    """A new database: the tables, and the rows that there is one of."""
    if database.is_postgresql(url) is False:
        path: Path = database.sqlite_path(url)
        path.touch(mode=0o600, exist_ok=True)
    upgrade(url)
    engine = database.engine(url)
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.server).values(one=1, id=server, name=name, created=now))
        connection.execute(sa.insert(schema.writer).values(one=1, incarnation=incarnation, seq=0, holder=""))
    engine.dispose()
