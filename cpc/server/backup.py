"""Backup and restore: one tar file with the identity, the configuration, a snapshot of the database and all files.

A backup is made while the server runs: first the snapshot, then the chunks that it refers to, which the garbage collector
leaves alone for longer than a backup takes. A restore begins a new incarnation.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cpc import __version__
from cpc.core.clock import Clock
from cpc.core.digest import of_chunk
from cpc.core.errors import BadInput, Conflict, Damaged
from cpc.server.config import Config, Place, write_secret
from cpc.store import chunks, copying, database, migrate

FORMAT = 1
DATABASE = "database.sqlite"
_KEPT = ("backup.json", "server.json", "authority.key", "authority.crt", DATABASE)


class About(msgspec.Struct, frozen=True):
    """`backup.json`: what the file is."""

    format: int
    release: str
    made: int
    incarnation: int
    chunks: int
    size: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a backup or restore came to; `missing` names chunks that are referred to and were not there."""

    chunks: int
    size: int
    incarnation: int
    missing: tuple[str, ...] = ()


def make(place: Place, target: Path, clock: Clock) -> Report:
    """Write a backup; `target` is there whole or not at all."""
    config = place.read()
    if target.exists():
        raise Conflict(f"{target} exists already", "choose another name; backups are never overwritten")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".cpc-backup-") as scratch:
            snapshot = Path(scratch) / DATABASE
            copying.snapshot(config.database, snapshot)
            report = _write(place, config, snapshot, temporary, clock)
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        raise BadInput(
            f"the backup {target} cannot be written: {error.strerror}", "free some space, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return report


def _write(place: Place, config: Config, snapshot: Path, target: Path, clock: Clock) -> Report:
    root = Path(config.run_dir) / "chunks"
    wanted = list(_on_disk(snapshot))
    missing: list[str] = []
    size = 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        incarnation = _incarnation(snapshot)
        for name, path in (
            ("server.json", place.config_file), ("authority.key", place.key_file),
            ("authority.crt", place.certificate_file), (DATABASE, snapshot),
        ):  # fmt: skip
            _add(tar, name, path)
        for digest, length in wanted:
            path = root / chunks.path(digest)
            try:
                _add(tar, f"chunks/{digest.hex()}", path)
                size += length
            except FileNotFoundError:
                missing.append(digest.hex())
        about = About(FORMAT, __version__, clock.now(), incarnation, len(wanted) - len(missing), size)
        _add_bytes(tar, "backup.json", msgspec.json.encode(about))
        tar.close()
        raw.flush()
        os.fsync(raw.fileno())
    return Report(len(wanted) - len(missing), size, incarnation, tuple(missing))


def restore(source: Path, place: Place, *, run_dir: str = "", database_url: str = "", force: bool = False) -> Report:
    """Make a server from a backup. Refused where one is already, unless `force`; a damaged file changes nothing."""
    if place.config_file.exists() and not force:
        raise Conflict(f"there is a server in {place.directory} already", "name another with -c NAME, or use --force")
    with tempfile.TemporaryDirectory(prefix="cpc-restore-") as scratch:
        about = _unpack(source, Path(scratch))
        config = msgspec.json.decode((Path(scratch) / "server.json").read_bytes(), type=Config)
        if run_dir:
            if not database.is_postgresql(config.database):
                config.database = f"sqlite:///{Path(run_dir).absolute()}/copernicus.db"
            config.run_dir = str(Path(run_dir).absolute())
        config.database = database_url or config.database
        config.name = place.directory.name
        _check_empty(config, force)
        report = _place(Path(scratch), place, config, about)
    return report


def _place(scratch: Path, place: Place, config: Config, about: About) -> Report:
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Path(config.run_dir)
    (root / "chunks").mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted((scratch / "chunks").glob("*")):
        target = root / "chunks" / chunks.path(bytes.fromhex(path.name))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(target, path.read_bytes())
    copying.load(scratch / DATABASE, config.database)
    incarnation = copying.new_life(config.database)
    write_secret(place.key_file, (scratch / "authority.key").read_bytes())
    write_secret(place.certificate_file, (scratch / "authority.crt").read_bytes())
    place.write(config)
    return Report(about.chunks, about.size, incarnation)


def _unpack(source: Path, scratch: Path) -> About:
    """Only what a backup holds, every chunk checked; Damaged names the file."""
    (scratch / "chunks").mkdir()
    try:
        with tarfile.open(source, "r:") as tar:
            for member in tar:
                chunk = member.name.startswith("chunks/")
                if not member.isreg() or not (chunk or member.name in _KEPT):
                    raise Damaged(f"{source} holds {member.name!r}, which no backup does")
                data = tar.extractfile(member)
                assert data is not None, "a regular file has content"
                content = data.read()
                if chunk and of_chunk(content).hex() != member.name.removeprefix("chunks/"):
                    raise Damaged(f"{source}: {member.name} is not what it was", "use another backup")
                (scratch / member.name).write_bytes(content)
        about = msgspec.json.decode((scratch / "backup.json").read_bytes(), type=About)
    except (tarfile.TarError, msgspec.DecodeError, EOFError, FileNotFoundError) as error:
        if not source.exists():
            raise BadInput(f"there is no file {source}") from None
        raise Damaged(f"{source} is not a whole backup: {error}", "use another backup") from error
    if about.format > FORMAT:
        raise Damaged(f"{source} was written by release {about.release}", "restore it with that release or a newer one")
    if any(not (scratch / name).exists() for name in _KEPT):
        raise Damaged(f"{source} is incomplete", "use another backup")
    return about


def _check_empty(config: Config, force: bool) -> None:
    if database.is_postgresql(config.database):
        if migrate.current(config.database):
            raise Conflict(f"the database {config.database} is not empty", "name an empty one with --database URL")
        return
    path = database.sqlite_path(config.database)
    if path.exists():
        if not force:
            raise Conflict(f"{path} exists already", "name another directory with --run-dir, or use --force")
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _on_disk(snapshot: Path) -> Iterator[tuple[bytes, int]]:
    """Chunks that the snapshot refers to and that lie on disk."""
    copy = sqlite3.connect(f"file:{snapshot}?mode=ro", uri=True)
    try:
        yield from copy.execute("SELECT digest, size FROM chunks WHERE data IS NULL ORDER BY digest")
    finally:
        copy.close()


def _incarnation(snapshot: Path) -> int:
    copy = sqlite3.connect(f"file:{snapshot}?mode=ro", uri=True)
    try:
        return int(copy.execute("SELECT incarnation FROM writer").fetchone()[0])
    finally:
        copy.close()


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o600
        tar.addfile(entry, file)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o600
    tar.addfile(entry, io.BytesIO(data))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
