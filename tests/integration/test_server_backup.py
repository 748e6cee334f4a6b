"""A backup is made beside a running server, holds everything, and is restored whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cpc.core.errors import Damaged
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.offload import inline
from cpc.core.outcome import Outcome
from cpc.server import backup as backups
from cpc.server.config import Place
from cpc.server.federation.held import Held, Kept
from cpc.server.restore import Wanted, restore
from cpc.spool.real_disk import RealDisk
from cpc.store import chunks
from cpc.wire.messages import Result
from tests.helpers.files import content_of, wait
from tests.helpers.real_programs import figures
from tests.helpers.server_program import Server
from tests.helpers.stores import ManualClock

LAST = "backup_last_success_timestamp_seconds"
PIECES = [bytes([number]) * (100_000 + number) for number in range(5)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Set up and stopped, with a few pieces of files."""
    made = Server(tmp_path)
    made.setup()
    with sqlite3.connect(made.run_dir / "copernicus.db") as database:
        for piece in PIECES:
            digest = hashlib.sha256(piece).digest()
            path = made.run_dir / chunks.path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(piece)
            database.execute("INSERT INTO chunks (digest, size) VALUES (?, ?)", (digest, len(piece)))
    database.close()
    yield made
    made.close()


@pytest.fixture
def saved(server: Server) -> Path:
    """A backup of it."""
    target = server.directory / "saved.tar"
    server.done("backup", str(target))
    return target


def pieces(server: Server) -> set[bytes]:
    return {path.read_bytes() for path in (server.run_dir / "chunks").rglob("*") if path.is_file()}


def shown(server: Server) -> dict[str, float]:
    return figures(server.config()["client_port"], (server.place / "authority.crt").read_text())


def elsewhere(server: Server) -> Server:
    """Another machine: another home and run directory."""
    return Server(server.directory / "elsewhere", server.name)


def rewrite(source: Path, target: Path, change) -> None:
    """A backup with its parts changed: `change(name, data)` gives (name, data), or None to leave it out."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            made = change(member.name, old.extractfile(member).read())
            if made is not None:
                entry = tarfile.TarInfo(made[0])
                entry.size = len(made[1])
                new.addfile(entry, io.BytesIO(made[1]))


def test_a_backup_of_a_running_server_is_a_server_elsewhere(server):
    server.done("start")
    assert LAST not in shown(server)
    assert any("no backup" in warning for warning in server.status()["warnings"])
    server.done("bundle", "--name", "field", "-o", str(server.directory / "field.cnx"))
    saved = server.directory / "saved.tar"
    server.done("backup", str(saved))
    assert saved.stat().st_mode & 0o077 == 0
    assert shown(server)[LAST] == server.status()["last_backup"] / 1e6
    assert not any("no backup" in warning for warning in server.status()["warnings"])
    assert "exists already" in server.refused("backup", str(saved))
    server.done("stop")
    other = elsewhere(server)
    other.directory.mkdir()
    said = other.done("restore", str(saved), "--run-dir", str(other.run_dir))
    assert "incarnation 2" in said
    assert pieces(other) == set(PIECES)
    other.done("start")
    assert "field" in other.done("bundles")
    assert other.status()["fingerprint"] == server.status()["fingerprint"]
    other.done("stop")
    assert other.run("doctor", "--deep").returncode == 0
    other.close()


def custody(server: Server) -> Held:
    """What is in custody there."""
    held = Held(RealDisk(), str(server.run_dir), lambda: 1 << 30, inline, ManualClock())
    wait(held.open())
    return held


def test_a_backup_has_what_is_in_custody(server):
    lease = Lease(1, 1, 1, "relay/owner")
    held = custody(server)
    wait(held.put_chunk(lease, hashlib.sha256(PIECES[1]).digest(), PIECES[1]))
    files = Manifest((Entry(b"out", content=content_of(PIECES[1])),))
    kept = Kept(7, "w", 0, Result(lease=lease, outcome=Outcome.OK, files=files))
    assert wait(held.add(lease, kept)) is not None
    with (server.run_dir / "custody" / "spool.log").open("ab") as log:
        log.write(b"half a rec")  # the server is writing the next one
    (server.run_dir / "custody" / "chunks" / "part-9").write_bytes(b"half a chunk")
    saved = server.directory / "saved.tar"
    server.done("backup", str(saved))
    with tarfile.open(saved) as tar:
        assert [name for name in tar.getnames() if "part" in name] == []
    other = elsewhere(server)
    other.directory.mkdir()
    other.done("restore", str(saved), "--run-dir", str(other.run_dir))
    again = custody(other)
    assert again.damage == ()
    assert wait(again.read(lease)) == kept
    assert wait(again.read_chunk(hashlib.sha256(PIECES[1]).digest())) == PIECES[1]
    strange = server.directory / "strange.tar"
    rewrite(saved, strange, lambda name, data: (name.replace("custody/spool.log", "custody/../spool.log"), data))
    third = Server(server.directory / "third", server.name)
    third.directory.mkdir()
    assert "which no backup does" in third.refused("restore", str(strange), "--run-dir", str(third.run_dir))


def test_a_restore_over_a_server_needs_force_and_keeps_what_was_there(server, saved):
    assert "exists already" in server.refused("restore", str(saved))
    server.done("bundle", "--name", "later", "-o", str(server.directory / "later.cnx"))
    server.done("start")
    assert "running" in server.refused("restore", str(saved), "--force")
    server.done("stop")
    server.done("restore", str(saved), "--force")
    assert "later" not in server.done("bundles")
    assert pieces(server) == set(PIECES)
    assert list(server.run_dir.glob("copernicus.db.replaced-*"))


def test_a_second_restore_of_one_backup_begins_another_life(server, saved):
    assert "incarnation 2" in server.done("restore", str(saved), "--force")
    assert "incarnation 3" in server.done("restore", str(saved), "--force")


@pytest.mark.parametrize(
    "damage", ["cut", "chunk", "database", "no database", "no key", "no end", "stranger", "escape", "text"]
)
def test_a_damaged_backup_is_refused_and_changes_nothing(server, saved, damage):
    bad = server.directory / "bad.tar"
    first = hashlib.sha256(PIECES[0]).hexdigest()

    def change(name, data):
        if damage == "chunk" and name.endswith(first):
            return name, data[:-1] + b"x"
        if damage == "database" and name == "database.sqlite":
            return name, data[:8192] + b"\xa5" * 60_000 + data[68_192:]
        missing = {"no database": "database.sqlite", "no key": "authority.key", "no end": "backup.json"}.get(damage)
        return None if name == missing else (name, data)

    rewrite(saved, bad, change)
    if damage == "cut":
        bad.write_bytes(saved.read_bytes()[:300_000])
    elif damage == "text":
        bad.write_text("hello")
    elif damage in ("stranger", "escape"):
        name = "notes.txt" if damage == "stranger" else "chunks/../../../escaped"
        with tarfile.open(bad, "a") as tar:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"hi"))
    line = server.refused("restore", str(bad), "--force")
    assert "bad.tar" in line
    assert "worker" in server.done("bundles")
    assert pieces(server) == set(PIECES)
    assert not list(server.run_dir.glob("*.replaced-*"))
    assert not list(server.run_dir.glob(".restore-*"))
    other = elsewhere(server)
    other.directory.mkdir()
    other.refused("restore", str(bad), "--run-dir", str(other.run_dir))
    assert not other.home.exists()
    assert not other.run_dir.exists()


KEPT = "projects/1/2/persistent-3.1"


def with_kept(source: Path, target: Path, listed: dict[str, bytes], *members: tuple[str, str | bytes]) -> None:
    """A backup that lists these parts (name, what its digest is of), with these members: links with their targets, or files."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            data = old.extractfile(member).read()
            if member.name == backups.ABOUT:
                for name, content in members:
                    entry = tarfile.TarInfo(name)
                    if isinstance(content, str):
                        entry.type, entry.linkname = tarfile.SYMTYPE, content
                        new.addfile(entry)
                    else:
                        entry.size = len(content)
                        new.addfile(entry, io.BytesIO(content))
                about = msgspec.json.decode(data)
                about["parts"] |= {name: hashlib.sha256(of).hexdigest() for name, of in listed.items()}
                data = msgspec.json.encode(about)
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def test_links_of_functions_directories_are_restored_if_they_stay_within(server, saved):
    bad = server.directory / "bad.tar"
    file, link = (f"{KEPT}/file", b"data"), (f"{KEPT}/d/link", "../file")
    parts = {file[0]: file[1], link[0]: b"link ../file"}
    for words, listed, members in (
        ("leads out", {link[0]: b"link /etc"}, [(link[0], "/etc")]),
        ("leads out", {link[0]: b"link ../../x"}, [(link[0], "../../x")]),
        ("there twice", parts | {f"{KEPT}/d": b"link file"}, [link, file, (f"{KEPT}/d", "file")]),
        ("behind a link", parts, [(f"{KEPT}/d", "e"), (link[0], "x")]),
        ("no such directory", {"projects/1/a": b"link b"}, [("projects/1/a", "b")]),
        ("which no backup does", {}, [("chunks/a", "b")]),
        ("which it does not list", {}, [link]),
        ("which it does not list", {}, [file]),
        ("is missing", parts, [file]),
        ("is missing", parts, [link]),
        ("not what it was", parts, [file, (link[0], "file")]),
        ("not what it was", parts, [(file[0], b"dat4"), link]),
    ):
        listed = listed | {name: b"" for name, _ in members if name not in listed} if "behind" in words else listed
        with_kept(saved, bad, listed, *members)
        with pytest.raises(Damaged, match=words):
            restore(server.home, bad, Wanted(force=True), ManualClock())
        assert not (server.run_dir / "projects").exists()
    with_kept(saved, bad, parts, file, link)
    server.done("restore", str(bad), "--force")
    assert (server.run_dir / link[0]).is_symlink()
    assert (server.run_dir / link[0]).read_bytes() == b"data"


def test_a_backup_that_cannot_be_written_leaves_nothing(server):
    line = server.refused("backup", str(server.directory / "no" / "where.tar"))
    assert "no directory" in line
    assert not [path for path in server.directory.iterdir() if "backup" in path.name or "part" in path.name]


def test_the_collector_cannot_take_what_a_backup_is_copying(server, monkeypatch):
    """The files go away between the snapshot and the copying: the backup has them under names of its own."""
    write = backups._write

    def later(*arguments):
        shutil.rmtree(server.run_dir / "chunks")
        return write(*arguments)

    monkeypatch.setattr(backups, "_write", later)
    place = Place(server.place)
    target = server.directory / "held.tar"
    report = backups.make(place, place.read(), target, ManualClock())
    assert report.missing == ()
    assert report.chunks == len(PIECES)
    with tarfile.open(target) as tar:
        held = {tar.extractfile(member).read() for member in tar if member.name.startswith("chunks/")}
    assert held == set(PIECES)
    assert not [path for path in server.run_dir.iterdir() if path.name.startswith(".backup-")]


def test_what_a_killed_backup_left_is_cleared_away(server):
    left = server.run_dir / ".backup-4194305-x"
    left.mkdir()
    (left / "y").write_bytes(b"z")
    mine = server.run_dir / f".backup-{os.getpid()}-x"
    mine.mkdir()
    server.done("backup", str(server.directory / "saved.tar"))
    assert not left.exists()
    assert mine.exists(), "another backup is under way there"


@pytest.mark.parametrize(("what", "deep"), [("missing", ""), ("short", ""), ("changed", "--deep")])
def test_doctor_finds_damaged_pieces_of_files(server, what, deep):
    digest = hashlib.sha256(PIECES[2]).digest()
    path = server.run_dir / chunks.path(digest)
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(PIECES[2][:-1] + (b"x" if what == "changed" else b""))
    result = server.run("doctor", *([deep] if deep else []))
    assert result.returncode == 1
    assert [line for line in result.stdout.splitlines() if line.startswith("FAIL") and digest.hex() in line]
    said = server.run("backup", str(server.directory / "partly.tar"))
    assert said.returncode == 0
    assert ("missing on disk" in said.stderr) == (what == "missing")


def test_doctor_names_what_others_can_read(server):
    (server.place / "authority.key").chmod(0o644)
    server.run_dir.chmod(0o755)
    result = server.run("doctor")
    assert result.returncode == 1
    assert f"chmod 600 {server.place / 'authority.key'}" in result.stdout
    assert f"chmod 700 {server.run_dir}" in result.stdout
