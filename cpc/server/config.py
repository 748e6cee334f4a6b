"""Where a server's things are, and the few settings that it needs before it can open its database.

$CPC_HOME/servers/NAME/server.json     these settings
                      /authority.key   the identity key (0600): the server's own certificate authority
                      /authority.crt
                      /server.pid, server.lock, log/server.log
RUN_DIR/copernicus.db                  the database, if it is SQLite
       /chunks/                        contents of files
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cpc.core.errors import BadInput, Conflict, Damaged, NotFound
from cpc.core.names import clean
from cpc.core.reading import UNREADABLE

DEFAULT_NAME = "default"
PORT = 13807
CLIENT_PORT = 14807


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`server.json`. `host` is the name that others reach this server by; `listen` the addresses it takes connections on.

    `controller_wrap`: what keeps controllers from the server's own files, see `cpc.server.sandbox.prefix`. It is here and not
    among the settings, because who may change it may run any program as the server's user.
    """

    name: str
    host: str
    listen: tuple[str, ...]
    port: int
    client_port: int
    database: str
    run_dir: str
    controller_wrap: str = "auto"


def home(given: str | None = None) -> Path:
    """`--home`, else $CPC_HOME, else ~/.copernicus."""
    return Path(given or os.environ.get("CPC_HOME") or "~/.copernicus").expanduser().absolute()


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one server's configuration."""

    directory: Path

    @classmethod
    def named(cls, base: Path, name: str) -> Place:
        """Of the server with this name."""
        return cls(base / "servers" / clean(name, "server name"))

    @classmethod
    def find(cls, base: Path, name: str | None) -> Place:
        """The named server, else the only one there is."""
        if name:
            place = cls.named(base, name)
        else:
            found = sorted(path.parent for path in (base / "servers").glob("*/server.json"))
            default = cls.named(base, DEFAULT_NAME)
            if len(found) > 1 and not default.config_file.exists():
                names = ", ".join(path.name for path in found)
                raise BadInput(f"there are several servers in {base}: {names}", "say which with -c NAME")
            place = cls(found[0]) if len(found) == 1 else default
        if not place.config_file.exists():
            raise NotFound(
                f"there is no server {place.directory.name!r} in {base}", "make one with `cpc-server setup RUN_DIR`"
            )
        return place

    @property
    def config_file(self) -> Path:
        """server.json."""
        return self.directory / "server.json"

    @property
    def key_file(self) -> Path:
        """The identity key."""
        return self.directory / "authority.key"

    @property
    def certificate_file(self) -> Path:
        """The authority's certificate."""
        return self.directory / "authority.crt"

    @property
    def pid_file(self) -> Path:
        """The process id of the running server."""
        return self.directory / "server.pid"

    @property
    def log_file(self) -> Path:
        """What the server writes about itself."""
        return self.directory / "log" / "server.log"

    def read(self) -> Config:
        """The configuration, or Damaged with the file's name."""
        try:
            return msgspec.json.decode(self.config_file.read_bytes(), type=Config)
        except UNREADABLE as error:
            raise Damaged(
                f"the configuration {self.config_file} cannot be read: {error}",
                "restore it from a backup (`cpc-server restore`), or repair the file",
            ) from error
        except OSError as error:
            raise BadInput(f"{self.config_file} cannot be read: {error.strerror}") from error

    def write(self, config: Config) -> None:
        """Store the configuration, whole or not at all."""
        write_secret(self.config_file, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def write_secret(path: Path, data: bytes) -> None:
    """A file that only its owner can read, replaced whole and on disk when this returns."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Lock:
    """One server process per directory: a lock that the kernel lets go when the process ends, however it ends."""

    def __init__(self, path: Path, what: str) -> None:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+")  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise Conflict(f"{what} is in use by another server process", "stop that one first") from error

    @staticmethod
    def taken(path: Path) -> bool:
        """Whether a process holds it. Whoever asks at the same moment is not taken for one."""
        import fcntl

        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def release(self) -> None:
        """Let another process have it."""
        self._file.close()
