"""What jobs have left that their server, restored from a backup, does not know: kept for a while, for whoever looks for it.

WORK/aside/SERVER-ATTEMPT/      the run directory, as the job left it
WORK/aside/SERVER-ATTEMPT.json  which job it was, and how it ended

What jobs of other servers have left takes half of the room at most, and only what our own server's jobs do not need: another
server says by itself what it does not know.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from cpc.core.lease import Lease
from cpc.core.reading import UNREADABLE
from cpc.spool.disk import Disk, walk
from cpc.wire.messages import Result
from cpc.worker.placing import key_of

ASIDE = "aside"  # below the work directory
DAYS = 14
MOST = 10 << 30  # bytes; the oldest goes first
_NOTE = ".json"
_NOW = "now"


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands beside it. `server`: the one whose job it was, as a path of ids where the worker was lent."""

    server: str
    job: str
    attempt: int
    incarnation: int
    outcome: str
    exit_code: int | None
    wall_seconds: float
    files: int
    bytes: int
    lent: bool = False


class Aside:
    """The directory; all workers that share a work directory share it. Everything here blocks, and may raise OSError."""

    def __init__(self, disk: Disk, work: str, server: str, most: int = MOST) -> None:
        self.directory = os.path.join(work, ASIDE)
        self._disk = disk
        self._server = server
        self._most = most

    @property
    def most_lent(self) -> int:
        """Bytes that jobs of other servers may leave here."""
        return self._most // 2

    def put(self, lease: Lease, run_directory: str, result: Result) -> str:
        """Move what the attempt has left here; where it is, on disk. "": there is no room for it."""
        disk = self._disk
        place = os.path.join(self.directory, f"{self._server[:8]}-{key_of(lease)}")
        disk.make_directory(self.directory)
        found = disk.stat(run_directory)
        if found is not None and found.kind == "dir":
            disk.remove_tree(place)
            disk.rename(run_directory, place)
            disk.sync_directory(self.directory)
        else:
            disk.make_directory(place)  # it has left nothing, or has been moved before
        disk.write(place + _NOTE, msgspec.json.encode(self._note(lease, result)))
        disk.sync(place + _NOTE)
        disk.sync_directory(self.directory)
        self.tidy()
        return place if disk.stat(place) is not None else ""

    def _note(self, lease: Lease, result: Result) -> Note:
        return Note(
            server=lease.path or self._server, job=lease.of(result.first), attempt=lease.attempt,
            incarnation=lease.incarnation, outcome=result.outcome.value, exit_code=result.exit_code,
            wall_seconds=result.wall_seconds, files=sum(1 for _ in result.files.files()), bytes=result.files.size,
            lent=bool(lease.path),
        )  # fmt: skip

    def count(self) -> int:
        """How many are here."""
        return sum(1 for _ in self._notes()) if self._disk.stat(self.directory) is not None else 0

    def tidy(self) -> None:
        """What is too old goes, and what does not fit beside what is newer, or our own."""
        disk = self._disk
        if disk.stat(self.directory) is None:
            return
        left, now = {False: self._most, True: self.most_lent}, self._now()
        notes = sorted((self._is_lent(place), -changed, place) for changed, place in self._notes())
        for lent, changed, place in notes:
            size = sum(stat.size for _, stat in walk(disk, place)) if disk.stat(place) is not None else 0
            if size <= left[lent] and now + changed <= DAYS * 86_400 * 10**9:
                left[lent] -= size
                left[True] = min(left[True], left[False])
            else:
                disk.remove_tree(place)
                disk.unlink(place + _NOTE)

    def _is_lent(self, place: str) -> bool:
        """Whether a job of another server has left it. A note that cannot be read is none of those."""
        try:
            return msgspec.json.decode(self._disk.read(place + _NOTE), type=Note).lent
        except (OSError, *UNREADABLE):
            return False

    def _notes(self) -> Iterator[tuple[int, str]]:
        """(since when, where) of each."""
        for stat in self._disk.scan(self.directory):
            if stat.kind == "file" and stat.name.endswith(_NOTE):
                yield stat.changed, os.path.join(self.directory, stat.name.removesuffix(_NOTE))

    def _now(self) -> int:
        """The file server's present: ages are differences between its own times."""
        path = os.path.join(self.directory, f"{_NOW}-{self._server[:8]}")
        self._disk.write(path, b"")
        found = self._disk.stat(path)
        with contextlib.suppress(OSError):
            self._disk.unlink(path)
        return found.changed if found is not None else 0
