"""Checkpoints of a running attempt: a copy that nobody writes to, uploaded (new chunks only), then told to the server."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cpc.core import manifest as manifests
from cpc.core.clock import Timer
from cpc.core.errors import CopernicusError
from cpc.core.manifest import Manifest
from cpc.spool.disk import Disk, Stat, walk
from cpc.wire.messages import Task
from cpc.worker.collecting import collect, sources, words
from cpc.worker.placing import key_of
from cpc.worker.room import Room
from cpc.worker.transfer import Stopped
from cpc.worker.waiting import in_background

TRIES = 3
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A checkpoint whose chunks the server has: to be told with the next turn."""

    files: Manifest
    copy: str


class Checkpointer:
    """Takes checkpoints of one attempt every `room.checkpoint_interval` seconds, when its files changed."""

    def __init__(self, room: Room, task: Task, directory: str) -> None:
        self.ready: Ready | None = None
        self._room = room
        self._task = task
        self._directory = directory
        self._last: Signature = ()
        self._number = 0
        self._timer: Timer | None = None
        self._open = bool(task.checkpoint_patterns)

    def begin(self) -> None:
        """The program runs."""
        if self._open:
            self._timer = self._room.reactor.callLater(self._room.checkpoint_interval, self._due)

    def close(self) -> None:
        """No more of them: the program ends, and what it leaves is collected then."""
        self._open = False
        ready, self.ready = self.ready, None
        if ready is not None:  # the server has its chunks, and will not be told of them any more
            in_background(self._remove(ready.copy), "removing a checkpoint's copy")
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def clear(self) -> None:
        """Remove the copies."""
        self.close()
        for number in range(1, self._number + 1):
            await self._remove(self._copy_directory(number))

    def told(self, ready: Ready) -> None:
        """The server has this one on record."""
        if self.ready is ready:
            self.ready = None
        in_background(self._remove(ready.copy), "removing a checkpoint's copy")

    def _due(self) -> None:
        self._timer = None
        in_background(self._take_and_wait(), f"a checkpoint of {self._task.lease}")

    async def _take_and_wait(self) -> None:
        try:
            await self.take()
        except Stopped:
            return
        except (OSError, CopernicusError) as error:
            self._room.say(f"no checkpoint of {self._task.lease}: {words(error)}")
        finally:
            if self._open:
                self._timer = self._room.reactor.callLater(self._room.checkpoint_interval, self._due)

    async def take(self) -> None:
        """One checkpoint now, if the files changed since the last one."""
        room = self._room
        self._number += 1
        copy = self._copy_directory(self._number)
        try:
            signature = await room.offload(lambda: self._copy(copy))
            if not signature:
                return
            found = await room.offload(lambda: collect(room.disk, copy, ("**",), always=()))
            await room.transfer.upload(self._task.lease, sources(copy, found.files), lambda: self._open)
        except (Stopped, CopernicusError, OSError):
            await self._remove(copy)
            raise
        self._last = signature
        if not self._open:
            return await self._remove(copy)
        if self.ready is not None:
            await self._remove(self.ready.copy)
        self.ready = Ready(found.files, copy)
        room.hooks.changed()

    def _copy(self, copy: str) -> Signature:
        """A copy of the files as they were at one moment; empty when nothing changed or they do not stand still."""
        disk = self._room.disk
        for _ in range(TRIES):
            before = self._look()
            signature = _signature(before)
            disk.remove_tree(copy)  # what an earlier try has left
            if not signature or signature == self._last:
                return ()
            disk.make_directory(copy)
            try:
                for path, stat in before:
                    _copy_one(disk, os.path.join(self._directory, path), os.path.join(copy, path), stat)
            except FileNotFoundError:
                continue  # replaced while we looked
            if _signature(self._look()) == signature:
                return signature
        disk.remove_tree(copy)
        return ()

    def _look(self) -> list[tuple[str, Stat]]:
        return [
            (path, stat)
            for path, stat in walk(self._room.disk, self._directory)
            if stat.kind != "other" and manifests.wanted(os.fsencode(path), self._task.checkpoint_patterns)
        ]

    def _copy_directory(self, number: int) -> str:
        return os.path.join(self._room.directory, "checkpoints", f"{key_of(self._task.lease)}-{number}")

    async def _remove(self, copy: str) -> None:
        await self._room.clear_away(lambda: self._room.disk.remove_tree(copy))


def _signature(found: list[tuple[str, Stat]]) -> Signature:
    return tuple((path, stat.size, stat.changed, stat.inode) for path, stat in found if stat.kind != "dir")


def _copy_one(disk: Disk, old: str, new: str, stat: Stat) -> None:
    disk.make_directory(os.path.dirname(new))
    if stat.kind == "dir":
        disk.make_directory(new)
    elif stat.kind == "link":
        disk.symlink(disk.read_link(old), new)
    else:
        disk.copy(old, new)
        disk.chmod(new, stat.mode & 0o777 | 0o600)
