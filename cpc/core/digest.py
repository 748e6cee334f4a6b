"""Content addresses: a file is a list of fixed 4 MiB chunks, each named by its SHA-256, plus the SHA-256 of the whole.

Only new chunks travel: a growing trajectory or a checkpoint sends its tail. A file of one chunk has the same address as
its chunk; the empty file has no chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from cpc.core.errors import BadInput
from cpc.core.pieces import Data, parts_of

CHUNK = 4 << 20
DIGEST_SIZE = 32
EMPTY = hashlib.sha256().digest()


class Content(msgspec.Struct, frozen=True):
    """What a file holds: `digest` of the whole (32 bytes), `size` in bytes, `chunks` (32 bytes each, in order)."""

    digest: bytes
    size: int
    chunks: tuple[bytes, ...] = ()

    def check(self) -> Content:
        """Itself, or BadInput when size, digests and number of chunks do not go together."""
        if self.size < 0 or len(self.chunks) != -(-self.size // CHUNK):
            raise BadInput(f"a file of {self.size} bytes does not have {len(self.chunks)} chunks")
        if len(self.digest) != DIGEST_SIZE or (self.chunks and {*map(len, self.chunks)} != {DIGEST_SIZE}):
            raise BadInput("a SHA-256 has 32 bytes")
        if len(self.chunks) == 1 and self.chunks[0] != self.digest:
            raise BadInput("the only chunk of a file has the file's own digest")
        if self.size == 0 and self.digest != EMPTY:
            raise BadInput("the empty file has another digest")
        return self

    def chunk_size(self, index: int) -> int:
        """How many bytes chunk `index` holds."""
        return min(CHUNK, self.size - index * CHUNK)


def of_chunk(data: Data) -> bytes:
    """The address of one chunk."""
    found = hashlib.sha256()
    for part in parts_of(data):
        found.update(part)
    return found.digest()


def of_chunks(pieces: Iterable[bytes]) -> Content:
    """The address of a file given as its chunks, in order. The first chunk is hashed once, for itself and for the whole."""
    whole = None
    size = 0
    chunks = []
    for piece in pieces:
        own = hashlib.sha256(piece)
        size += len(piece)
        chunks.append(own.digest())
        if whole is None:
            whole = own
        else:
            whole.update(piece)
    return Content(EMPTY if whole is None else whole.digest(), size, tuple(chunks))


def of_file(file: BinaryIO) -> Content:
    """The address of an open file, read once from where it stands."""
    return of_chunks(read_chunks(file))


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file's chunks; every one but the last is full."""
    while piece := file.read(CHUNK):
        while len(piece) < CHUNK and (more := file.read(CHUNK - len(piece))):
            piece += more
        yield piece
