"""A disk in memory that loses power: what was not flushed is gone, as far as a file system may lose it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from cpc.core.pieces import Data
from cpc.store.disk import Found, Space


@dataclass
class _File:
    """Bytes as programs see them, and as they are on the platter."""

    data: bytes
    flushed: bytes
    modified: int


class PowerCut(BaseException):
    """The machine is off: no code that runs in it may catch this."""


class FakeDisk:
    """`fail(n, error)` breaks the n-th change from now; `cut(n)` turns the power off before it."""

    def __init__(self, now: Callable[[], int] = lambda: 0, total: int = 1 << 40) -> None:
        self.now = now
        self.total = total
        self.directories = {"": "", "run": ""}
        self.names: dict[str, _File] = {}
        self.durable: dict[str, _File] = {}
        self.flushed_directories = {""}
        self.changes = 0
        self.syncs = 0
        self._fail: tuple[int, int] | None = None
        self._cut: int | None = None
        self.full = False

    # --- faults ---

    def fail(self, after: int, error: int = errno.ENOSPC) -> None:
        self._fail = (self.changes + after, error)

    @property
    def fails(self) -> bool:
        """Whether a change that is still to come will fail."""
        return self._fail is not None

    def cut(self, after: int) -> None:
        self._cut = self.changes + after

    def heal(self) -> None:
        self._fail = self._cut = None
        self.full = False

    def power_loss(self, eager: bool = False) -> None:
        """What remains: flushed bytes under durable names; `eager`: every name got there in time, bytes did not."""
        survivors = dict(self.names) if eager else dict(self.durable)
        self.names, self.durable = {}, survivors
        for name, file in survivors.items():
            file.data = file.flushed
            self.names[name] = file
        self.directories = dict.fromkeys(self.flushed_directories, "")
        self.heal()

    def snapshot(self) -> dict[str, _File]:
        """What is on the platter now, for a copy of the machine."""
        return {name: _File(file.flushed, file.flushed, file.modified) for name, file in self.durable.items()}

    def replace(self, names: dict[str, _File]) -> None:
        """All files, and nothing else."""
        self.names = {name: _File(file.data, file.flushed, file.modified) for name, file in names.items()}
        self.durable = dict(self.names)

    def _change(self) -> None:
        self.changes += 1
        if self._cut is not None and self.changes > self._cut:
            raise PowerCut
        if self._fail is not None and self.changes > self._fail[0]:
            error = self._fail[1]
            self._fail = None
            raise OSError(error, "made to fail")

    def _there(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)

    # --- cpc.store.disk.Disk ---

    def make(self, directory: str) -> None:
        if directory in self.directories:
            return
        self._there(directory)
        self._change()
        self.directories[directory] = ""
        self.flushed_directories.add(directory)

    def create(self, path: str, data: Data) -> None:
        self._there(path)
        self._change()
        # A name may reach the platter before anybody asks for it, with none of the bytes.
        self.names[path] = self.durable[path] = _File(bytes(data)[: len(data) // 2], b"", self.now())
        self._change()
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.names[path].data = bytes(data)
        self._change()
        self.names[path].flushed = bytes(data)

    def rename(self, old: str, new: str) -> None:
        self._there(new)
        self._change()
        self.names[new] = self.names.pop(old)

    def sync(self, directory: str) -> None:
        self._change()
        self.syncs += 1
        inside = {name for name in {*self.names, *self.durable} if name.rpartition("/")[0] == directory}
        for name in inside:
            if name in self.names:
                self.durable[name] = self.names[name]
            else:
                del self.durable[name]

    def read(self, path: str, offset: int, length: int) -> bytes:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self.names[path].data[offset : offset + length]

    def unlink(self, path: str) -> bool:
        self._change()
        return self.names.pop(path, None) is not None

    def list(self, directory: str) -> list[Found]:
        return [
            Found(name.rpartition("/")[2], len(file.data), file.modified)
            for name, file in sorted(self.names.items())
            if name.rpartition("/")[0] == directory
        ]

    def space(self) -> Space:
        used = sum(len(file.data) for file in self.names.values())
        return Space(0 if self.full else self.total - used, self.total)
