"""What cpcc remembers between calls: servers, tokens, current projects. `$CPC_HOME/clients.json`, mode 0600."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from cpc.client.trust import Pin
from cpc.core.errors import BadInput, Conflict, Damaged, NotFound


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


def home(given: str | None = None) -> Path:
    """`--home`, else $CPC_HOME, else ~/.copernicus."""
    return Path(given or os.environ.get("CPC_HOME") or "~/.copernicus").expanduser()


class Config:
    """Reads the file when it is made; `save` replaces it whole."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "clients.json"
        self._file = self._read()

    def _read(self) -> _File:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(
                f"{self.path} cannot be read: {error}", "repair or remove it, and add your servers again"
            ) from error
        except OSError as error:
            raise BadInput(f"{self.path} cannot be read: {error.strerror}") from error

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

    def add(self, server: Server, replace: bool = False) -> None:
        """Remember a server and make it the default. Conflict when the name is taken."""
        if any(known.name == server.name for known in self._file.servers):
            if not replace:
                raise Conflict(f"a server with name {server.name} already exists", "choose another with -n NAME")
            self._file.servers = [known for known in self._file.servers if known.name != server.name]
        self._file.servers.append(server)
        self._file.default = server.name
        self.save()

    def use(self, name: str) -> None:
        """Make a server the default."""
        self._file.default = self.find(name).name
        self.save()

    def save(self) -> None:
        """Write the file, readable by its owner only, whole or not at all."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._file), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror}") from error
