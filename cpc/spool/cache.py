"""Chunks that were used here before, by their SHA-256, so that a shared input travels once: at a worker, and at a relay.

Files are stored as their chunks, so a growing file shares its beginning. Every chunk is verified whenever it is read:
a torn write or a bad disk costs a fetch, never a wrong input. Inputs are written from here byte for byte, not linked,
because a job may write into its input in place.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict

from cpc.core.digest import of_chunk
from cpc.core.offload import Offload
from cpc.core.pieces import Data
from cpc.spool.disk import Disk

DEFAULT_LIMIT = 4 << 30


class Cache:
    """A directory of chunks of at most `limit` bytes; the longest unused go first. Losing it costs time only.

    A chunk is kept by its digest, or by another name of 32 bytes.

    Several workers (told apart by `pid`) may share the directory; each then keeps to the limit by itself.
    """

    def __init__(self, disk: Disk, directory: str, limit: int, offload: Offload, pid: int = 0) -> None:
        self._disk = disk
        self._directory = directory
        self.limit = limit  # takes effect with the next chunk, or `shrink`
        self._offload = offload
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # by name
        self._total = 0
        self._parts = 0
        self._pid = pid

    def open(self) -> None:
        """Look at what is there, oldest first; remove what a crash left half written."""
        self._disk.make_directory(self._directory)
        found = []
        for stat in self._disk.scan(self._directory):
            path = os.path.join(self._directory, stat.name)
            try:
                name = bytes.fromhex(stat.name)
            except ValueError:
                name = b""
            if stat.kind == "file" and len(name) == 32:
                found.append((stat.changed, name, stat.size))
            elif stat.kind == "file":
                self._disk.unlink(path)
        for _, name, size in sorted(found):
            self._add(name, size)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._total

    async def get(self, digest: bytes, name: bytes = b"") -> bytes | None:
        """The chunk, verified; None when it is not here (any more, or not whole)."""
        name = name or digest
        if name not in self._sizes:
            return None
        self._sizes.move_to_end(name)
        path = self._path(name)

        def read() -> bytes | None:
            try:
                data = self._disk.read(path)
                self._disk.touch(path)
            except OSError:
                return None
            return data if of_chunk(data) == digest else None

        data = await self._offload(read)
        if data is None:
            await self._remove(name)
        return data

    def size_of(self, name: bytes) -> int:
        """Of a chunk that is here; 0: it is not."""
        return self._sizes.get(name, 0)

    def __contains__(self, name: bytes) -> bool:
        return name in self._sizes

    async def put(self, name: bytes, data: Data) -> None:
        """Keep a chunk that was verified. A disk that does not take it is no error."""
        if name in self._sizes or len(data) > self.limit:
            return
        self._parts += 1
        part = os.path.join(self._directory, f"part-{self._pid}-{self._parts}")

        def write() -> bool:
            try:
                self._disk.write(part, data)
                self._disk.rename(part, self._path(name))
            except OSError:
                with contextlib.suppress(OSError):
                    self._disk.unlink(part)
                return False
            return True

        if await self._offload(write):
            self._add(name, len(data))
            await self.shrink(self.limit)

    async def shrink(self, limit: int) -> None:
        """Remove the longest unused until at most `limit` bytes are kept; 0 makes all the room there is."""
        while self._total > limit and self._sizes:
            await self._remove(next(iter(self._sizes)))

    async def _remove(self, name: bytes) -> None:
        self._total -= self._sizes.pop(name, 0)
        path = self._path(name)

        def unlink() -> None:
            with contextlib.suppress(OSError):
                self._disk.unlink(path)

        await self._offload(unlink)

    def _add(self, name: bytes, size: int) -> None:
        if name not in self._sizes:
            self._sizes[name] = size
            self._total += size

    def _path(self, name: bytes) -> str:
        return os.path.join(self._directory, name.hex())
