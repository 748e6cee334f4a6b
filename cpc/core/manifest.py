"""What a directory of results or inputs holds: paths as bytes, types, modes and contents. Not an archive."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Literal

import msgspec

from cpc.core.digest import Content
from cpc.core.errors import BadInput, TooLarge

MAX_ENTRIES = 100_000
MAX_PATH = 4096


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One path, relative to the run directory. A link's target is `target`, and it stays inside the directory."""

    path: bytes
    kind: Literal["file", "dir", "link"] = "file"
    mode: int = 0o644
    content: Content | None = None
    target: bytes = b""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """All paths, in byte order."""

    entries: tuple[Entry, ...] = ()

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum([entry.content.size for entry in self.entries if entry.content])

    def files(self) -> Iterable[tuple[Entry, Content]]:
        """The entries that have content."""
        return ((entry, entry.content) for entry in self.entries if entry.content is not None)

    def find(self, path: bytes) -> Entry | None:
        """The entry at exactly this path."""
        return next((entry for entry in self.entries if entry.path == path), None)


def safe_path(path: bytes) -> bytes:
    """The path, or BadInput when it could leave the directory it is unpacked in."""
    parts = path.split(b"/")
    if not path or len(path) > MAX_PATH or b"\0" in path or b"" in parts or b"." in parts or b".." in parts:
        raise BadInput(f"unsafe path {path[:100]!r}", "paths are relative, without '.', '..' or empty parts")
    if len(path) > 255 and max(map(len, parts)) > 255:
        raise BadInput(f"a part of path {path[:60]!r}… is longer than 255 bytes")
    return path


def check(manifest: Manifest) -> Manifest:
    """The manifest, or why it cannot be accepted: unsafe or repeated paths, links that lead out, bad contents."""
    if len(manifest.entries) > MAX_ENTRIES:
        raise TooLarge(f"{len(manifest.entries)} paths in one result; at most {MAX_ENTRIES} are taken")
    kinds: dict[bytes, str] = {}
    for entry in manifest.entries:
        safe_path(entry.path)
        if entry.path in kinds:
            raise BadInput(f"path {entry.path!r} is there twice")
        kinds[entry.path] = entry.kind
        if (entry.kind == "file") != (entry.content is not None):
            raise BadInput(f"{entry.path!r}: a file has content, a directory or link has none")
        if entry.content is not None:
            entry.content.check()
        if entry.kind == "link":
            _check_link(entry)
    for path in kinds:
        parent = path.rpartition(b"/")[0]
        while parent:
            if kinds.get(parent, "dir") != "dir":
                raise BadInput(f"{path!r} lies below {parent!r}, which is not a directory")
            parent = parent.rpartition(b"/")[0]
    return manifest


def _check_link(entry: Entry) -> None:
    depth = entry.path.count(b"/")
    if not entry.target or entry.target.startswith(b"/") or b"\0" in entry.target or len(entry.target) > MAX_PATH:
        raise BadInput(f"link {entry.path!r} leads out of the directory")
    for part in entry.target.split(b"/"):
        depth += -1 if part == b".." else 0 if part in (b"", b".") else 1
        if depth < 0:
            raise BadInput(f"link {entry.path!r} leads out of the directory")


def wanted(path: bytes, patterns: Iterable[str]) -> bool:
    """Whether a path is one of the outputs asked for. `**` is everything; `*` does not cross `/`; `dir/` is a tree."""
    text = path.decode("utf-8", "surrogateescape")
    return any(_matches(text, pattern) for pattern in patterns)


def _matches(path: str, pattern: str) -> bool:
    if pattern in ("**", "**/*"):
        return True
    if pattern.endswith("/"):
        return path.startswith(pattern)
    return _parts(path.split("/"), pattern.split("/"))


def _parts(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_parts(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _parts(path[1:], pattern[1:])
