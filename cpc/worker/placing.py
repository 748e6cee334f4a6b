"""The run directory of one attempt: private, filled with inputs and, over them, the last checkpoint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from cpc.core import manifest as manifests
from cpc.core.digest import Content
from cpc.core.errors import BadInput
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.offload import Offload
from cpc.spool.disk import Disk
from cpc.wire.messages import Task
from cpc.worker.fetching import Early, Fetch, InOrder
from cpc.worker.spares import Spares

RUNS = "runs"  # below a worker's own directory


def key_of(lease: Lease) -> str:
    """The attempt's name on this node: of its process group and its directory. Jobs of other servers have their numbers
    from there, which may be those of jobs of ours; so their names have something of the path in them."""
    key = f"{lease.job}.{lease.attempt}.{lease.incarnation}"
    return f"{key}.{hashlib.sha256(lease.path.encode()).hexdigest()[:16]}" if lease.path else key


def run_directory(worker: str, lease: Lease) -> str:
    """Where the attempt with this lease runs, below the worker's own directory."""
    return os.path.join(worker, RUNS, key_of(lease))


async def place(
    disk: Disk, offload: Offload, together: Offload, spares: Spares, directory: str, task: Task, fetch: Fetch, early: Early,
    at_once: bool = False,
) -> None:  # fmt: skip
    """Make the directory and put everything in it. `at_once`: it begins when that is done.

    Raises OSError for the disk, BadInput for unsafe paths.
    """
    _check_inputs(task)
    if not (at_once and spares.take_ready(directory)):
        await together(lambda: spares.take(directory))
    chunks = InOrder(_chunks(task), fetch, early)
    try:
        for name, content, executable in task.inputs:
            path = os.path.join(directory, os.fsdecode(manifests.safe_path(os.fsencode(name))))
            await _write(disk, offload, path, content.check(), 0o755 if executable else 0o644, chunks)
        if task.checkpoint is not None:
            await _unpack(disk, offload, directory, manifests.check(task.checkpoint), chunks)
    finally:
        chunks.close()


def _chunks(task: Task) -> Iterator[tuple[bytes, int]]:
    """All chunks with their sizes, in the order in which they are written."""
    contents = [content for _, content, _ in task.inputs]
    contents += [entry.content for entry in task.checkpoint.entries if entry.content] if task.checkpoint else []
    for content in contents:
        for index, digest in enumerate(content.chunks):
            yield digest, max(0, content.chunk_size(index))


def _check_inputs(task: Task) -> None:
    """An input below another input is the job's mistake, not this disk's."""
    paths = {name for name, _, _ in task.inputs}
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in paths:
                raise BadInput(f"input {path!r} lies below input {parent!r}, which is a file")
            parent = parent.rpartition("/")[0]


async def _unpack(disk: Disk, offload: Offload, directory: str, files: Manifest, chunks: InOrder) -> None:
    for entry in files.entries:
        path = os.path.join(directory, os.fsdecode(entry.path))
        await offload(lambda path=path, entry=entry: _make_way(disk, path, entry))  # type: ignore[misc]
        if entry.content is not None:
            await _write(disk, offload, path, entry.content, entry.mode & 0o777 | 0o600, chunks)
        elif entry.kind == "link":
            await offload(lambda path=path, entry=entry: disk.symlink(entry.target, path))  # type: ignore[misc]


def _make_way(disk: Disk, path: str, entry: Entry) -> None:
    """Remove what an input left at this path with another kind; make the directories above it."""
    stat = disk.stat(path)
    if stat is not None and (stat.kind != "dir" or entry.kind != "dir"):
        if stat.kind == "dir":
            disk.remove_tree(path)
        else:
            disk.unlink(path)
    disk.make_directory(os.path.dirname(path))
    if entry.kind == "dir":
        disk.make_directory(path)
        disk.chmod(path, entry.mode & 0o777 | 0o700)


async def _write(disk: Disk, offload: Offload, path: str, content: Content, mode: int, chunks: InOrder) -> None:
    def begin() -> None:
        disk.make_directory(os.path.dirname(path))
        disk.write(path, b"", mode)

    await offload(begin)
    for _ in content.chunks:
        data = await chunks.next()
        await offload(lambda data=data: disk.append(path, data))  # type: ignore[misc]
