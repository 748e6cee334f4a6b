"""From a run directory to a manifest: what a job made, hashed, with small contents at hand. Runs off the reactor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cpc.core import manifest as manifests
from cpc.core.digest import CHUNK, Content, of_chunk, of_chunks
from cpc.core.errors import BadInput, CopernicusError, Damaged
from cpc.core.manifest import Entry, Manifest
from cpc.spool.disk import Disk, Stat, walk
from cpc.worker.spares import STREAMS

SMALL_CHUNK = 64 << 10
SMALL_TOTAL = 1 << 20
FRESH = 8 << 20
FEW = 16
TAIL = 4 << 10
_EMPTY = of_chunks(())


@dataclass(slots=True)
class Collected:
    """The manifest, contents that travel inside the result, and what had to be left out, in words. `listing`: all that
    is in the directory, with its facts. `fresh`: chunks that were read, at most FRESH bytes, for whoever sends them soon.
    """

    files: Manifest = field(default_factory=Manifest)
    small: dict[bytes, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    listing: tuple[tuple[str, Stat], ...] = ()
    fresh: dict[bytes, bytes] = field(default_factory=dict)


def collect(
    disk: Disk,
    directory: str,
    patterns: Iterable[str],
    always: Iterable[str] = STREAMS,
    inputs: Mapping[str, bytes] | None = None,
    listing: Iterable[Stat] | None = None,
) -> Collected:
    """Everything below `directory` that matches `patterns`, and the paths in `always`. `listing`: what is in it, if that is
    known and it has no directories.

    Unchanged `inputs` (path → digest) are not outputs. Directories appear when they are empty; links when they stay
    inside. Raises OSError for the disk, TooLarge for too many paths.
    """
    found = Collected()
    kept = tuple(always)
    wanted = tuple(patterns)
    entries: list[Entry] = []
    small, fresh = 0, FRESH
    if listing is None:
        found.listing = tuple(walk(disk, directory))
    else:
        found.listing = tuple((stat.name, stat) for stat in listing)
    parents = {path.rpartition("/")[0] for path, _ in found.listing}
    for path, stat in found.listing:
        name = os.fsencode(path)
        if path not in kept and not manifests.wanted(name, wanted):
            continue
        if stat.kind == "file":
            content, contents, read = _read(disk, os.path.join(directory, path), stat, SMALL_TOTAL - small, fresh)
            if inputs is not None and path not in kept and inputs.get(path) == content.digest:
                continue
            for digest, data in contents.items():
                if digest not in found.small:
                    found.small[digest] = data
                    small += len(data)
            for digest, data in zip(content.chunks, read, strict=False):
                found.fresh[digest] = data
                fresh -= len(data)
            entries.append(Entry(name, mode=stat.mode & 0o777, content=content))
        elif stat.kind == "dir":
            if path not in parents:
                entries.append(Entry(name, kind="dir", mode=stat.mode & 0o777))
        elif stat.kind == "link":
            _take_link(disk, directory, path, entries, found.left_out)
        else:
            found.left_out.append(f"{path}: neither a file, a directory nor a link")
    found.files = manifests.check(Manifest(tuple(entries)))
    return found


def is_brief(listing: Sequence[Stat]) -> bool:
    """Whether a directory with these names is collected in a moment."""
    return (
        len(listing) <= FEW
        and sum(stat.size for stat in listing) <= SMALL_CHUNK
        and not any(stat.kind == "dir" for stat in listing)
    )


def _take_link(disk: Disk, directory: str, path: str, entries: list[Entry], left_out: list[str]) -> None:
    entry = Entry(os.fsencode(path), kind="link", mode=0o777, target=disk.read_link(os.path.join(directory, path)))
    try:
        manifests.check(Manifest((entry,)))
    except BadInput:
        left_out.append(f"{path}: a link that leads out of the directory")
    else:
        entries.append(entry)


def _read(disk: Disk, path: str, stat: Stat, room: int, fresh: int) -> tuple[Content, dict[bytes, bytes], list[bytes]]:
    """A file's address and, while they fit into `room`, its small chunks; the first ones of a large file, up to `fresh` bytes."""
    if not stat.size:
        return _EMPTY, {}, []
    small: dict[bytes, bytes] = {}
    first: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        offset = 0
        left = room
        while piece := _read_part(disk, path, offset, stat):
            offset += len(piece)
            if len(piece) <= min(SMALL_CHUNK, left):
                small[of_chunk(piece)] = piece
                left -= len(piece)
            if stat.size > SMALL_CHUNK and offset <= fresh:
                first.append(piece)
            yield piece
            if len(piece) < CHUNK:
                return

    return of_chunks(pieces()), small, first


def _read_part(disk: Disk, path: str, offset: int, stat: Stat) -> bytes:
    try:
        return disk.read(path, offset, CHUNK)
    except PermissionError:  # its owner took the right to read it away; we are the owner
        disk.chmod(path, stat.mode | 0o400)
        return disk.read(path, offset, CHUNK)


def sync_files(disk: Disk, directory: str, files: Manifest, small: Mapping[bytes, bytes]) -> None:
    """Make durable what is not carried in the result itself: the files, and the names that lead to them."""
    folders = set()
    for entry, content in files.files():
        if any(digest not in small for digest in content.chunks):
            path = os.fsdecode(entry.path)
            disk.sync(os.path.join(directory, path))
            while path:
                path = path.rpartition("/")[0]
                folders.add(path)
    for folder in sorted(folders):
        disk.sync_directory(os.path.join(directory, folder) if folder else directory)
    if folders:
        disk.sync_directory(os.path.dirname(directory))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a chunk lie in a run directory."""

    path: str
    offset: int
    size: int


def sources(directory: str, *files: Manifest) -> dict[bytes, Source]:
    """For each chunk of these manifests, where to read it."""
    found: dict[bytes, Source] = {}
    for files_of in files:
        for entry, content in files_of.files():
            for index, digest in enumerate(content.chunks):
                path = os.path.join(directory, os.fsdecode(entry.path))
                found.setdefault(digest, Source(path, index * CHUNK, content.chunk_size(index)))
    return found


def read_chunk(disk: Disk, source: Source) -> bytes:
    """The chunk's bytes as they are now; Damaged when some are missing. Who gets them hashes them: see `check_chunk`."""
    try:
        data = disk.read(source.path, source.offset, source.size)
    except FileNotFoundError:
        data = b""
    if len(data) != source.size:
        raise _damaged(source)
    return data


def check_chunk(disk: Disk, source: Source, digest: bytes) -> None:
    """Damaged when the disk does not hold this chunk any more."""
    if of_chunk(read_chunk(disk, source)) != digest:
        raise _damaged(source)


def _damaged(source: Source) -> Damaged:
    return Damaged(f"{source.path} is not what it was when the job ended", "look at this worker's disk")


def tail(disk: Disk, directory: str, listing: Iterable[tuple[str, Stat]], size: int = TAIL) -> str:
    """The last lines of stderr and stdout, for people; stderr first when both have something."""
    facts = dict(listing)
    texts = [(stream, _last(disk, directory, facts.get(stream), size)) for stream in ("stderr", "stdout")]
    filled = [(stream, text) for stream, text in texts if text.strip()]
    parts = []
    for stream, text in filled:
        share = size // len(filled) - 32
        cut = text[-share:] if len(filled) > 1 else text[-size:]
        parts.append(f"--- {stream} ---\n{cut}" if len(filled) > 1 else cut)
    return "\n".join(parts).encode()[-size:].decode("utf-8", "ignore")


def _last(disk: Disk, directory: str, file: Stat | None, size: int) -> str:
    if file is None or file.kind != "file" or not file.size:
        return ""
    try:
        data = disk.read(os.path.join(directory, file.name), max(0, file.size - size), size)
    except OSError:
        return ""
    return data.decode("utf-8", "replace").replace("\0", "")


def words(error: BaseException) -> str:
    """An error as one line for people."""
    if isinstance(error, CopernicusError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"{type(error).__name__}: {error}"
