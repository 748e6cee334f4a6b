"""What the worker may do with a disk. A seam: the simulation drops unsynced writes here and fills the disk.

Paths are strings as `os.fsdecode` gives them. Everything raises OSError as the operating system does; the only promise
about a crash is that what was synced (file and, for names, directory) is there afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec

from cpc.core.pieces import Data

Kind = Literal["file", "dir", "link", "other"]


class Stat(msgspec.Struct, frozen=True):
    """One name in a directory; links are not followed. `changed` is the modification time in ns of the file system."""

    name: str
    kind: Kind
    size: int
    mode: int
    changed: int
    inode: int
    links: int = 1


class Held(Protocol):
    """A lock that is held until released or until the process ends."""

    def release(self) -> None: ...


class Disk(Protocol):
    """The calls that the worker makes. None follows a link in the last part of the path."""

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        """Up to `size` bytes (−1: all) from `offset`; fewer only at the end of the file."""

    def write(self, path: str, data: Data, mode: int = 0o600) -> None:
        """A whole file, created or replaced in place. Not atomic: write another name and rename."""

    def append(self, path: str, data: bytes) -> None:
        """More bytes at the end; a failure may leave a part of them."""

    def truncate(self, path: str, size: int) -> None:
        """Cut the file to `size` bytes."""

    def sync(self, path: str) -> None:
        """The file's bytes survive a power loss after this returns."""

    def sync_directory(self, path: str) -> None:
        """The directory's names survive a power loss after this returns."""

    def rename(self, old: str, new: str) -> None:
        """Atomic within one file system; replaces `new`."""

    def copy(self, old: str, new: str) -> None:
        """A copy that shares nothing a writer could change: a reflink where the file system has them."""

    def unlink(self, path: str) -> None:
        """Remove a file or link; no error when it is gone already."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory and all below it, whatever its modes; no error when it is gone already."""

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        """The directory and its parents; no error when it is there."""

    def symlink(self, target: bytes, path: str) -> None:
        """A symbolic link."""

    def read_link(self, path: str) -> bytes:
        """Where a symbolic link leads."""

    def chmod(self, path: str, mode: int) -> None:
        """Permission bits."""

    def touch(self, path: str) -> None:
        """Set `changed` to the file system's present."""

    def stat(self, path: str) -> Stat | None:
        """The facts of one path, None when it is not there."""

    def scan(self, path: str) -> tuple[Stat, ...]:
        """What a directory holds, ordered by name."""

    def free(self, path: str) -> int:
        """Bytes that this user may still write to the file system of `path`."""

    def lock(self, path: str) -> Held | None:
        """The lock on this file (made if missing), or None when another process holds it."""


def walk(disk: Disk, top: str, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, Stat]]:
    """Every path below `top` with its facts, relative, in byte order of the paths; links are not entered.

    A directory that its owner may not read is opened up first. Names in `skip` (relative paths) are left out.
    """
    found: list[tuple[bytes, str, Stat]] = []
    pending = [""]
    while pending:
        below = pending.pop()
        for stat in _scan(disk, os.path.join(top, below) if below else top):
            path = f"{below}/{stat.name}" if below else stat.name
            if path in skip:
                continue
            found.append((os.fsencode(path), path, stat))
            if stat.kind == "dir":
                pending.append(path)
    for _, path, stat in sorted(found, key=lambda each: each[0]):
        yield path, stat


def _scan(disk: Disk, path: str) -> tuple[Stat, ...]:
    try:
        return disk.scan(path)
    except PermissionError:
        disk.chmod(path, 0o700)
        return disk.scan(path)
