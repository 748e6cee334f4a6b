"""Damaged files as people meet them: one line from the program that they called, and a way to go on."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.real_programs import PATIENCE
from tests.helpers.server_program import Server

BIN = Path(sys.executable).parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Set up and stopped."""
    made = Server(tmp_path)
    made.setup()
    yield made
    made.close()


def program(server: Server, name: str, *arguments: str) -> str:
    """The one line of a program that must be refused."""
    done = subprocess.run(
        [str(BIN / name), *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=server.directory,
        env={**os.environ, "CPC_HOME": str(server.home)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def flip(path: Path, place: int, bits: int = 4) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ bits]))


def test_commits_behind_a_damaged_place_of_the_log_are_never_dropped_silently(server: Server) -> None:
    server.done("start")
    for number in range(5):
        server.done("bundle", "--name", f"b{number}", "-o", str(server.directory / f"{number}.cnx"))
    server.kill()
    log = server.run_dir / "copernicus.db-wal"
    flip(log, log.stat().st_size // 3)
    before = log.read_bytes()
    for command in ("start", "backup", "bundles"):
        line = server.refused(command)
        assert str(log) in line
        assert "backup --damaged" in line
    doctor = server.run("doctor")
    assert doctor.returncode == 1
    assert f"FAIL  the write-ahead log {log} is damaged" in doctor.stdout
    assert server.run("status").returncode == 1
    assert log.read_bytes() == before, "a look changes nothing"
    saved = server.directory / "saved.tar"
    server.done("backup", "--damaged", str(saved))
    assert log.read_bytes() == before
    assert "incarnation 2 begins" in server.done("restore", "--force", str(saved))
    server.done("start")


@pytest.mark.parametrize("part", ["key", "certificate", "authority"])
def test_a_worker_names_the_bundle_that_is_damaged(server: Server, part: str) -> None:
    path = server.home / "client.cnx"
    text = path.read_text()
    place = text.index("-----BEGIN", text.index(f'"{part}"')) + 150
    flip(path, place, 1)
    line = program(server, "cpc-worker", "-c", str(path), "smp")
    assert str(path) in line
    assert "cpc-server bundle" in line


def test_cpcc_names_the_file_that_is_damaged(server: Server) -> None:
    path = server.directory / "me.cnx"
    server.done("bundle", "--role", "client", "--user", "cpc-admin", "--name", "me", "-o", str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    assert str(path) in program(server, "cpcc", "-c", str(path), "projects")
    first = whole.index(b"-----BEGIN") + len(b"-----BEGIN CERTIFICATE-----\\n")
    for bits in (0x80, 1):  # no text any more; no certificate any more
        path.write_bytes(whole)
        flip(path, first, bits)
        assert str(path) in program(server, "cpcc", "-c", str(path), "projects")
    clients = server.home / "clients.json"
    for text in (b"{", b"\xff\xfe", b"", b'{"servers": 5}'):
        clients.write_bytes(text)
        assert str(clients) in program(server, "cpcc", "projects")


def test_a_note_that_cannot_be_read_is_none(server: Server) -> None:
    (server.place / "last-backup.json").write_bytes(b'{"made": 1, "file": "\xff"}')
    assert "there is no backup" in server.run("doctor").stdout
    assert "Traceback" not in server.run("status").stderr


def test_no_flipped_bit_of_a_backup_is_restored(server: Server, tmp_path: Path) -> None:
    """Places in every part of it, and between them."""
    saved = server.directory / "saved.tar"
    server.done("backup", str(saved))
    whole = saved.read_bytes()
    chance = random.Random(1)
    size = len(whole)
    names = [whole.index(each) for each in (b"server.json", b"authority.key", b"authority.crt", b"SQLite format")]
    places = [*(place + 600 for place in names), *(chance.randrange(size) for _ in range(6))]
    for number, place in enumerate(places):
        saved.write_bytes(whole)
        flip(saved, place, 1 << chance.randrange(8))
        other = Server(tmp_path / f"other-{number}", server.name)
        other.directory.mkdir()
        done = other.run("restore", "--run-dir", str(other.run_dir), str(saved))
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert str(saved) in done.stderr, f"a bit at {place}: {done.stderr}"
        else:  # one that fills up a block, or belongs to a name's owner and time
            assert same(server, other), f"a bit at {place} was restored"


def same(one: Server, other: Server) -> bool:
    """Whether the databases hold the same, apart from what begins a new life."""

    def rows(server: Server) -> list[object]:
        database = sqlite3.connect(server.run_dir / "copernicus.db")
        try:
            tables = [
                row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            ]
            skipped = ("writer", "ids", "events")
            return [database.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables if name not in skipped]
        finally:
            database.close()

    keys = [(server.place / "authority.key").read_bytes() for server in (one, other)]
    return rows(one) == rows(other) and keys[0] == keys[1]
