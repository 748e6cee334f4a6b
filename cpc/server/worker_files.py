"""The file service as workers see it."""

from __future__ import annotations

from collections.abc import Awaitable

from cpc.core.pieces import Data
from cpc.server.files import Files
from cpc.server.storage import Storage


class WorkerFiles:
    """`machines.Chunks`, of the files that this server keeps."""

    def __init__(self, files: Files, storage: Storage) -> None:
        self._files = files
        self._storage = storage

    def put_chunk(self, project: int, digest: bytes, data: Data, of: int) -> Awaitable[None]:
        return self._files.put_chunk(project, digest, data, of)

    def get_chunk(self, project: int, digest: bytes, most: int, of: int) -> Awaitable[bytes]:
        return self._files.chunk(project, digest, most, of)

    def has_chunk(self, project: int, digest: bytes, of: int) -> Awaitable[int]:
        return self._files.has_chunk(project, digest, of)

    def missing(self, project: int, digests: tuple[bytes, ...], of: int) -> Awaitable[tuple[bytes, ...]]:
        return self._files.missing(project, digests, of)

    def full(self) -> str:
        return "" if self._storage.takes_results else "the server's disk is full"
