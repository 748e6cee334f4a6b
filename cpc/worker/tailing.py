"""Live output of a running attempt, while somebody follows it."""

from __future__ import annotations

import os

from cpc.core.lease import Lease
from cpc.spool.disk import Disk
from cpc.wire.messages import Tail
from cpc.worker.spares import STREAMS

PIECE = 64 << 10
BEHIND = 1 << 20


class Tailer:
    """Where each stream of one attempt stands. `followed`: somebody watches, as far as this session knows."""

    def __init__(self, disk: Disk, lease: Lease, directory: str) -> None:
        self.followed = False
        self._disk = disk
        self._lease = lease
        self._directory = directory
        self._sent = dict.fromkeys(STREAMS, 0)

    def read(self) -> tuple[Tail, ...]:
        """What is new in each stream. A stream far ahead of its reader skips to its last megabyte."""
        found = []
        for stream in STREAMS:
            path = os.path.join(self._directory, stream)
            stat = self._disk.stat(path)
            if stat is None or stat.kind != "file":
                continue
            offset = self._sent[stream] if stat.size >= self._sent[stream] else 0  # the job truncated it
            offset = max(offset, stat.size - BEHIND)
            data = self._disk.read(path, offset, PIECE)
            if data:
                found.append(Tail(lease=self._lease, stream=stream, offset=offset, data=data))
        return tuple(found)

    def told(self, tail: Tail) -> None:
        """The server has it."""
        self._sent[tail.stream] = tail.offset + len(tail.data)
