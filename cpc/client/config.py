"""What cpcc remembers between calls: servers, tokens, current projects. `$CPC_HOME/clients.json`, mode 0600."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from cpc.client.trust import Pin
from cpc.core.errors import BadInput, Conflict, Damaged, NotFound
from cpc.core.reading import UNREADABLE


class Server(msgspec.Struct, kw_only=True):
    """A server that was added. `project`: the current one."""

    name: str
    host: str
    port: int
    pin: Pin
    token: str = ""
    user: str = ""
    project: str = ""


class _File(msgspec.Struct, kw_only=True):
    version: int = 1
    default: str = ""
    servers: list[Server] = []
    bundles: dict[str, str] = {}  # SERVER-ID/NAME of a client bundle → its current project


def home(given: str | None = None) -> Path:
    """`--home`, else $CPC_HOME, else ~/.copernicus."""
    return Path(given or os.environ.get("CPC_HOME") or "~/.copernicus").expanduser()


class Config:
    """Reads the file when it is made. A change reads it again and replaces it whole, one process after the other."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "clients.json"
        self._file = self._read()

    def _read(self) -> _File:
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except UNREADABLE as error:
            raise Damaged(
                f"{self.path} cannot be read: {error}", "repair or remove it, and add your servers again"
            ) from error
        except OSError as error:
            raise BadInput(f"{self.path} cannot be read: {error.strerror}") from error
        if found.version != 1:
            raise Damaged(
                f"{self.path} was written by a newer release (version {found.version})",
                "upgrade this installation, or use another --home",
            )
        return found

    @property
    def servers(self) -> tuple[Server, ...]:
        """All, in the order in which they were added."""
        return tuple(self._file.servers)

    @property
    def default(self) -> str:
        """The name of the default server."""
        return self._file.default

    def find(self, name: str | None = None) -> Server:
        """The named server, or the default one."""
        wanted = name or self._file.default
        if not wanted:
            raise NotFound("no server was added yet", "add one with `cpcc add-server HOST`")
        for server in self._file.servers:
            if server.name == wanted:
                return server
        known = ", ".join(server.name for server in self._file.servers) or "none"
        raise NotFound(f"there is no server {wanted!r} in {self.path}", f"known: {known}")

    def bundle_project(self, bundle: str) -> str:
        """The current project of a client bundle, named as SERVER-ID/NAME."""
        return self._file.bundles.get(bundle, "")

    def check_free(self, name: str) -> None:
        """Conflict when a server has this name."""
        if any(known.name == name for known in self._file.servers):
            raise Conflict(f"a server with name {name} already exists", "choose another with -n NAME")

    def add(self, server: Server) -> None:
        """Remember a server and make it the default. Conflict when the name is taken."""

        def act(file: _File) -> None:
            self.check_free(server.name)
            file.servers.append(server)
            file.default = server.name

        self._change(act)

    def use(self, name: str) -> None:
        """Make a server the default."""

        def act(file: _File) -> None:
            file.default = self.find(name).name

        self._change(act)

    def update(self, name: str, **fields: str) -> None:
        """Set `token`, `user` or `project` of a server."""

        def act(_: _File) -> None:
            server = self.find(name)
            for field, value in fields.items():
                setattr(server, field, value)

        self._change(act)

    def set_bundle_project(self, bundle: str, project: str) -> None:
        """Remember the current project of a client bundle; "" for none."""

        def act(file: _File) -> None:
            file.bundles = {**file.bundles, bundle: project}
            if not project:
                del file.bundles[bundle]

        self._change(act)

    def _change(self, act: Callable[[_File], None]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_name(".clients.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._file = self._read()
                act(self._file)
                self._write()
            finally:
                os.close(lock)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror}") from error

    def _write(self) -> None:
        """Readable by its owner only, whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):  # left by a process that died
            temporary.unlink()
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._file), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
