"""A saved project as a file: a tar.gz with its network, its files and the directories of its controllers.

    project              what `Saved` says, msgpack
    files/DIGEST         contents, each once
    persistent/INSTANCE/PATH   what a controller keeps on disk between runs: files, and links that stay within

Written piece by piece; read with nothing in it trusted: names, kinds, sizes and digests are checked, and nothing is
written but below a directory made for it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any

import msgspec

from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, CopernicusError, Damaged, TooLarge
from cpc.core.manifest import safe_path
from cpc.core.spec import JobSpec
from cpc.dataflow.snapshot import Snapshot
from cpc.server import keeping

VERSION = 1
NETWORK = "project"
FILES = "files"
PERSISTENT = "persistent"

_MAX_NETWORK = 1 << 30
_MAX_MEMBERS = 2_000_000
_LEAST = 256 << 20  # bytes that an archive may always unpack to; beyond, no more than so many times its size
_GROWTH = 200
_DIGEST = re.compile(r"[0-9a-f]{64}")


class SavedJob(msgspec.Struct, frozen=True):
    """A job that a step has asked for; `spec` is there unless the step knows its end already."""

    ordinal: int
    key: str
    spec: JobSpec | None = None


class SavedStep(msgspec.Struct, frozen=True):
    """A step, as `cpc.store.steps.StepRow`. `snapshot`: what an open one has started from."""

    id: int
    instance: int
    number: int
    state: int
    run: int
    function: str
    version: str
    since: int
    opened: int
    closed: int | None = None
    snapshot: bytes | None = None
    jobs: tuple[SavedJob, ...] = ()


class SavedChange(msgspec.Struct, frozen=True):
    """A line of the record."""

    change: int
    time: int
    actor: str
    kind: str
    step: int
    details: dict[str, Any]


class Memory(msgspec.Struct, frozen=True):
    """What an instance's controller keeps: bytes, and the name of its directory."""

    instance: int
    memory: bytes = b""
    directory: str = ""


class Saved(msgspec.Struct, frozen=True):
    """A project but for its files. `time` in µs UTC; `release` is of the server that saved it.

    `left`: what controllers keep on disk and could not be saved, INSTANCE/PATH.
    """

    version: int
    project: str
    time: int
    release: str
    snapshot: Snapshot
    memories: tuple[Memory, ...] = ()
    steps: tuple[SavedStep, ...] = ()
    record: tuple[SavedChange, ...] = ()
    left: tuple[str, ...] = ()


# --- writing -------------------------------------------------------------------------------------------------------------


class Packer:
    """Turns members into the pieces of a tar.gz."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._left = 0  # bytes of the open member
        self._padding = 0

    def begin(self, name: str, size: int) -> bytes:
        """A file of so many bytes; they follow through `data`."""
        head = tarfile.TarInfo(name)
        head.size, head.mode = size, 0o644
        self._left, self._padding = size, -size % tarfile.BLOCKSIZE
        return self._head(head) + self._pad()

    def link(self, name: str, target: str) -> bytes:
        """A symbolic link; they come last."""
        head = tarfile.TarInfo(name)
        head.type, head.linkname, head.mode = tarfile.SYMTYPE, target, 0o777
        return self._head(head)

    def _head(self, head: tarfile.TarInfo) -> bytes:
        return self._packer.compress(head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def data(self, piece: bytes) -> bytes:
        """More of the open member."""
        self._left -= len(piece)
        assert self._left >= 0, "a member has the size that was said"
        return self._packer.compress(piece) + self._pad()

    def _pad(self) -> bytes:
        if self._left or not self._padding:
            return b""
        padding, self._padding = self._padding, 0
        return self._packer.compress(bytes(padding))

    def end(self) -> bytes:
        """The end of the archive."""
        return self._packer.compress(bytes(2 * tarfile.BLOCKSIZE)) + self._packer.flush()


def encode(saved: Saved) -> bytes:
    """The member `project`."""
    return msgspec.msgpack.encode(saved)


# --- reading -------------------------------------------------------------------------------------------------------------


def unpack(archive: Path, directory: Path) -> Saved:
    """Check an archive and unpack its files and persistent directories below `directory`; Damaged, TooLarge or BadInput."""
    most = max(_LEAST, _GROWTH * archive.stat().st_size)
    saved: Saved | None = None
    seen: set[str] = set()
    links: dict[str, list[tuple[str, str]]] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                most -= member.size + tarfile.BLOCKSIZE
                if most < 0 or len(seen) >= _MAX_MEMBERS:
                    raise TooLarge("the archive unpacks to far more than a project holds", "it is refused")
                if member.name in seen or not (member.isreg() or (member.issym() and saved is not None)):
                    raise BadInput(
                        f"the archive holds {member.name[:200]!r}, which no saved project does", "it is refused"
                    )
                seen.add(member.name)
                if member.issym():
                    instance, path = _persistent(member.name)
                    links.setdefault(instance, []).append((path, member.linkname))
                    continue
                file = tar.extractfile(member)
                assert file is not None, "a regular file can be read"
                if member.name == NETWORK:
                    saved = _decode(file, member.size)
                elif saved is None:
                    raise BadInput(
                        "this is not a saved project: it does not begin with one", "use what `cpcc save` wrote"
                    )
                else:
                    _place(file, member, directory)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise Damaged(f"the archive cannot be read to its end: {error}", "save the project again") from error
    if saved is None:
        raise BadInput("this is not a saved project: there is nothing in it", "use what `cpcc save` wrote")
    for instance, made in links.items():  # at last, so that nothing is written through one
        try:
            keeping.make(directory / PERSISTENT / instance, made)
        except CopernicusError as error:
            raise BadInput(f"the archive holds {PERSISTENT}/{instance}: {error.message}", "it is refused") from error
    return saved


def _decode(file: IO[bytes], size: int) -> Saved:
    if size > _MAX_NETWORK:
        raise TooLarge("the network in the archive is larger than 1 GiB")
    data = file.read()
    version = _version(data)
    if version != VERSION:
        raise BadInput(f"the archive has format {version!r}; this server reads {VERSION}", "load it on a newer server")
    try:
        return msgspec.msgpack.decode(data, type=Saved)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Damaged(f"the network in the archive cannot be read: {error}", "save the project again") from error


def _version(data: bytes) -> object:
    try:
        found = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
        return msgspec.msgpack.decode(found["version"])
    except (msgspec.MsgspecError, KeyError, RecursionError) as error:
        raise BadInput("this is not a saved project", "use what `cpcc save` wrote") from error


def _persistent(name: str) -> tuple[str, str]:
    """(instance, path below its directory) of a member; BadInput when it is none."""
    kind, _, rest = name.partition("/")
    instance, _, path = rest.partition("/")
    if kind != PERSISTENT or not (instance.isascii() and instance.isdigit()):
        raise BadInput(f"the archive holds {name[:200]!r}, which no saved project does", "it is refused")
    try:
        safe_path(path.encode("utf-8", "surrogateescape"))
    except BadInput as error:
        raise BadInput(f"the archive holds {name[:200]!r}: {error.message}", "it is refused") from error
    return instance, path


def _place(file: IO[bytes], member: tarfile.TarInfo, directory: Path) -> None:
    kind, _, rest = member.name.partition("/")
    try:
        if kind == FILES and _DIGEST.fullmatch(rest):
            _copy(file, directory / FILES / rest, rest)
            return
    except CopernicusError as error:
        raise BadInput(f"the archive holds {member.name[:200]!r}: {error.message}", "it is refused") from error
    instance, path = _persistent(member.name)
    _copy(file, directory / PERSISTENT / instance / path)


def _copy(file: IO[bytes], target: Path, digest: str = "") -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        while piece := file.read(CHUNK):
            whole.update(piece)
            out.write(piece)
    if digest and whole.hexdigest() != digest:
        raise BadInput("its bytes are not those of its name")
