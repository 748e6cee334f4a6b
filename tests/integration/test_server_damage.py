"""What is damaged is named, with what to do; the server does not start on it and nothing is made worse."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.errors import CopernicusError
from cpc.server import upkeep
from cpc.server.config import Place
from tests.helpers.server_program import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Set up and stopped, with enough rows for several pages."""
    made = Server(tmp_path)
    made.setup()
    yield made
    made.close()


def flip(path: Path, place: int, bits: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("server.json", "{"),
        ("server.json", "[]"),
        ("server.json", "\xff\xfe"),
        ("authority.key", "nonsense"),
        ("authority.crt", ""),
    ],
)
def test_a_damaged_file_of_the_configuration_is_named(server, name, text):
    (server.place / name).write_text(text)
    line = server.refused("start")
    assert name in line
    assert "backup" in line
    assert server.run("doctor").returncode == 1


def test_every_flipped_byte_of_the_configuration_is_refused_or_harmless(server):
    path = server.place / "server.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        flip(path, place)
        said = ""
        try:
            upkeep.check_config(Place(server.place))
        except CopernicusError as error:
            said = str(error)
        assert not said or "server.json" in said or "run directory" in said
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"port": 0}, "port is 0"),
        ({"port": 70000}, "port is 70000"),
        ({"listen": []}, "listen is empty"),
        ({"database": "oracle:x"}, "not a database URL"),
        ({"run_dir": "relative"}, "not an absolute path"),
        ({"run_dir": "/no/such/directory"}, "is missing"),
    ],
)
def test_values_that_cannot_be_are_named(server, change, expected):
    path = server.place / "server.json"
    path.write_text(json.dumps(server.config() | change))
    assert expected in server.refused("start")


def test_the_key_of_another_server_is_refused(server, tmp_path):
    other = Server(tmp_path, "other")
    other.setup()
    for name in ("authority.key", "authority.crt"):
        (server.place / name).write_bytes((other.place / name).read_bytes())
    line = server.refused("start")
    assert "belongs to server" in line
    (server.place / "authority.crt").write_bytes(b"")
    assert "authority.key" in server.refused("start")


def test_a_missing_empty_or_foreign_database_is_refused(server):
    path = server.run_dir / "copernicus.db"
    path.rename(path.with_suffix(".away"))
    line = server.refused("start")
    assert str(path) in line
    assert "missing" in line
    assert not path.exists(), "a look must not make an empty database"
    path.write_bytes(b"")
    assert "not a SQLite database" in server.refused("start")
    sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    assert "is empty" in server.refused("start")


@pytest.mark.parametrize("part", ["magic", "page size", "a page", "the schema", "the end"])
def test_a_damaged_database_is_refused_by_name(server, part):
    path = server.run_dir / "copernicus.db"
    size = path.stat().st_size
    if part == "the end":
        with path.open("r+b") as file:
            file.truncate(size // 2)
    elif part == "a page":
        data = bytearray(path.read_bytes())
        data[4096 * 2 : 4096 * 12] = b"\xa5" * 4096 * 10
        path.write_bytes(bytes(data))
    else:
        flip(path, {"magic": 3, "page size": 16, "the schema": 100}[part])
    before = path.read_bytes()
    line = server.refused("start")
    assert str(path) in line
    assert "restore" in line
    assert "***" not in line
    assert path.read_bytes() == before
    doctor = server.run("doctor")
    assert doctor.returncode == 1
    assert "FAIL" in doctor.stdout
    assert server.run("status").returncode == 1
    assert str(path) in server.refused("bundle", "-o", str(server.directory / "b.cnx"))
    assert not (server.directory / "b.cnx").exists()


def test_a_database_of_a_newer_release_is_left_alone(server):
    path = server.run_dir / "copernicus.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    line = server.refused("start")
    assert "newer release" in line
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    database.close()


def test_a_write_ahead_log_that_was_cut_short_is_recovered(server):
    """What was committed last may be in the log only; a torn end of it is what a power cut leaves."""
    server.done("start")
    server.done("bundle", "--name", "before", "-o", str(server.directory / "b.cnx"))
    server.kill()
    log = server.run_dir / "copernicus.db-wal"
    with log.open("ab") as file:
        file.write(b"\0" * 1000)
    server.done("start")
    assert "before" in server.done("bundles")
