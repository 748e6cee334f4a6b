"""What is checked and done before a server's things are used: its files, its database's shape, its age of backup."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from cpc.core.chance import Chance
from cpc.core.clock import DAY, SECOND, Clock
from cpc.core.errors import BadInput, Conflict, CopernicusError, Damaged
from cpc.core.reading import UNREADABLE
from cpc.core.resources import show_span
from cpc.server import filesystem
from cpc.server.config import Config, Place, write_secret
from cpc.store import checks, copying, database, migrate
from cpc.store.lock import DatabaseLock
from cpc.wire.identity import Authority

#: A SQLite database up to this size is looked through at each start; larger ones by `doctor`.
LOOKED_THROUGH = 1 << 30

#: A backup older than this is warned of.
OLD_BACKUP = 7 * DAY

_LAST_BACKUP = "last-backup.json"


class LastBackup(msgspec.Struct, frozen=True):
    """When (µs) and where the newest backup was made."""

    made: int
    file: str


def check_config(place: Place) -> Config:
    """The configuration, with values that make sense; Damaged names the file."""
    config = place.read()
    wrong = [
        f"{name} is {value}" for name, value in (("port", config.port), ("client_port", config.client_port))
        if not 0 < value < 65536
    ]  # fmt: skip
    if config.port == config.client_port:
        wrong.append(f"port and client_port are both {config.port}")
    if not config.listen:
        wrong.append("listen is empty")
    if not config.host:
        wrong.append("host is empty")
    if not Path(config.run_dir).is_absolute():
        wrong.append(f"run_dir is {config.run_dir!r}, not an absolute path")
    try:
        database.is_postgresql(config.database)
    except BadInput as error:
        wrong.append(error.message)
    if wrong:
        raise Damaged(f"{place.config_file}: {'; '.join(wrong)}", "repair the file, or restore it from a backup")
    if not Path(config.run_dir).is_dir():
        raise Damaged(f"the run directory {config.run_dir} is missing", "mount its disk, or restore it from a backup")
    return config


def authority(place: Place, clock: Clock, chance: Chance) -> Authority:
    """The identity; Damaged names the file."""
    parts = []
    for path in (place.key_file, place.certificate_file):
        try:
            parts.append(path.read_bytes())
        except FileNotFoundError:
            raise Damaged(f"{path} is missing", "restore the server from a backup: cpc-server restore FILE") from None
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}", "check its owner and mode") from None
    try:
        return Authority.load(parts[0], parts[1], clock, chance)
    except CopernicusError as error:
        raise Damaged(
            f"the identity in {place.key_file} and {place.certificate_file.name} is damaged: {error.message}",
            "restore both files from a backup",
        ) from error


def check_database(config: Config) -> None:
    """The database is there, sound and of this release's shape; Damaged, Unavailable or Conflict in words."""
    if look_at_database(config) == "old":
        raise Conflict("the database was written by an older release", "upgrade it with `cpc-server start`")


def look_at_database(config: Config) -> str:
    """ "" when the database fits, "old" when it must be upgraded. Damaged, naming the file, when it is damaged."""
    checks.check_file(config.database)
    checks.check_log(config.database)
    if not database.is_postgresql(config.database):
        path = database.sqlite_path(config.database)
        filesystem.check_database(path)
        if path.stat().st_size <= LOOKED_THROUGH:
            found = checks.faults(config.database, thorough=False)
            if found:
                raise Damaged(
                    f"the database {path} is damaged: {found[0]}",
                    "restore it from a backup: cpc-server restore FILE --force",
                )
    if not migrate.current(config.database):
        raise Damaged(
            f"the database {checks.shown(config.database)} is empty",
            "check its URL (`cpc-server config database`), or restore it from a backup",
        )
    return migrate.check(config.database)


def upgrade(config: Config, clock: Clock, say: Callable[[str], None]) -> None:
    """Back an older database up and give it this release's shape; nobody else uses it meanwhile.

    CopernicusError in one line when that fails: the database is as it was then, and the older release goes on with it.
    """
    lock = DatabaseLock(config.database)
    try:
        before = migrate.current(config.database)
        copy = _copy(config, before, clock, say)
        say(f"upgrading it to {migrate.newest()}")
        try:
            migrate.upgrade(config.database)
        except Exception as error:
            raise CopernicusError(
                f"the database could not be upgraded and is as it was: {migrate.why(error)}",
                f"go on with the older release; a copy is in {copy}",
            ) from error
    finally:
        lock.release()


def _copy(config: Config, shape: str, clock: Clock, say: Callable[[str], None]) -> Path:
    """A copy of the database as it is. One that a failed upgrade has left serves again, else each try would leave one."""
    directory = Path(config.run_dir) / "backups"
    directory.mkdir(mode=0o700, exist_ok=True)
    for found in sorted(directory.glob(f"before-{migrate.newest()}.*.sqlite"), reverse=True):
        if copying.is_of_this_moment(config.database, found):
            say(f"the database is of an older release ({shape}); a copy is there already: {found}")
            return found
    copy = directory / f"before-{migrate.newest()}.{stamp(clock)}.sqlite"
    for number in itertools.count(2):  # two within a second: neither takes the place of the other
        if not copy.exists():
            break
        copy = directory / f"before-{migrate.newest()}.{stamp(clock)}-{number}.sqlite"
    say(f"the database is of an older release ({shape}); a copy is made: {copy}")
    part = copy.with_suffix(".part")
    try:
        part.touch(mode=0o600)
        copying.snapshot_as_it_is(config.database, part)
        part.rename(copy)
    except Exception as error:
        raise CopernicusError(
            f"the database was not upgraded, because its copy {copy} cannot be made: {migrate.why(error)}",
            f"make room in {directory} and start again, or go on with the older release",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return copy


def stamp(clock: Clock) -> str:
    """The time for file names: 20260301T120000Z."""
    return f"{datetime.datetime.fromtimestamp(clock.now() / SECOND, datetime.UTC):%Y%m%dT%H%M%SZ}"


def show_time(micros: int) -> str:
    """A time for people: 2026-03-01 12:00 UTC."""
    return f"{datetime.datetime.fromtimestamp(micros / SECOND, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def site_certificate(config: Config) -> str:
    """The file of the site certificate, "" for none; read from the database beside a running server."""
    return checks.stored_settings(config.database).get("site_certificate", "")


def note_backup(place: Place, target: Path, made: int) -> None:
    """A backup of the server was made at that time (µs)."""
    write_secret(place.directory / _LAST_BACKUP, msgspec.json.encode(LastBackup(made, str(target))))


def last_backup(place: Place) -> LastBackup | None:
    """The newest backup that was made of this server."""
    try:
        return msgspec.json.decode((place.directory / _LAST_BACKUP).read_bytes(), type=LastBackup)
    except (OSError, *UNREADABLE):
        return None


def backup_warnings(made: int | None, now: int) -> list[str]:
    """What is to be said of the newest backup, made at that time (µs); nothing while it is young."""
    if made is None:
        return ["there is no backup; make one with `cpc-server backup FILE`"]
    if now - made > OLD_BACKUP:
        return [f"the last backup is {show_span((now - made) / SECOND)} old; make one with `cpc-server backup FILE`"]
    return []
