"""What the code of a run prints, its programs included: caught at the process's own stdout and stderr, bounded."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque

LIMIT = 256 << 10  # characters are kept of what one run prints: the beginning, and twice as much of the end
_PIECE = 64 << 10


class Capture:
    """Takes over file descriptors 1 and 2 for the rest of the process's life. A thread empties them, whatever floods in."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._lock = threading.Lock()
        self._forget()
        threading.Thread(target=self._watch, name="capture", daemon=True).start()

    def take(self) -> str:
        """All that was printed since the last time; what is left out of a flood is said."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with self._lock:
            self._drain()
            end = b"".join(self._end)
            cut = self._size - len(self._begin) - len(end)
            middle = f"\n… {cut} bytes are left out …\n".encode() if cut else b""
            said = self._begin + middle + end
            self._forget()
        return said.decode("utf-8", "replace")

    def _forget(self) -> None:
        self._begin = b""
        self._end: deque[bytes] = deque()
        self._ended = 0  # bytes in `_end`
        self._size = 0

    def _watch(self) -> None:
        import select

        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            poll.poll()
            with self._lock:
                self._drain()

    def _drain(self) -> None:
        """Take what there is now; a flood that never ends gives others a turn."""
        for _ in range(64):
            try:
                piece = os.read(self._read, _PIECE)
            except BlockingIOError:
                return
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        room = LIMIT - len(self._begin)
        self._begin += piece[:room]
        rest = piece[room:] if room > 0 else piece
        if rest:
            self._end.append(rest)
            self._ended += len(rest)
        while self._ended - len(self._end[0] if self._end else b"") > 2 * LIMIT:
            self._ended -= len(self._end.popleft())
