"""A new server: identity, database, administrator, first bundle. All of it, or nothing is left behind.

What is replaced (with --force) is moved aside first and stays; it comes back when the setup fails.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import BadInput, Conflict, CopernicusError
from cpc.server import filesystem, offline, passwords, process, sandbox, upkeep
from cpc.server.config import Config, Place, write_secret
from cpc.store import checks, database, migrate
from cpc.wire import bundle as files
from cpc.wire.identity import Authority, authority_id, read_certificate

ADMINISTRATOR = "cpc-admin"
WORKER_BUNDLE = "worker"


@dataclass(frozen=True, slots=True)
class Made:
    """A server that has been set up; `aside` are the places where what it replaced is kept."""

    place: Place
    config: Config
    fingerprint: str
    bundle: Path
    default_bundle: bool
    aside: tuple[Path, ...]
    warnings: tuple[str, ...]


def in_the_way(place: Place, config: Config) -> list[Path]:
    """What is there already and would be moved aside."""
    found = [place.directory] if place.directory.exists() else []
    if not database.is_postgresql(config.database):
        found += [path for path in database_files(config) if path.exists()]
    below = [Path(config.run_dir) / name for name in ("chunks", "projects", "custody")]
    return [*found, *(path for path in below if path.exists() and any(path.iterdir()))]


def database_files(config: Config) -> list[Path]:
    """The files of a SQLite database; none of PostgreSQL's are ours."""
    if database.is_postgresql(config.database):
        return []
    path = database.sqlite_path(config.database)
    return [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]


def check(config: Config) -> None:
    """Refuse what cannot work before anything is touched."""
    if not database.is_postgresql(config.database):
        path = database.sqlite_path(config.database)
        if not path.is_absolute():
            raise BadInput(f"the database {path} is not an absolute path", "write sqlite:////absolute/path")
        filesystem.check_database(path)
    elif migrate.current(config.database):
        raise Conflict(
            f"the database {checks.shown(config.database)} holds a server's tables already",
            "create an empty one and name that; setup never erases a database",
        )


def make(
    base: Path, place: Place, config: Config, password: str, clock: Clock, chance: Chance,
    replace: Callable[[list[Path]], bool] = lambda _: False,
) -> Made:  # fmt: skip
    """Set the server up. `replace` is asked when something is in the way: True moves it aside. See `Made`."""
    passwords.check(password, ADMINISTRATOR)
    check(config)
    with ExitStack() as undo:
        make_directory(base / "servers", undo)
        former = place.read() if place.config_file.exists() and _readable(place) else None
        if place.directory.exists():
            hold = process.Hold(place, former)
            undo.callback(hold.release)
        make_directory(Path(config.run_dir), undo)
        lock = process.run_lock(config) if former is None or former.run_dir != config.run_dir else None
        if lock is not None:
            undo.callback(lock.release)
        found = in_the_way(place, config)
        if found and not replace(found):
            raise Conflict(f"{found[0]} exists already", "use -force to move it aside, or choose another name or place")
        old_bundle = _own_bundle(base, place)
        aside = move_aside(base, found, upkeep.stamp(clock), undo)
        if old_bundle is not None:
            aside += move_aside(base, [old_bundle], upkeep.stamp(clock), undo)
        made = _make(base, place, config, password, clock, chance, undo)
        undo.pop_all()
        if lock is not None:
            lock.release()
    return Made(
        place, config, made[0].fingerprint, made[1], made[2], tuple(aside), tuple(_warnings(base, config))
    )  # fmt: skip


def _make(
    base: Path, place: Place, config: Config, password: str, clock: Clock, chance: Chance, undo: ExitStack
) -> tuple[Authority, Path, bool]:
    make_directory(place.directory, undo)
    undo.callback(shutil.rmtree, place.directory, ignore_errors=True)
    authority = Authority.create(str(uuid.UUID(bytes=chance.token(16), version=4)), clock, chance)
    write_secret(place.key_file, authority.key_pem)
    write_secret(place.certificate_file, authority.certificate_pem)
    _database(config, authority.server_id, clock, undo)
    with offline.services(config, authority, clock, chance) as services:
        services.add_user(ADMINISTRATOR, password, super_user=True)
        text, _ = services.make_bundle(WORKER_BUNDLE, "worker", "", 0.0)
    bundle = place.directory / "worker.cnx"
    files.write(files.decode(text.encode()), bundle)
    default = base / files.FILE_NAME
    absent = not default.exists()
    if absent:
        undo.callback(default.unlink, missing_ok=True)
        files.write(files.decode(text.encode()), default)
    place.write(config)  # last: from here on it is a server
    return authority, bundle, absent


def _database(config: Config, server: str, clock: Clock, undo: ExitStack) -> None:
    if database.is_postgresql(config.database):
        undo.callback(erase_database, config.database)
    else:
        for path in database_files(config):
            undo.callback(path.unlink, missing_ok=True)
        make_directory(database.sqlite_path(config.database).parent, undo)
    migrate.initialise(config.database, server=server, name=config.name, now=clock.now())


def erase_database(url: str) -> None:
    """Undo what was put into a PostgreSQL database that was empty."""
    with suppress(Exception):  # it may be gone for the same reason for which the setup failed
        migrate.erase(url)


def make_directory(path: Path, undo: ExitStack) -> None:
    """Make it with all that is missing above, for the owner alone; to be removed again if it stays empty."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700)
        except OSError as error:
            raise BadInput(f"the directory {each} cannot be made: {error.strerror}", "choose another place") from None
        undo.callback(_remove_empty, each)
    if not path.is_dir():
        raise BadInput(f"{path} is not a directory", "choose another place")
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadInput(f"the directory {path} cannot be written", "choose another place, or change its owner")


def _remove_empty(path: Path) -> None:
    (path / "lock").unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()


def move_aside(base: Path, found: list[Path], stamp: str, undo: ExitStack) -> list[Path]:
    """Rename what is in the way; configurations go to `base`/replaced, so that they do not count as servers."""
    moved: list[Path] = []
    for path in found:
        if not path.exists():
            continue  # the write-ahead log goes when somebody has looked into the database
        if path.parent == base / "servers":
            make_directory(base / "replaced", undo)
            target = _unused(base / "replaced" / f"{path.name}-{stamp}")
        else:
            # A write-ahead log keeps the name that belongs to its database.
            journal = next((end for end in ("-wal", "-shm") if path.name.endswith(end)), "")
            name = f"{path.name.removesuffix(journal)}.replaced-{stamp}"
            target = path.with_name(name + journal) if journal else _unused(path.with_name(name))
        os.rename(path, target)
        undo.callback(os.rename, target, path)
        moved.append(target)
    return moved


def _own_bundle(base: Path, place: Place) -> Path | None:
    """The home's default bundle, if it leads to the server that is being replaced."""
    path = base / files.FILE_NAME
    with suppress(CopernicusError, OSError):
        former = authority_id(read_certificate(place.certificate_file.read_bytes()))
        return path if files.read(path).server == former else None
    return None


def _unused(path: Path) -> Path:
    number = 1
    chosen = path
    while chosen.exists():
        number += 1
        chosen = path.with_name(f"{path.name}-{number}")
    return chosen


def _readable(place: Place) -> bool:
    with suppress(Exception):
        place.read()
        return True
    return False


def _warnings(base: Path, config: Config) -> list[str]:
    found = [
        filesystem.exposed(base),
        filesystem.exposed(Path(config.run_dir)),
        sandbox.exposed(config.controller_wrap),
    ]
    return [each for each in dict.fromkeys(found) if each]
