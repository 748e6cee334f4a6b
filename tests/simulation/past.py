"""Backups of the simulated server, and what a restore of one means for those who remember more than it does."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpc.server.workspace import place_of
from cpc.store import checks, copying

if TYPE_CHECKING:
    from tests.simulation.realm import Realm


@dataclass(frozen=True)
class Backup:
    """The database and the files as they were at one moment between two commits. `kept`: a copy of what controllers keep."""

    database: bytes
    files: Any
    life: int
    kept: Path


def back_up(world: Realm) -> Backup:
    """What `cpc-server backup` copies, at once."""
    source, copy = sqlite3.connect(world.path), sqlite3.connect(":memory:")
    try:
        source.backup(copy)
        (life,) = source.execute("SELECT incarnation FROM writer").fetchone()
        return Backup(copy.serialize(), world.server_disk.snapshot(), life, _kept(world))
    finally:
        source.close()
        copy.close()


def _kept(world: Realm) -> Path:
    """The persistent directories of controllers that the database names, and nothing else of what lies there."""
    kept = Path(world.path).parent / "backup"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for place in map(place_of, checks.directories(world.url)):
        shutil.copytree(world.controllers_disk.root / place, kept / place, symlinks=True)
    return kept


def restore(world: Realm, backup: Backup) -> int:
    """The server does not run. Its database and files are the backup's, in a new incarnation; which one that is."""
    (life,) = world.oracle.rows("SELECT incarnation FROM writer")[0]
    world.oracle.close()
    path = Path(world.path)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(backup.database)
    world.server_disk.replace(backup.files)
    shutil.rmtree(world.controllers_disk.root)
    shutil.copytree(backup.kept, world.controllers_disk.root, symlinks=True)
    world.controllers_disk.all_flushed()
    begun = copying.new_life(world.url, life)
    world.oracle.forget_what_came_after(begun)
    return begun
