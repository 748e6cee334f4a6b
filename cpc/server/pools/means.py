"""How the workers of a pool are started: what of a pool's settings no decision is made from."""

from __future__ import annotations

import re

import msgspec

from cpc.core.errors import BadInput
from cpc.store.packed import unpack


class Means(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`settings`: the scheduler's own. `worker`: the program, as the nodes know it. `directory`: where the script starts.

    `work`: where workers keep what they do ("": a directory of the node's own, or below `directory` where that is shared).
    `output`: a file for what they print ("": nowhere). `exclusive`: whole nodes.
    """

    settings: dict[str, str] = {}
    worker: str = "cpc-worker"
    directory: str = "/"
    work: str = ""
    output: str = ""
    exclusive: bool = False

    def checked(self) -> Means:
        """These, or BadInput for what no script could say."""
        for what, text in (("worker", self.worker), ("directory", self.directory), ("work", self.work)):
            if not text.isprintable() or len(text) > 4096:
                raise BadInput(f"{what} {text[:80]!r} of a pool has characters that no path has")
        if not self.worker:
            raise BadInput("the worker program of a pool has no name", "leave it out for cpc-worker")
        for what, text in (("directory", self.directory), ("work", self.work)):
            if text and not text.startswith("/"):
                raise BadInput(f"{what} {text[:80]!r} of a pool is not an absolute path", "begin it with /")
        return self


def work_place(means: Means, shared: bool, pool: str) -> str:
    """Where the workers of a pool of this name keep their files; "": in a directory of each node's own."""
    if means.work:
        return means.work
    return f"{means.directory.rstrip('/')}/cpc-worker-{file_name(pool)}" if shared and means.directory != "/" else ""


def file_name(pool: str) -> str:
    """A pool's name as part of a path."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", pool)


def read(data: bytes, pool: str) -> Means:
    """Out of the pool's row."""
    return unpack(data, Means, f"how the workers of pool {pool} are started")


def pack(means: Means) -> bytes:
    """For the pool's row."""
    return msgspec.msgpack.encode(means)
