"""A saved project on its way into a file: it is there whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cpc.client.transport import Transport
from cpc.core.errors import BadInput, Conflict

PIECE = 1 << 20
GZIP = b"\x1f\x8b"


def save(transport: Transport, address: str, target: Path, force: bool) -> int:
    """Stream what is at `address` into `target`; its size in bytes."""
    if not force and (target.exists() or target.is_symlink()):
        raise Conflict(f"{target} exists already", "use --force to replace it, or name another file")
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            answer = transport.request("GET", address)
            try:
                while piece := answer.read(PIECE):
                    out.write(piece)
            except BaseException:
                transport.close()  # the rest of the answer would be taken for that of the next call
                raise
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


def check(path: Path) -> None:
    """BadInput for what cannot be a saved project: looked at before anything is made of it."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(GZIP))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if begin != GZIP:
        raise BadInput(f"{path} is not a saved project: no .tar.gz", "give a file that `cpcc save` has written")
