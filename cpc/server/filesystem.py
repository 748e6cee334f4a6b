"""What kind of file system a directory lies on, and who else can look into it.

SQLite's write-ahead log needs shared memory between processes and locks that work: no network file system has both.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from cpc.core.errors import BadInput

MOUNTS = Path("/proc/self/mountinfo")

#: File systems whose files another machine may open at the same time, or that cannot share memory.
NETWORK = frozenset(
    (
        "nfs", "nfs4", "lustre", "gpfs", "cifs", "smb2", "smb3", "smbfs", "ceph", "afs", "beegfs", "beegfs_nodev", "panfs",
        "pvfs2", "orangefs", "ocfs2", "gfs2", "wekafs", "9p", "virtiofs", "coda", "ncpfs", "vboxsf", "prl_fs",
    )
)  # fmt: skip
_NETWORK_FUSE = (
    "sshfs",
    "gluster",
    "ceph",
    "s3fs",
    "rclone",
    "juicefs",
    "moose",
    "lizard",
    "beegfs",
    "gpfs",
    "davfs",
    "curlftpfs",
)

_ESCAPE = re.compile(r"\\([0-7]{3})")


def kind_of(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that `path` is on, or will be ("ext4", "nfs4"…); "" when it cannot be told.

    `mounts` is the text of /proc/self/mountinfo.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(errors="surrogateescape")
        except OSError:
            return ""
    wanted = Path(os.path.realpath(path))
    best, found = -1, ""
    for line in mounts.splitlines():
        head, separator, tail = line.partition(" - ")
        fields = head.split()
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda code: chr(int(code.group(1), 8)), fields[4]))
        # Of two mounts on one point the later one is seen.
        if wanted.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), tail.split()[0]
    return found


def is_network(kind: str) -> bool:
    """Whether this type of file system is shared between machines."""
    return kind in NETWORK or (kind.startswith("fuse.") and any(name in kind for name in _NETWORK_FUSE))


def check_database(path: Path, mounts: str | None = None) -> None:
    """BadInput when a SQLite database at `path` would lie on a network file system."""
    kind = kind_of(path.parent, mounts)
    if is_network(kind):
        raise BadInput(
            f"{path.parent} is on a network file system ({kind}), where SQLite loses data",
            "put the database on a local disk with --database sqlite:////local/path/copernicus.db, or use PostgreSQL "
            "with --database postgresql://user@host/name",
        )


def exposed(directory: Path, mounts: str | None = None) -> str:
    """Who else can read what is in a directory, as a sentence; "" for nobody."""
    try:
        mode = directory.stat().st_mode
    except OSError:
        return ""
    who = [name for name, bits in (("its group", stat.S_IRGRP), ("everybody", stat.S_IROTH)) if mode & bits]
    if who:
        return f"{directory} can be read by {who[-1]}; make it yours alone: chmod 700 {directory}"
    kind = kind_of(directory, mounts)
    if is_network(kind):
        return f"{directory} is on a network file system ({kind}): whoever administers it can read what is there"
    return ""
