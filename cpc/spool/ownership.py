"""Whose a worker directory is, and which ones nobody owns any more: their results are handed in by the next worker.

Each directory has a file `owner`: locked while its worker lives, and touched by it, so that a worker on another host
that shares the disk without sharing locks can see that it is alive. Ages are differences between times of the file
server itself; no other machine's clock is believed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec

from cpc.core.reading import UNREADABLE
from cpc.spool.disk import Disk, Held
from cpc.spool.spool import LOG

OWNER = "owner"
TOUCH_EVERY = 60.0
STALE_AFTER = 900.0


class Owner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who works here: `credential` is SERVER-ID/BUNDLE-NAME; only its workers may adopt what is left."""

    credential: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A directory that this process owns while it holds `lock`."""

    directory: str
    owner: Owner
    lock: Held


def claim(disk: Disk, work: str, owner: Owner) -> Claim:
    """A new directory of our own below `work`: HOST-PID, with a number when that name is in use or holds results."""
    disk.make_directory(work)
    number = 1
    while True:
        name = f"{owner.host}-{owner.pid}" + (f"-{number}" if number > 1 else "")
        directory = os.path.join(work, name)
        if disk.stat(directory) is None:
            disk.make_directory(directory, 0o700)
            lock = disk.lock(os.path.join(directory, OWNER))
            if lock is not None:
                _write_owner(disk, directory, owner)
                disk.sync_directory(work)
                return Claim(directory, owner, lock)
        number += 1


def touch(disk: Disk, mine: Claim) -> None:
    """Say that we live; call every TOUCH_EVERY seconds."""
    disk.touch(os.path.join(mine.directory, OWNER))


def release(disk: Disk, mine: Claim, remove: bool) -> None:
    """Give the directory up; `remove` when nothing in it is needed any more."""
    try:
        if remove:
            disk.remove_tree(mine.directory)
    finally:
        mine.lock.release()


def orphans(disk: Disk, work: str, mine: Claim) -> tuple[str, ...]:
    """Directories below `work` with our credential whose worker is dead, as far as can be seen. Not locked yet."""
    found = []
    for stat in disk.scan(work):
        directory = os.path.join(work, stat.name)
        if stat.kind != "dir" or directory == mine.directory:
            continue
        owner = read_owner(disk, directory)
        if owner is not None and owner.credential == mine.owner.credential and not _alive(disk, directory, owner, mine):
            found.append(directory)
    return tuple(found)


def nameless(disk: Disk, work: str) -> tuple[str, ...]:
    """Directories below `work` that hold results and whose owner cannot be read: nobody takes them over by himself."""
    places = (os.path.join(work, stat.name) for stat in disk.scan(work) if stat.kind == "dir")
    return tuple(each for each in places if has_results(disk, each) and read_owner(disk, each) is None)


def adopt(disk: Disk, directory: str, mine: Owner) -> Claim | None:
    """Take over a dead worker's directory; None when another was quicker or its worker lives after all."""
    lock = disk.lock(os.path.join(directory, OWNER))
    if lock is None:
        return None
    # The rename is what only one can do, also where a shared file system has no locks.
    work, number = os.path.dirname(directory), 1
    while disk.stat(target := os.path.join(work, f"{mine.host}-{mine.pid}-adopted-{number}")) is not None:
        number += 1
    try:
        disk.rename(directory, target)
    except OSError:
        lock.release()
        return None
    try:
        _write_owner(disk, target, mine)
        disk.sync_directory(work)
    except OSError:
        lock.release()  # or nobody, we included, could try again
        raise
    return Claim(target, mine, lock)


def read_owner(disk: Disk, directory: str) -> Owner | None:
    """Whose directory this is; None when it is none of ours."""
    try:
        return msgspec.json.decode(disk.read(os.path.join(directory, OWNER)), type=Owner)
    except (OSError, *UNREADABLE):
        return None


def has_results(disk: Disk, directory: str) -> bool:
    """Whether a spool lies here."""
    return disk.stat(os.path.join(directory, LOG)) is not None


def _alive(disk: Disk, directory: str, owner: Owner, mine: Claim) -> bool:
    path = os.path.join(directory, OWNER)
    lock = disk.lock(path)
    if lock is None:
        return True
    lock.release()
    if owner.host == mine.owner.host:
        return False
    touch(disk, mine)
    theirs, ours = disk.stat(path), disk.stat(os.path.join(mine.directory, OWNER))
    if theirs is None or ours is None:
        return True
    return (ours.changed - theirs.changed) / 1e9 < STALE_AFTER


def _write_owner(disk: Disk, directory: str, owner: Owner) -> None:
    path = os.path.join(directory, OWNER)
    disk.write(path, msgspec.json.encode(owner))  # in place: the lock is on this file
    disk.sync(path)
    disk.sync_directory(directory)
