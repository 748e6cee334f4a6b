"""The process tree as /proc shows it: who descends from whom, what they use, and how to end all of them.

Read by the guardian, so only light modules of the standard library are imported here.
"""

from __future__ import annotations

import os
import signal
import zlib
from functools import cache

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Stat:
    """One process: its parent, session, state letter and start in clock ticks since boot."""

    __slots__ = ("parent", "session", "started", "state")

    def __init__(self, line: bytes) -> None:
        fields = line[line.rindex(b")") + 2 :].split()  # the name may hold blanks and brackets
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])


def read(path: str) -> bytes:
    """A small /proc file whole; empty when the process is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def stat(pid: int) -> Stat | None:
    """What /proc says of `pid`, or None when there is no such process."""
    line = read(f"/proc/{pid}/stat")
    return Stat(line) if b")" in line else None


def alive(pid: int) -> bool:
    """Whether `pid` exists and is not a zombie."""
    found = stat(pid)
    return found is not None and found.state not in "ZX"


def everybody() -> list[int]:
    """Every process id in /proc."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _by_scan(parents: list[int]) -> list[int]:
    """Children of all `parents`, for kernels without /proc/PID/task/TID/children."""
    wanted = set(parents)
    return [pid for pid in everybody() if (found := stat(pid)) is not None and found.parent in wanted]


_HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children(pid: int) -> list[int]:
    """The direct children of `pid`, zombies included. A process of several threads has children by each."""
    if not _HAS_CHILDREN:
        return _by_scan([pid])
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found.extend(map(int, read(f"/proc/{pid}/task/{thread}/children").split()))
    return found


def own_children() -> list[int]:
    """The children of this process, which has one thread."""
    pid = os.getpid()
    if not _HAS_CHILDREN:
        return _by_scan([pid])
    fd, parts, size = _list_of(pid), [], 0
    while part := os.pread(fd, 1 << 16, size):
        parts.append(part)
        size += len(part)
    return list(map(int, b"".join(parts).split()))


@cache
def _list_of(pid: int) -> int:
    """Opened once: it is read at the end of each attempt."""
    return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)


def below(roots: list[int]) -> list[int]:
    """`roots` and all that descend from them, parents before children."""
    found = list(roots)
    seen = set(found)
    for pid in found:  # grows while it is walked
        for child in children(pid):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return found


def send(pid: int, number: int) -> bool:
    """Signal one process; False when it is gone or not ours."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end(roots: list[int]) -> int:
    """SIGKILL `roots` and all below. Stops them first, so that none can fork while the others are killed.

    The callers look again afterwards: a process that was being born during the first walk may have been missed.
    """
    stopped: set[int] = set()
    while True:
        new = [pid for pid in below(roots) if pid not in stopped]
        if not new:
            break
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped.update(new)
    for pid in stopped:
        send(pid, signal.SIGKILL)
    return len(stopped)


def resident(pids: list[int]) -> int:
    """Bytes in memory of these together; memory that several share counts for each."""
    total = 0
    for pid in pids:
        fields = read(f"/proc/{pid}/statm").split()
        if len(fields) > 1:
            total += int(fields[1]) * PAGE
    return total


def proportional(pids: list[int]) -> int:
    """Bytes in memory of these together; shared memory counts once. Slower: asked only near a limit."""
    total = 0
    for pid in pids:
        text = read(f"/proc/{pid}/smaps_rollup")
        for line in text.splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
                break
        else:
            total += resident([pid])
    return total


def variable(pid: int, name: bytes) -> str:
    """The value of `name` in the environment that `pid` was started with; empty when unknown."""
    environment = b"\0" + read(f"/proc/{pid}/environ")
    start = environment.find(b"\0" + name + b"=")
    if start < 0:
        return ""
    start += len(name) + 2
    stop = environment.find(b"\0", start)
    return os.fsdecode(environment[start : stop if stop >= 0 else len(environment)])


def token(directory: str) -> str:
    """Who this guardian is: DIRECTORY.NAMESPACE.PID.START. Marks its attempts, so that a later one knows leftovers."""
    found = stat(os.getpid())
    started = found.started if found is not None else 0
    return f"{zlib.crc32(os.fsencode(directory)):08x}.{_namespace()}.{os.getpid()}.{started}"


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def is_over(mark: str, directory: str | None = None) -> bool:
    """Whether `mark` is the token of a guardian (of `directory`, if given) that ran here and is no more.

    Ids of another process namespace say nothing here, so its tokens are never over.
    """
    parts = mark.partition("/")[0].split(".")
    if len(parts) != 4 or not all(part.isdigit() for part in parts[1:]) or int(parts[1]) != _namespace():
        return False
    if directory is not None and parts[0] != f"{zlib.crc32(os.fsencode(directory)):08x}":
        return False
    found = stat(int(parts[2]))
    return found is None or found.started != int(parts[3]) or found.state in "ZX"


def leftovers(directory: str) -> list[int]:
    """What attempts of guardians of `directory` that are no more have left running on this machine."""
    return [
        pid for pid in everybody() if (mark := variable(pid, b"CPC_GUARDIAN")) and is_over(mark, directory)
    ]  # fmt: skip


def end_leftovers(directory: str, rounds: int = 100) -> int:
    """End them, and what they fork meanwhile, in so many rounds at most; how many there were."""
    number = 0
    for _ in range(rounds):
        left = leftovers(directory)
        if not left:
            break
        number += end(left)
    return number
