"""A backup: one tar file with the identity, the configuration, a snapshot of the database and all contents of files.

    server.json  authority.key  authority.crt  database.sqlite  chunks/HEX …  projects/… custody/… backup.json

It is made while the server runs: first the snapshot; then the chunk files that it refers to, and the persistent directories
of controllers, are given a second name, so that the garbage collector cannot take them however long the copying lasts; then
they are copied. Links of persistent directories are kept as links, if they stay within. Without PostgreSQL's or
SQLite's own tools, and into either kind of database, it is read back by `restore`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cpc import __version__
from cpc.core.clock import Clock
from cpc.core.errors import BadInput, Conflict
from cpc.server import keeping, workspace
from cpc.server.config import Config, Place
from cpc.server.federation import saved
from cpc.store import checks, chunks, copying

FORMAT = 1
DATABASE = "database.sqlite"
ABOUT = "backup.json"
SETTINGS = "server.json"
KEY = "authority.key"
CERTIFICATE = "authority.crt"

_PINNED = ".backup-"
_TRIES = 5  # snapshots, until the persistent directories that one names are all there


class About(msgspec.Struct, frozen=True):
    """`backup.json`, the last part: what the file is. `made` in µs UTC, `size` of all chunks in bytes.

    `parts` has the SHA-256 (hex) of every part that is not named by its own: one flipped bit is found by it.
    """

    format: int
    release: str
    made: int
    incarnation: int
    chunks: int
    size: int
    server: str = ""
    parts: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Report:
    """What a backup came to; `missing` names chunks that are referred to and were not there, `left` what else is not in it."""

    chunks: int
    size: int
    incarnation: int
    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def make(place: Place, config: Config, target: Path, clock: Clock) -> Report:
    """Write a backup; `target` is there whole or not at all. The server may be running."""
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already", "choose another name; backups are never overwritten")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_PINNED) as scratch:
            for left in reversed(range(_TRIES)):
                snapshot = Path(scratch) / f"{left}-{DATABASE}"
                copying.snapshot(config.database, snapshot)
                with _pinned(config, snapshot) as held:
                    if held.moved and left:
                        continue  # a run has ended meanwhile and left another directory
                    report = _write(place, snapshot, held, temporary, clock)
                    break
        os.link(temporary, target)  # unlike a rename, this fails when somebody else has made the file meanwhile
        sync(target.parent)
    except FileExistsError:
        raise Conflict(f"{target} exists already", "choose another name; backups are never overwritten") from None
    except OSError as error:
        raise BadInput(
            f"the backup {target} cannot be written: {error.strerror}", "free some space, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return report


@dataclass(frozen=True, slots=True)
class _Piece:
    digest: bytes
    size: int
    path: Path


@dataclass(slots=True)
class _Held:
    """What a snapshot refers to, under names that nobody else removes. `kept`: (name in the backup, file).

    `missing`: digests of chunks that are not there; `moved`: persistent directories that are not; `left`: what is in them
    and cannot be kept.
    """

    found: list[_Piece] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    kept: list[tuple[str, Path]] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@contextmanager
def _pinned(config: Config, snapshot: Path) -> Iterator[_Held]:
    root = Path(config.run_dir)
    _remove_leftovers(root)
    held = _Held()
    url = f"sqlite:///{snapshot}"
    with tempfile.TemporaryDirectory(dir=root, prefix=f"{_PINNED}{os.getpid()}-") as pins:
        for digest, size in checks.chunk_rows(url):
            path, pin = root / chunks.path(digest), Path(pins) / digest.hex()
            try:
                os.link(path, pin)
            except FileNotFoundError:
                held.missing.append(digest.hex())
                continue
            except OSError:
                pin = path  # no hard links here: the collector's grace has to be enough
            held.found.append(_Piece(digest, size, pin))
        for name in map(workspace.place_of, checks.directories(url)):
            _hold(root, Path(pins), name, held)
        held.kept += saved.pin(root, Path(pins))
        yield held


def _hold(root: Path, pins: Path, name: str, held: _Held) -> None:
    """A persistent directory, which nobody changes any more, whatever becomes of its name."""
    try:
        shutil.copytree(root / name, pins / name, symlinks=True, copy_function=_link_or_copy)
    except (FileNotFoundError, shutil.Error):
        held.moved.append(name)
        return
    found = keeping.content(pins / name)
    held.kept += [(f"{name}/{path}", file) for path, file, _ in found.files]
    held.kept += [(f"{name}/{path}", pins / name / path) for path, _ in found.links]
    held.left += [f"{name}/{path}" for path in found.left]


def _link_or_copy(source: str, target: str) -> None:
    saved.link_or_copy(Path(source), Path(target))


def _remove_leftovers(root: Path) -> None:
    """Second names that a backup left when it was killed."""
    for path in root.glob(f"{_PINNED}*"):
        pid = path.name.removeprefix(_PINNED).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _write(place: Place, snapshot: Path, held: _Held, target: Path, clock: Clock) -> Report:
    missing = [*held.missing, *held.moved]
    url = f"sqlite:///{snapshot}"
    written = size = 0
    parts: dict[str, str] = {}
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in (
            (SETTINGS, place.config_file), (KEY, place.key_file), (CERTIFICATE, place.certificate_file),
            (DATABASE, snapshot),
        ):  # fmt: skip
            parts[name] = digest_of(path)
            _add(tar, name, path)
        for piece in held.found:
            try:
                _add(tar, f"chunks/{piece.digest.hex()}", piece.path)
            except FileNotFoundError:
                missing.append(piece.digest.hex())
                continue
            written += 1
            size += piece.size
        for name, path in held.kept:
            parts[name] = digest_of(path)
            _add(tar, name, path)
        life = checks.incarnation(url)
        about = About(FORMAT, __version__, clock.now(), life, written, size, checks.server_id(url), parts)
        data = msgspec.json.encode(about)
        entry = tarfile.TarInfo(ABOUT)
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
        tar.close()
        raw.flush()
        os.fsync(raw.fileno())
    return Report(written, size, life, tuple(missing), tuple(held.left))


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    if path.is_symlink():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        tar.addfile(entry)
        return
    with path.open("rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o600
        tar.addfile(entry, file)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of what a link leads to, hex."""
    if path.is_symlink():
        return hashlib.sha256(b"link " + os.fsencode(os.readlink(path))).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(directory: Path) -> None:
    """What was renamed or made in a directory is on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems do not take it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
