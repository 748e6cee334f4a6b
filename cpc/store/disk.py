"""The seam over the file system: the few operations the file store needs, so that a simulation can put another disk here.

Paths are relative to the disk's root, with `/`. Errors are `OSError`, as the system raises them. Nothing is durable before
the call that says so: a file's bytes after `create`, a name (made, moved or removed) after `sync` of its directory.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cpc.core.errors import Damaged
from cpc.core.pieces import Data, views

DIRECT = 256 << 10  # bytes: from here on a file is written past the page cache
STEP = 1 << 20  # bytes at a time
BLOCK = 4096  # what offsets, lengths and addresses of such writes are multiples of
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)  # Linux


@dataclass(frozen=True, slots=True)
class Found:
    """One file in a directory: `size` in bytes, `modified` in µs since 1970."""

    name: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the file system: `free` for this user, `total`."""

    free: int
    total: int


class Disk(Protocol):
    """What a disk can do. All calls block; they run in a thread."""

    def make(self, directory: str) -> None:
        """Make a directory (0700), durably; nothing happens when it is there."""

    def create(self, path: str, data: Data) -> None:
        """A file (0600) that holds exactly `data`, flushed to the disk; one with this name is replaced."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in one step; durable after `sync` of the new directory."""

    def sync(self, directory: str) -> None:
        """Make the names in a directory durable."""

    def read(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file."""

    def unlink(self, path: str) -> bool:
        """Remove a file; False when there was none."""

    def list(self, directory: str) -> list[Found]:
        """The files in a directory; none when it does not exist."""

    def space(self) -> Space:
        """What is left."""


class RealDisk:
    """A directory of the machine's file system. Large files do not go through the page cache: filling fresh pages costs more
    CPU than all else that is done with the bytes, and they are flushed to the disk before anybody may rely on them anyway."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own = threading.local()  # a buffer for each thread
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Damaged(
                f"the directory {root} cannot be used: {error.strerror}", "check its owner and the disk it is on"
            ) from error

    def make(self, directory: str) -> None:
        path = self.root / directory
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return
        self._sync(path.parent)

    def create(self, path: str, data: Data) -> None:
        # O_NOFOLLOW: whoever could plant a link here must not be able to make us write somewhere else.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self.root / path, flags, 0o600)
        try:
            done = self._write_direct(file, data) if len(data) >= DIRECT else 0
            for view in views(data, done, len(data) - done):
                _write_all(file, view)
            os.fdatasync(file)
        finally:
            os.close(file)

    def _write_direct(self, file: int, data: Data) -> int:
        """Whole blocks from the beginning, as far as this file system takes them so; how many bytes."""
        buffer = self._buffer()
        done = 0
        try:
            fcntl.fcntl(file, fcntl.F_SETFL, _O_DIRECT)
            while (size := min(STEP, (len(data) - done) & -BLOCK)) > 0:
                at = 0
                for view in views(data, done, size):
                    buffer[at : at + len(view)] = view
                    at += len(view)
                taken = os.write(file, buffer[:size])
                done += taken
                if taken % BLOCK:
                    break
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        fcntl.fcntl(file, fcntl.F_SETFL, 0)
        return done

    def _buffer(self) -> memoryview:
        """This thread's memory that begins at a page."""
        buffer: memoryview | None = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = memoryview(mmap.mmap(-1, STEP))
        return buffer

    def rename(self, old: str, new: str) -> None:
        os.rename(self.root / old, self.root / new)

    def sync(self, directory: str) -> None:
        self._sync(self.root / directory)

    def _sync(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self, path: str, offset: int, length: int) -> bytes:
        file = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = os.pread(file, length, offset)
            while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
                data += more
            return data
        finally:
            os.close(file)

    def unlink(self, path: str) -> bool:
        try:
            os.unlink(self.root / path)
        except FileNotFoundError:
            return False
        return True

    def list(self, directory: str) -> list[Found]:
        return list(self._files(self.root / directory))

    @staticmethod
    def _files(path: Path) -> Iterator[Found]:
        try:
            entries = os.scandir(path)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    yield Found(entry.name, facts.st_size, facts.st_mtime_ns // 1000)

    def space(self) -> Space:
        facts = os.statvfs(self.root)
        return Space(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)


def _write_all(file: int, view: memoryview) -> None:
    while view:
        view = view[os.write(file, view) :]
