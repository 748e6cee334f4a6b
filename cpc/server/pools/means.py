"""How the workers of a pool are started: what of a pool's settings no decision is made from."""

from __future__ import annotations

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


def read(data: bytes, pool: str) -> Means:
    """Out of the pool's row."""
    return unpack(data, Means, f"how the workers of pool {pool} are started")


def pack(means: Means) -> bytes:
    """For the pool's row."""
    return msgspec.msgpack.encode(means)
