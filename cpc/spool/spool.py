"""Results that are not handed in yet: a log in the worker's directory, beside the run directories that it refers to.

A record is durable when `add` returns: all that wait at that moment share one fsync. `forget` is not waited for and costs no
fsync: if it is lost, the result is handed in once more and the server knows it. Bodies stay on disk and are read when they
are wanted, so a server that is away for a week costs no memory.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import Damaged
from cpc.core.lease import Lease
from cpc.core.offload import Offload
from cpc.core.reading import UNREADABLE
from cpc.spool.disk import Disk
from cpc.spool.log import Hole, body_at, frame, frames

LOG = "spool.log"
_SMALL_LOG = 1 << 20


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One line of the log: a result to keep, or (with no body) one that was handed in."""

    lease: Lease
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies in the log."""

    offset: int
    size: int


@dataclass(slots=True)
class _Waiting:
    record: Record
    data: bytes
    durable: Deferred[None] | None


class Spool:
    """The log of one worker directory. Make it with `Spool.open`.

    `damage` holds one sentence for each repair that opening it needed: show them to people.
    """

    def __init__(self, disk: Disk, directory: str, offload: Offload) -> None:
        self.directory = directory
        self.damage: tuple[str, ...] = ()
        self._disk = disk
        self._offload = offload
        self._path = os.path.join(directory, LOG)
        self._places: dict[Lease, Place] = {}
        self._size = 0
        self._named = False
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    @classmethod
    def open(cls, disk: Disk, directory: str, offload: Offload) -> Spool:
        """The spool of this directory, recovered: what is damaged is cut out, kept aside and told in `damage`."""
        spool = cls(disk, directory, offload)
        disk.make_directory(directory)
        disk.unlink(spool._path + ".new")
        spool._recover()
        return spool

    def _recover(self) -> None:
        holes: list[Hole] = []
        for part in frames(self._disk, self._path):
            if isinstance(part, Hole):
                holes.append(part)
                continue
            try:
                record = msgspec.msgpack.decode(part.body, type=Record)
            except UNREADABLE:
                holes.append(Hole(part.offset, part.offset + part.size))
                continue
            self._note(record, Place(part.offset, part.size))
            self._size = part.offset + part.size
        if holes:
            self._put_aside(holes)
            self._swap(*self._rewrite())
        elif self._size:
            # What was read may still be in memory only; what counts as durable must be.
            self._disk.sync(self._path)
            self._disk.sync_directory(self.directory)
            self._named = True

    def _note(self, record: Record, place: Place) -> None:
        if record.body is None:
            self._places.pop(record.lease, None)
        else:
            self._places[record.lease] = place

    def _put_aside(self, holes: list[Hole]) -> None:
        number = 1
        while self._disk.stat(aside := f"{self._path}.damaged-{number}") is not None:
            number += 1
        self._disk.copy(self._path, aside)
        self._disk.sync(aside)
        lost = sum(hole.end - hole.start for hole in holes)
        where = ", ".join(str(hole.start) for hole in holes[:5])
        self.damage = (
            f"{self._path}: {lost} bytes at {where} cannot be read (a write cut short, or a bad disk); "
            f"{len(self._places)} results are whole and will be handed in; the file as it was is {aside}",
        )

    def leases(self) -> tuple[Lease, ...]:
        """Whose results are kept, oldest first."""
        return tuple(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, lease: Lease) -> bytes:
        """The body kept for this lease. KeyError when none is; Damaged when the disk changed it."""
        body = msgspec.msgpack.decode(body_at(self._disk, self._path, self._places[lease].offset), type=Record).body
        assert body is not None
        return body

    async def add(self, lease: Lease, body: bytes) -> None:
        """Keep a result; returns when it is on disk. OSError: it is not, and nothing of it is."""
        durable: Deferred[None] = Deferred()
        self._queue(Record(lease, body), durable)
        await durable

    def forget(self, lease: Lease) -> None:
        """The server has it. Written with the next flush."""
        if lease in self._places:
            self._places.pop(lease)
            self._queue(Record(lease, None), None)

    async def close(self) -> None:
        """Wait until all that was asked for is written."""
        if self._busy:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done

    def _queue(self, record: Record, durable: Deferred[None] | None) -> None:
        self._waiting.append(_Waiting(record, frame(msgspec.msgpack.encode(record)), durable))
        if not self._busy:
            self._busy = True
            ensureDeferred(self._flush())

    async def _flush(self) -> None:
        """Write what waits, again and again until nothing does: one append and one fsync for all of it."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            data = b"".join(each.data for each in batch)
            size = self._size
            awaited = any(each.durable is not None for each in batch)
            try:
                await self._offload(lambda d=data, s=size, a=awaited: self._append(d, s, a))  # type: ignore[misc]
            except OSError as error:
                for each in batch:
                    if each.durable is not None:
                        each.durable.errback(error)
                continue
            offset = size
            for each in batch:
                if each.record.body is not None:
                    self._places[each.record.lease] = Place(offset, len(each.data))
                offset += len(each.data)
            self._size = offset
            for each in batch:
                if each.durable is not None:
                    each.durable.callback(None)
            if not self._waiting:
                await self._compact()
        self._busy = False
        idle, self._idle = self._idle, []
        for done in idle:
            done.callback(None)

    def _append(self, data: bytes, size: int, awaited: bool) -> None:
        try:
            facts = self._disk.stat(self._path)
            if facts is not None and facts.size != size:  # a failed write before this one
                self._disk.truncate(self._path, size)
            self._disk.append(self._path, data)
            if not awaited:
                return
            self._disk.sync(self._path)
            if not self._named:
                self._disk.sync_directory(self.directory)
                self._named = True
        except OSError:
            with contextlib.suppress(OSError):  # a half-written frame would be cut at the next start anyway
                self._disk.truncate(self._path, size)
            raise

    async def _compact(self) -> None:
        """Write the log anew when most of it is handed in."""
        live = sum(place.size for place in self._places.values())
        if self._size < _SMALL_LOG or live > self._size // 2:
            return
        try:
            self._swap(*await self._offload(self._rewrite))
        except (OSError, Damaged):
            return  # the old log is still the log; another time

    def _rewrite(self) -> tuple[dict[Lease, Place], int]:
        """A new file with what is live, on disk under another name."""
        target = self._path + ".new"
        places: dict[Lease, Place] = {}
        offset = 0
        self._disk.write(target, b"")
        for lease, place in list(self._places.items()):
            data = frame(body_at(self._disk, self._path, place.offset))
            self._disk.append(target, data)
            places[lease] = Place(offset, len(data))
            offset += len(data)
        self._disk.sync(target)
        return places, offset

    def _swap(self, places: dict[Lease, Place], size: int) -> None:
        """Put the new file in place: on the reactor's side, so that no reader meets new bytes at old offsets."""
        self._disk.rename(self._path + ".new", self._path)
        self._places = {lease: place for lease, place in places.items() if lease in self._places}
        self._size = size
        self._named = False
        self._disk.sync_directory(self.directory)
        self._named = True
