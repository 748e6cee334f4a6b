"""The machine's own file system."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat as modes
from collections.abc import Iterator

from cpc.core.pieces import Data, Piece, parts_of
from cpc.spool.disk import Held, Kind, Stat

_FICLONE = 0x40049409  # ioctl of linux/fs.h: share all extents with another file (btrfs, xfs, …)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that a job left must not block


class FileLock:
    """A flock; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class RealDisk:
    """`cpc.spool.disk.Disk` on the operating system."""

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        with _opened(path, _READ) as handle:
            left = size if size >= 0 else max(0, os.fstat(handle).st_size - offset)
            pieces = []
            while left > 0 and (piece := os.pread(handle, left, offset)):
                pieces.append(piece)
                offset += len(piece)
                left -= len(piece)
            return b"".join(pieces)

    def write(self, path: str, data: Data, mode: int = 0o600) -> None:
        with _opened(path, _WRITE | os.O_TRUNC, mode) as handle:
            for part in parts_of(data):
                _write_all(handle, part)
            os.fchmod(handle, mode)

    def append(self, path: str, data: bytes) -> None:
        with _opened(path, _WRITE | os.O_APPEND, 0o600) as handle:
            _write_all(handle, data)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def sync(self, path: str) -> None:
        with _opened(path, _READ) as handle:
            os.fsync(handle)

    def sync_directory(self, path: str) -> None:
        with _opened(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as handle:
            os.fsync(handle)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def copy(self, old: str, new: str) -> None:
        with _opened(old, _READ) as source, _opened(new, _WRITE | os.O_TRUNC, 0o600) as target:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError:
                with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)

    def unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def remove_tree(self, path: str) -> None:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except PermissionError:
            for top, _, _ in os.walk(path):
                for entry in os.scandir(top):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)
            shutil.rmtree(path)

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        os.makedirs(path, mode, exist_ok=True)

    def symlink(self, target: bytes, path: str) -> None:
        os.symlink(target, os.fsencode(path))

    def read_link(self, path: str) -> bytes:
        return os.readlink(os.fsencode(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def touch(self, path: str) -> None:
        with _opened(path, _WRITE, 0o600):
            os.utime(path)

    def stat(self, path: str) -> Stat | None:
        try:
            return _facts(os.path.basename(path), os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def scan(self, path: str) -> tuple[Stat, ...]:
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    found.append(_facts(entry.name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # gone between the listing and the look
        return tuple(sorted(found, key=lambda each: os.fsencode(each.name)))

    def free(self, path: str) -> int:
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize

    def lock(self, path: str) -> Held | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a file system without locks: the age of the owner's file must do
            return FileLock(handle)
        return FileLock(handle)


@contextlib.contextmanager
def _opened(path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
    handle = os.open(path, flags, mode)
    try:
        yield handle
    finally:
        os.close(handle)


def _write_all(handle: int, data: Piece) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _facts(name: str, facts: os.stat_result) -> Stat:
    kind: Kind = "other"
    if modes.S_ISREG(facts.st_mode):
        kind = "file"
    elif modes.S_ISDIR(facts.st_mode):
        kind = "dir"
    elif modes.S_ISLNK(facts.st_mode):
        kind = "link"
    mode = modes.S_IMODE(facts.st_mode)
    return Stat(name, kind, facts.st_size, mode, facts.st_mtime_ns, facts.st_ino, facts.st_nlink)
