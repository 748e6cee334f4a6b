"""What is in custody, for a backup: as it is at one moment, while the server goes on."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from cpc.server.federation.held import DIRECTORY
from cpc.spool.log import Hole, frames
from cpc.spool.real_disk import RealDisk
from cpc.spool.spool import LOG

_CHUNKS = f"{DIRECTORY}/chunks"


def pin(root: Path, pins: Path) -> list[tuple[str, Path]]:
    """Second names of all files in custody below `pins`: (name in the backup, file). `root`: the run directory.

    First the log, then the chunks: one that is gone by then is of a result that its owner has.
    """
    log = root / DIRECTORY / LOG
    if not log.exists():
        return []
    target = pins / DIRECTORY / LOG
    (pins / _CHUNKS).mkdir(parents=True)
    shutil.copyfile(log, target)
    os.truncate(target, _end(target))
    kept = [(f"{DIRECTORY}/{LOG}", target)]
    for path in sorted((root / _CHUNKS).iterdir()):
        if is_chunk(path.name):
            with suppress(FileNotFoundError):
                link_or_copy(path, pins / _CHUNKS / path.name)
                kept.append((f"{_CHUNKS}/{path.name}", pins / _CHUNKS / path.name))
    return kept


def belongs(name: str) -> bool:
    """Whether a part of a backup with this name is of custody."""
    return name == f"{DIRECTORY}/{LOG}" or (
        name.startswith(f"{_CHUNKS}/") and is_chunk(name.removeprefix(f"{_CHUNKS}/"))
    )


def is_chunk(name: str) -> bool:
    """Whether a file of this name is a chunk."""
    return len(name) == 64 and not set(name) - set("0123456789abcdef")


def link_or_copy(source: Path, target: Path) -> None:
    """A second name, or where there are none a copy."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy(source, target)


def _end(log: Path) -> int:
    """Up to where the log is whole: its last record may be only half written yet."""
    end = 0
    for part in frames(RealDisk(), str(log)):
        if not isinstance(part, Hole):
            end = part.offset + part.size
    return end
