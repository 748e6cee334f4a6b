"""A database as a release has left it, with its server's keys and files: packed into the tree, unpacked for a test.

    databases/RELEASE/sqlite.tar.xz       home/ (identity, configuration, bundle) and run/ (database, files)
    databases/RELEASE/postgresql.tar.xz   the same; the database is database.sql, as statements
    databases/RELEASE/*.json              what it must contain: `About`

Unpacked, it is moved to the present: all times in it grow by its age, so that nothing has expired that had not.
"""

from __future__ import annotations

import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.server.config import Place
from cpc.store import database, migrate
from cpc.wire.messages import PROTOCOL
from tests.helpers.network_of_processes import Network
from tests.helpers.ports import free_ports
from tests.upgrade import dump
from tests.upgrade.inventory import TIMES
from tests.upgrade.scenario import Left

DATABASES = Path(__file__).parent / "databases"
KINDS = ("sqlite", "postgresql")
_KEPT = ("home/servers/default/authority.key", "home/servers/default/authority.crt",
         "home/servers/default/server.json", "home/client.cnx")  # fmt: skip


class About(msgspec.Struct):
    """`revision` of the tables, `protocol` of the machines, `recorded` in µs UTC; `shape` of every table.

    `left` is what is open; `inventory` what the server showed.
    """

    release: str
    revision: str
    protocol: int
    recorded: int
    shape: dict[str, Any]
    left: Left
    inventory: dict[str, Any]


@dataclass(frozen=True)
class Fixture:
    """One recorded database."""

    release: str
    kind: str

    @property
    def archive(self) -> Path:
        return DATABASES / self.release / f"{self.kind}.tar.xz"

    def about(self) -> About:
        """What it must contain."""
        return msgspec.json.decode(self.archive.with_suffix("").with_suffix(".json").read_bytes(), type=About)

    def __str__(self) -> str:
        return f"{self.release}-{self.kind}"


def all_fixtures() -> list[Fixture]:
    """Of every release, oldest first."""
    found = sorted((path for path in DATABASES.iterdir() if path.is_dir()), key=lambda path: _numbers(path.name))
    return [Fixture(path.name, kind) for path in found for kind in KINDS if (path / f"{kind}.json").exists()]


def newest() -> str:
    """The release that was recorded last."""
    return all_fixtures()[-1].release


def _numbers(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", release)]


# --- record -------------------------------------------------------------------------------------------------------------


def record(network: Network, fixture: Fixture, left: Left, inventory: dict[str, Any]) -> None:
    """Pack a network that has stopped."""
    config = Place(network.place).read()
    fixture.archive.parent.mkdir(parents=True, exist_ok=True)
    files = [network.directory / name for name in _KEPT]
    files += sorted(path for path in (network.run_directory / "chunks").rglob("*") if path.is_file())
    with tarfile.open(fixture.archive, "w:xz", preset=9) as tar:
        for path in files:
            tar.add(path, path.relative_to(network.directory), filter=_anonymous)
        if database.is_postgresql(config.database):
            file = network.directory / "database.sql"
            file.write_text(dump.dump(config.database))
            tar.add(file, file.name, filter=_anonymous)
        else:
            file = database.sqlite_path(config.database)
            _settle(config.database)
            tar.add(file, file.relative_to(network.directory), filter=_anonymous)
    about = About(
        release=fixture.release, revision=migrate.current(config.database), protocol=PROTOCOL,
        recorded=time.time_ns() // 1000,
        shape=shape(config.database), left=left, inventory=inventory,
    )  # fmt: skip
    text = msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"
    fixture.archive.with_suffix("").with_suffix(".json").write_bytes(text)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _settle(url: str) -> None:
    """All in one file, smallest."""
    engine = database.engine(url)
    with engine.connect() as connection:
        bare = connection.connection.driver_connection
        assert bare is not None
        bare.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        bare.execute("VACUUM")
    engine.dispose()


# --- unpack -------------------------------------------------------------------------------------------------------------


def unpack(fixture: Fixture, directory: Path, url: str = "") -> Network:
    """The server as it was left, in `directory`; its tables in the empty PostgreSQL database `url`, if it is of that kind."""
    about = fixture.about()
    with tarfile.open(fixture.archive) as tar:
        tar.extractall(directory, filter="data")
    (directory / "home" / "servers" / "default" / "log").mkdir()
    place = Place(directory / "home" / "servers" / "default")
    config = place.read()
    config.run_dir = str(directory / "run")
    (directory / "run" / "chunks").mkdir(parents=True, exist_ok=True)
    config.database = url or f"sqlite:///{directory}/run/copernicus.db"
    config.port, config.client_port = free_ports(2)
    place.write(config)
    if url:
        dump.load(url, (directory / "database.sql").read_bytes())
    _to_the_present(config.database, about.shape, time.time_ns() // 1000 - about.recorded)
    return Network.found(directory)


def _to_the_present(url: str, shape: dict[str, Any], age: int) -> None:
    """Add `age` µs to every time. Ids are larger numbers, and nothing else is as large."""
    with _cursor(url) as connection:
        for table, columns in shape.items():
            numbers = [name for name, column in columns["columns"].items() if column["type"] in ("BIGINT", "INTEGER")]
            for name in numbers:
                connection.exec_driver_sql(
                    f'UPDATE "{table}" SET "{name}" = "{name}" + {age} '
                    f'WHERE "{name}" BETWEEN {TIMES.start} AND {TIMES.stop}'
                )


@contextmanager
def _cursor(url: str) -> Iterator[sa.Connection]:
    engine = database.engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


# --- the shape of a database --------------------------------------------------------------------------------------------


def shape(url: str) -> dict[str, Any]:
    """Every table: columns with their types, keys and indexes, as the database itself tells."""
    engine = database.engine(url)
    try:
        look = sa.inspect(engine)
        return {
            table: {
                "columns": {
                    column["name"]: {
                        "type": str(column["type"]),
                        "null": column["nullable"],
                        "default": column["default"],
                    }
                    for column in look.get_columns(table)
                },
                "key": look.get_pk_constraint(table)["constrained_columns"],
                "unique": sorted(each["column_names"] for each in look.get_unique_constraints(table)),
                "indexes": {
                    str(each["name"]): [*each["column_names"], bool(each["unique"]), _where(each)]
                    for each in look.get_indexes(table)
                },
            }
            for table in sorted(look.get_table_names())
            if table != "alembic_version"
        }
    finally:
        engine.dispose()


def _where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("sqlite_where", options.get("postgresql_where", "")))


def counts(url: str) -> dict[str, int]:
    """How many rows each table has."""
    with _cursor(url) as connection:
        return {
            table: int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one())
            for table in sa.inspect(connection).get_table_names()
        }
