"""A saved project on its way into a file: it is there whole, or not at all.

An archive is unpacked in passing, because only its own end tells that it is whole: a connection may end anywhere.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from cpc.client.transport import Transport
from cpc.core.errors import BadInput, Conflict, Damaged, Unavailable

PIECE = 1 << 20
GZIP = b"\x1f\x8b"
_GZIP_BITS = 31  # of zlib: a gzip head and trailer, the largest window


def save(transport: Transport, address: str, target: Path, force: bool) -> int:
    """Stream what is at `address` into `target`; its size in bytes."""
    if not force and (target.exists() or target.is_symlink()):
        raise Conflict(f"{target} exists already", "use --force to replace it, or name another file")
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            _stream(transport, address, out)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        os.replace(temporary, target)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return size


def _stream(transport: Transport, address: str, out: BinaryIO) -> None:
    answer = transport.request("GET", address)
    unpacked = zlib.decompressobj(wbits=_GZIP_BITS)
    try:
        while piece := answer.read(PIECE):
            out.write(piece)
            while piece:
                unpacked.decompress(piece, PIECE)
                piece = unpacked.unconsumed_tail
        unpacked.flush()
    except zlib.error as error:
        raise Damaged(f"what came is no archive: {error}", "save it again") from None
    finally:
        transport.close()  # what is left of the answer, after an error, is not that of the next call
    if not unpacked.eof:
        raise Unavailable(f"the archive broke off after {out.tell()} bytes", "save it again")


def check(path: Path) -> None:
    """BadInput for what cannot be a saved project: looked at before anything is made of it."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(GZIP))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if begin != GZIP:
        raise BadInput(f"{path} is not a saved project: no .tar.gz", "give a file that `cpcc save` has written")
