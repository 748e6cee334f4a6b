"""Run directories, used again: where small jobs come and go fast, making and removing directories is what costs most.

On a file system that discards freed blocks at once, removing one directory took 3.7 ms, and nothing else could be made
beside it meanwhile. A directory in which a job left only a few plain files is emptied and given to the next attempt. What
every attempt makes anyway, its `stdout` and `stderr`, stays there if nothing was written to it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from cpc.spool.disk import Disk, Stat

STREAMS = ("stdout", "stderr")
MOST = 128  # empty directories that are kept: some more than attempts stand in line
FILES = 64  # a directory with more does not become small again


class Spares:
    """Directories below `runs`, and empty ones in `aside`, which is made when it is needed.

    `take` and `give` run off the reactor, in several threads at once; `take_ready` on it.
    """

    def __init__(self, disk: Disk, runs: str, aside: str) -> None:
        self._disk = disk
        self._runs = runs
        self._aside = aside
        self._free: list[str] = []
        self._made = False
        self._numbers = itertools.count(1)

    def take_ready(self, directory: str) -> bool:
        """As `take`, if it needs no more than a rename; False: nothing has been done.

        That is as quick as the look at the disk's free space before it. Two threads that wake each other for it were a
        twentieth of what a job takes that follows another one.
        """
        try:
            spare = self._free.pop()
        except IndexError:
            return False
        try:
            self._disk.rename(spare, directory)
        except OSError:
            self._free.append(spare)  # `take` knows what to do with it
            return False
        return True

    def take(self, directory: str) -> None:
        """Make a fresh, empty, private directory at this path; what is there is removed. OSError for the disk."""
        try:
            spare = self._free.pop()
        except IndexError:
            spare = ""
        try:
            if spare:
                self._disk.rename(spare, directory)  # over an empty one, if there is one
                return
        except OSError:
            self._disk.remove_tree(spare)
        self._disk.remove_tree(directory)
        self._disk.make_directory(directory, 0o700)

    def give(self, directory: str) -> None:
        """Remove a directory and all in it, or keep it, empty, for another attempt. OSError for the disk."""
        if not self.keep(directory):
            self._disk.remove_tree(directory)

    def keep(self, directory: str, found: Sequence[Stat] | None = None) -> bool:
        """Keep it, empty, for another attempt, if that is worth it. `found`: what is in it, for who knows that already."""
        disk = self._disk
        if os.path.dirname(directory) != self._runs or len(self._free) >= MOST:
            return False
        facts = disk.stat(directory)
        if facts is None or facts.kind != "dir":  # a job may have put something else there
            return False
        try:
            found = disk.scan(directory) if found is None else found
            if len(found) > FILES or any(each.kind == "dir" for each in found):
                return False
            if facts.mode != 0o700:
                disk.chmod(directory, 0o700)
            for each in found:
                if not untouched(each):
                    disk.unlink(os.path.join(directory, each.name))
            spare = os.path.join(self._aside, str(next(self._numbers)))
            if not self._made:
                disk.make_directory(self._aside)
                self._made = True
            disk.rename(directory, spare)
        except OSError:
            return False
        self._free.append(spare)
        return True


def untouched(file: Stat) -> bool:
    """An empty stream, as the guardian makes it; nobody has another name for it."""
    plain = file.kind == "file" and file.links == 1 and file.mode & 0o7711 == 0o600
    return plain and not file.size and file.name in STREAMS
