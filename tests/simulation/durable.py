"""Real files as a power loss leaves them: bytes that were flushed, under names that were."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

T = TypeVar("T")


class Durable:
    """The files below `root`, which is itself there for good. What is done to them is done within `do`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[tuple[str, int], set[str]] = {}  # of directories, as they were flushed
        self._bytes: dict[int, tuple[int, int]] = {}  # of files: when they were changed last and their size

    def do(self, call: Callable[[], T]) -> T:
        """Do it; what it flushes is remembered."""
        with mock.patch.object(os, "fsync", self._fsync):
            return call()

    def all_flushed(self) -> None:
        """Everything that is there is on disk."""
        for where, _, files in os.walk(self.root):
            self._flushed(where, os.stat(where))
            for name in files:
                path = os.path.join(where, name)
                if not os.path.islink(path):
                    self._flushed(path, os.stat(path))

    def power_loss(self, eager: bool) -> None:
        """What remains; `eager`: every name got there in time, bytes did not."""
        self._lose(self.root, eager)
        self.all_flushed()

    def _fsync(self, descriptor: int) -> None:
        self._flushed(os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor))

    def _flushed(self, path: str, fact: os.stat_result) -> None:
        if stat.S_ISDIR(fact.st_mode):
            self._names[path, fact.st_ino] = set(os.listdir(path))
        else:
            self._bytes[fact.st_ino] = (fact.st_mtime_ns, fact.st_size)

    def _lose(self, directory: Path, eager: bool) -> None:
        known = self._names.get((str(directory), directory.stat().st_ino), set())
        for path in sorted(directory.iterdir()):
            fact = path.lstat()
            if not eager and path.name not in known:
                shutil.rmtree(path) if stat.S_ISDIR(fact.st_mode) else path.unlink()
            elif stat.S_ISDIR(fact.st_mode):
                self._lose(path, eager)
            elif stat.S_ISREG(fact.st_mode) and self._bytes.get(fact.st_ino) != (fact.st_mtime_ns, fact.st_size):
                path.unlink()
                path.touch()
