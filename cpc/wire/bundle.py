"""The connection bundle: one file (`.cnx`) with all that a machine or a person needs to reach a server.

A worker bundle holds a key and certificate that may enrol; a client bundle holds an API token. Both hold addresses, the
server's id and its authority's certificate, by which the server is recognised whatever it is called. It is JSON, because
people move it by hand and look into it. It is a secret: mode 0600. Imports nothing heavy: cpcc reads it at every start.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from cpc.core.errors import BadInput, Damaged, NotFound

VERSION = 1
FILE_NAME = "client.cnx"
MAX_SIZE = 256 << 10

_AGAIN = "copy it again, or ask for a new one: cpc-server bundle"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. `role` is "worker", "client" or "allocation" (a worker's, for as long as
    one allocation of a pool lasts); `expires` is UTC in µs, 0 for never.

    `addresses` are (host, port) of the machines' door (13807), `client_addresses` of the people's (14807), to be tried in
    order. `authority`, `key` and `certificate` are PEM.
    """

    version: int = VERSION
    role: str
    name: str
    server: str
    server_name: str
    addresses: tuple[tuple[str, int], ...] = ()
    client_addresses: tuple[tuple[str, int], ...] = ()
    authority: str
    key: str = ""
    certificate: str = ""
    token: str = ""
    user: str = ""
    pool: str = ""  # of an allocation's: what its workers leave may be handed in by any other worker of the pool
    expires: int = 0


def encode(bundle: Bundle) -> bytes:
    """The text of the file."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"


def decode(text: bytes, what: str = "the bundle") -> Bundle:
    """The bundle in a text; Damaged, naming `what`, for anything else. Keys that a newer version added are ignored."""
    try:
        if len(text) > MAX_SIZE:
            raise msgspec.DecodeError("too long")
        found = msgspec.json.decode(text, type=Bundle)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Damaged(f"{what} is not a readable connection bundle: {error}", _AGAIN) from None
    if not 1 <= found.version <= VERSION:
        raise Damaged(
            f"{what} is a bundle of version {found.version}; this release reads version {VERSION}",
            "upgrade this installation (pip install -U copernicus-computing)",
        )
    if found.role not in ("worker", "client", "allocation"):
        raise Damaged(f"{what} is a bundle for {found.role[:40]!r}, which this release does not know", _AGAIN)
    missing = [part for part in _needed(found) if not getattr(found, part)]
    if missing:
        raise Damaged(f"{what} is incomplete: it has no {missing[0]}", _AGAIN)
    for host, port in found.addresses + found.client_addresses:
        if not host or not 0 < port < 65536:
            raise Damaged(f"{what} names an impossible address, {host!r} port {port}", _AGAIN)
    return found


def read(path: Path | str) -> Bundle:
    """The bundle in a file. NotFound, BadInput (not readable) or Damaged, each with the file's name."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no connection bundle {path}", "make one on the server: cpc-server bundle") from None
    except OSError as error:
        raise BadInput(f"cannot read the connection bundle {path}: {error.strerror}") from None
    return decode(text, str(path))


def write(bundle: Bundle, path: Path | str) -> None:
    """Write the file, for its owner only (0600), whole or not at all. BadInput when it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with contextlib.suppress(FileNotFoundError):  # left by a writer that died
            os.unlink(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(encode(bundle))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise BadInput(f"cannot write the connection bundle {path}: {error.strerror}") from None


def find(explicit: Path | str | None, home: Path | str) -> Path:
    """Which file to use: the one asked for, else `home`/client.cnx, else ./client.cnx. NotFound when there is none."""
    if explicit is not None:
        if not Path(explicit).is_file():
            raise NotFound(f"there is no connection bundle {explicit}", "make one on the server: cpc-server bundle")
        return Path(explicit)
    places = [Path(home) / FILE_NAME, Path(FILE_NAME)]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise NotFound(f"no connection bundle: looked for {looked}", "name one with -c, or copy it there")


def is_private(path: Path | str) -> bool:
    """Whether nobody but the owner may read the file."""
    return not os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _needed(bundle: Bundle) -> tuple[str, ...]:
    if bundle.role != "client":
        return ("server", "authority", "addresses", "key", "certificate")
    return ("server", "authority", "client_addresses", "token")


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
