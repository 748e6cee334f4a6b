"""A server from a backup: all of it, or nothing is changed.

Everything is unpacked beside its place, every chunk checked by its digest and the database by itself; what is in the way is
moved aside, not removed; then the parts are renamed into place. The restored server begins a new incarnation: ids, leases
and tokens that were made after the backup are recognised and never confused with new ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from cpc.core.clock import Clock
from cpc.core.digest import CHUNK, of_chunk
from cpc.core.errors import BadInput, Conflict, CopernicusError, Damaged
from cpc.core.manifest import safe_path
from cpc.core.reading import UNREADABLE
from cpc.server import backup, filesystem, keeping, process, upkeep, workspace
from cpc.server.backup import About, sync
from cpc.server.config import Config, Place, write_secret
from cpc.server.federation import held, saved
from cpc.server.setup import database_files, erase_database, in_the_way, make_directory, move_aside
from cpc.store import checks, chunks, copying, database, migrate
from cpc.wire.identity import Authority

_SMALL = 1 << 20
_LIVES = "lives.json"
_DEPTH = 3  # of persistent directories below the run directory: projects/PROJECT/INSTANCE/NAME


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where to restore to: empty means as in the backup."""

    name: str = ""
    run_dir: str = ""
    database: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to; `missing` names chunks that the backup did not have either."""

    place: Place
    config: Config
    about: About
    incarnation: int
    missing: tuple[str, ...]
    aside: tuple[Path, ...]


def restore(base: Path, source: Path, wanted: Wanted, clock: Clock) -> Restored:
    """Make a server from the backup `source`. Conflict where one is already, unless `wanted.force`; Damaged names the part."""
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar, ExitStack() as undo:
            made = _restore(base, source, tar, wanted, clock, undo)
            undo.pop_all()
            return made
    except (tarfile.TarError, EOFError) as error:
        raise Damaged(f"{source} is not a whole backup: {error}", "use another backup") from error
    except FileNotFoundError as error:
        if source.exists():
            raise
        raise BadInput(f"there is no file {source}") from error


def _restore(base: Path, source: Path, tar: tarfile.TarFile, wanted: Wanted, clock: Clock, undo: ExitStack) -> Restored:
    config, settings = _config(source, tar, wanted)
    place = Place.named(base, wanted.name or config.name)
    config.name = place.directory.name
    make_directory(base / "servers", undo)
    if place.directory.exists():
        undo.callback(process.Hold(place, None).release)
    make_directory(Path(config.run_dir), undo)
    lock = process.run_lock(config)
    undo.callback(lock.release)
    found = in_the_way(place, config)
    if found and not wanted.force:
        raise Conflict(
            f"{found[0]} exists already", "use --force to move it aside, or --run-dir and -c for another place"
        )
    _check_database(config)
    staging = Path(config.run_dir) / f".restore-{os.getpid()}"
    make_directory(staging, undo)
    undo.callback(shutil.rmtree, staging, ignore_errors=True)
    about = _unpack(source, tar, staging)
    if about.parts.get(backup.SETTINGS, settings) != settings:
        raise Damaged(f"{source}: {backup.SETTINGS} is not what it was", "use another backup")
    missing = _check(source, staging, about)
    last = max(_known_life(base, about.server), *(_life(each) for each in (config, _former(place)) if each), 0)
    aside = move_aside(base, found, upkeep.stamp(clock), undo)
    incarnation = _put(staging, place, config, last, undo)
    _remember_life(base, about.server, incarnation)
    shutil.rmtree(staging, ignore_errors=True)
    lock.release()
    return Restored(place, config, about, incarnation, missing, tuple(aside))


# --- what is wanted -----------------------------------------------------------------------------------------------------


def _config(source: Path, tar: tarfile.TarFile, wanted: Wanted) -> tuple[Config, str]:
    """The first part, changed as wanted; the SHA-256 (hex) of what it was."""
    member = tar.next()
    if member is None or member.name != backup.SETTINGS or not member.isreg() or member.size > _SMALL:
        raise Damaged(f"{source} is not a backup of a Copernicus server", "use another file")
    text = _content(tar, member).read()
    try:
        config = msgspec.json.decode(text, type=Config)
    except UNREADABLE as error:
        raise Damaged(f"{source}: {backup.SETTINGS} cannot be read: {error}", "use another backup") from error
    if wanted.run_dir:
        run_dir = str(Path(wanted.run_dir).expanduser().absolute())
        if not database.is_postgresql(config.database):
            config.database = f"sqlite:///{run_dir}/copernicus.db"
        config.run_dir = run_dir
    config.database = wanted.database or config.database
    return config, hashlib.sha256(text).hexdigest()


def _check_database(config: Config) -> None:
    if not database.is_postgresql(config.database):
        filesystem.check_database(database.sqlite_path(config.database))
    elif migrate.current(config.database):
        raise Conflict(
            f"the database {checks.shown(config.database)} is not empty",
            "create an empty one and name it with --database URL; restore never erases a database",
        )


# --- unpack and check ---------------------------------------------------------------------------------------------------


def _unpack(source: Path, tar: tarfile.TarFile, staging: Path) -> About:
    """Every part to `staging`, chunks checked; only what a backup holds."""
    about: About | None = None
    kept: set[str] = set()
    links: dict[str, list[tuple[str, str]]] = {}
    while (member := tar.next()) is not None:
        link = member.issym() and member.name.startswith(f"{workspace.PROJECTS}/")
        if not (member.isreg() or link) or about is not None:
            raise Damaged(f"{source} holds {member.name!r}, which no backup does", "use another backup")
        if member.name.startswith(f"{workspace.PROJECTS}/"):
            kept.add(member.name)
        if link:
            *place, path = member.name.split("/", 4)
            links.setdefault("/".join(place), []).append((path, member.linkname))
        elif member.name.startswith("chunks/"):
            _unpack_chunk(source, tar, member, staging)
        elif member.name in (backup.KEY, backup.CERTIFICATE) and member.size <= _SMALL:
            write_secret(staging / member.name, _content(tar, member).read())
        elif member.name.startswith(f"{workspace.PROJECTS}/") or saved.belongs(member.name):
            _unpack_kept(source, tar, member, staging)
        elif member.name == backup.DATABASE:
            with (staging / backup.DATABASE).open("xb") as file:
                shutil.copyfileobj(_content(tar, member), file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
        elif member.name == backup.ABOUT and member.size <= _SMALL:
            about = _about(source, _content(tar, member).read())
        else:
            raise Damaged(f"{source} holds {member.name[:200]!r}, which no backup does", "use another backup")
    if about is None:
        raise Damaged(f"{source} is incomplete: its end is missing", "use another backup")
    strange = sorted(kept - about.parts.keys())
    if strange:
        raise Damaged(f"{source} holds {strange[0][:200]!r}, which it does not list", "use another backup")
    for directory, made in links.items():  # at last, so that nothing is written through one
        _make_links(source, staging, directory, made)
    return about


def _unpack_chunk(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, staging: Path) -> None:
    name = member.name.removeprefix("chunks/")
    if member.size > CHUNK or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise Damaged(f"{source} holds {member.name[:200]!r}, which no backup does", "use another backup")
    data = _content(tar, member).read()
    digest = of_chunk(data)
    if digest.hex() != name:
        raise Damaged(f"{source}: {member.name} is not what it was", "use another backup")
    path = staging / chunks.path(digest)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(descriptor)


def _unpack_kept(source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, staging: Path) -> None:
    """A file of a persistent directory, or of custody; `parts` has its digest."""
    try:
        safe_path(member.name.encode("utf-8", "surrogateescape"))
    except BadInput as error:
        raise Damaged(f"{source} holds {member.name[:200]!r}, which no backup does", "use another backup") from error
    path = staging / member.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(_content(tar, member), file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _make_links(source: Path, staging: Path, directory: str, links: list[tuple[str, str]]) -> None:
    """Links of a persistent directory, none of which leads out of it."""
    try:
        safe_path(os.fsencode(directory))
        if directory.count("/") != _DEPTH:
            raise BadInput(f"{directory[:200]!r} is no such directory")
        keeping.make(staging / directory, links)
    except BadInput as error:
        raise Damaged(f"{source} holds links that no backup does: {error.message}", "use another backup") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    data = tar.extractfile(member)
    assert data is not None, "a regular file has content"
    return data


def _about(source: Path, text: bytes) -> About:
    try:
        about = msgspec.json.decode(text, type=About)
    except UNREADABLE as error:
        raise Damaged(f"{source}: {backup.ABOUT} cannot be read: {error}", "use another backup") from error
    if about.format > backup.FORMAT:
        raise Damaged(f"{source} was written by release {about.release}", "restore it with that release or a newer one")
    return about


def _check(source: Path, staging: Path, about: About) -> tuple[str, ...]:
    """The parts fit together; the chunks that the backup did not have."""
    absent = [name for name in (backup.KEY, backup.CERTIFICATE, backup.DATABASE) if not (staging / name).exists()]
    if absent:
        raise Damaged(f"{source} is incomplete: {absent[0]} is missing", "use another backup")
    for name, digest in about.parts.items():
        if name != backup.SETTINGS and not os.path.lexists(staging / name):
            raise Damaged(f"{source} is incomplete: {name} is missing", "use another backup")
        if name != backup.SETTINGS and backup.digest_of(staging / name) != digest:
            raise Damaged(f"{source}: {name} is not what it was", "use another backup")
    url = f"sqlite:///{staging / backup.DATABASE}"
    found = checks.faults(url, thorough=False)
    if found:
        raise Damaged(f"{source}: its database is damaged: {found[0]}", "use another backup")
    try:
        authority = Authority.load((staging / backup.KEY).read_bytes(), (staging / backup.CERTIFICATE).read_bytes())
    except CopernicusError as error:
        raise Damaged(f"{source}: its identity is damaged: {error.message}", "use another backup") from error
    migrate.check(url)
    if migrate.current(url) == migrate.newest() and checks.server_id(url) != authority.server_id:
        raise Damaged(f"{source}: its database and its identity key are of two servers", "use another backup")
    migrate.upgrade(url)
    copying.settle(staging / backup.DATABASE)
    missing = tuple(
        digest.hex() for digest, _ in checks.chunk_rows(url) if not (staging / chunks.path(digest)).exists()
    )
    count = sum(1 for path in (staging / "chunks").rglob("*") if path.is_file()) if about.chunks else 0
    if count < about.chunks:
        raise Damaged(f"{source} is incomplete: {count} of {about.chunks} chunks", "use another backup")
    copying.settle(staging / backup.DATABASE)
    return missing


# --- put into place -----------------------------------------------------------------------------------------------------


def _put(staging: Path, place: Place, config: Config, last: int, undo: ExitStack) -> int:
    if database.is_postgresql(config.database):
        undo.callback(erase_database, config.database)
        copying.load(staging / backup.DATABASE, config.database)
    else:
        target = database.sqlite_path(config.database)
        make_directory(target.parent, undo)
        for path in database_files(config):
            undo.callback(path.unlink, missing_ok=True)
        shutil.move(staging / backup.DATABASE, target)
        target.chmod(0o600)
        sync(target.parent)
    incarnation = copying.new_life(config.database, last)
    for directory in map(workspace.place_of, checks.directories(config.database)):
        (staging / directory).mkdir(mode=0o700, parents=True, exist_ok=True)  # also one without a file in it
    for name in ("chunks", workspace.PROJECTS, held.DIRECTORY):
        if (staging / name).exists():
            _move(staging / name, Path(config.run_dir) / name, undo)
    make_directory(place.directory, undo)
    undo.callback(shutil.rmtree, place.directory, ignore_errors=True)
    write_secret(place.key_file, (staging / backup.KEY).read_bytes())
    write_secret(place.certificate_file, (staging / backup.CERTIFICATE).read_bytes())
    place.write(config)
    return incarnation


def _move(staged: Path, root: Path, undo: ExitStack) -> None:
    """What was unpacked is in its place, and its names are on disk."""
    if root.exists():
        root.rmdir()  # empty, else it was in the way
    os.rename(staged, root)
    undo.callback(shutil.rmtree, root, ignore_errors=True)
    for directory in (*(path for path in root.rglob("*") if path.is_dir()), root, root.parent):
        sync(directory)


# --- lives --------------------------------------------------------------------------------------------------------------


def _former(place: Place) -> Config | None:
    with suppress(CopernicusError):
        return place.read()
    return None


def _life(config: Config) -> int:
    """The incarnation that a database there has lived, 0 when it cannot be told."""
    try:
        checks.check_file(config.database)
        return checks.incarnation(config.database)
    except CopernicusError:
        return 0


def _lives(base: Path) -> dict[str, int]:
    with suppress(OSError, *UNREADABLE):
        return msgspec.json.decode((base / "servers" / _LIVES).read_bytes(), type=dict[str, int])
    return {}


def _known_life(base: Path, server: str) -> int:
    """The highest incarnation that a restore in this home has begun: a second restore of one backup begins another."""
    return _lives(base).get(server, 0)


def _remember_life(base: Path, server: str, incarnation: int) -> None:
    lives = _lives(base)
    lives[server] = max(incarnation, lives.get(server, 0))
    write_secret(base / "servers" / _LIVES, msgspec.json.encode(lives))
