"""The file service as workers see it."""

from __future__ import annotations

from collections.abc import Awaitable

from cpc.server.files import Files
from cpc.server.storage import Storage


class WorkerFiles:
    """`machines.Chunks`, of the files that this server keeps."""

    def __init__(self, files: Files, storage: Storage) -> None:
        self._files = files
        self._storage = storage

    def put_chunk(self, project: int, digest: bytes, data: memoryview) -> Awaitable[None]:
        return self._files.put_chunk(project, digest, data)

    def get_chunk(self, project: int, digest: bytes, most: int) -> Awaitable[bytes]:
        return self._files.chunk(project, digest, most)

    def has_chunk(self, project: int, digest: bytes) -> Awaitable[int]:
        return self._files.has_chunk(project, digest)

    def missing(self, project: int, digests: tuple[bytes, ...]) -> Awaitable[tuple[bytes, ...]]:
        return self._files.missing(project, digests)

    def full(self) -> str:
        return "" if self._storage.takes_results else "the server's disk is full"
