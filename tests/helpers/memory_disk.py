"""A worker's disk in memory. What was not synced is lost with the power; it can be full, or broken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from cpc.core.pieces import Data
from cpc.spool.disk import Kind, Stat

ENDLESS = 1 << 40  # bytes: a disk on which nobody counts


@dataclass
class Node:
    """One file, link or directory."""

    kind: Kind
    inode: int
    mode: int = 0o600
    data: bytes = b""
    synced: bytes = b""
    changed: int = 0


class Platter:
    """What all processes see: names now, and names that survive a power loss."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.names: dict[str, Node] = {"/": Node("dir", 1, 0o755)}
        self.durable: dict[str, Node] = {}
        self.locks: dict[int, object] = {}
        self.capacity = ENDLESS
        self.broken: Callable[[str, str], OSError | None] = lambda operation, path: None
        self.inodes = 1
        self.syncs = 0
        self.ticks = 0

    def power_loss(self, zeros: bool = False) -> None:
        """Only synced names are left, with the bytes that were synced. `zeros`: the file system had noted the new length of
        a file that grew, and what was not synced of it reads as zeros."""
        for path in [path for path, node in self.names.items() if node.kind == "file"]:
            del self.names[path]
        for path, node in self.durable.items():
            if node.kind == "file":
                grown = len(node.data) - len(node.synced) if node.data.startswith(node.synced) else 0
                node.data = node.synced + bytes(grown if zeros else 0)
            self.names[path] = node
            # A removal that was not synced may be undone, whole directories included.
            parent = os.path.dirname(path)
            while parent not in self.names:
                self.inodes += 1
                self.names[parent] = Node("dir", self.inodes, 0o700)
                parent = os.path.dirname(parent)
        self.locks.clear()

    def used(self) -> int:
        return sum(len(node.data) for node in self.names.values())


class MemoryDisk:
    """`cpc.spool.disk.Disk` as one process sees it; `end` drops its locks, as the end of a process does. One that was killed
    while it had several things to do does none of the others: `killed` is raised then."""

    def __init__(self, platter: Platter, breaks: bool = True) -> None:
        self.platter = platter
        self.killed: type[BaseException] | None = None
        self._breaks = breaks  # whether `platter.broken` concerns it

    def end(self) -> None:
        locks = self.platter.locks
        for inode in [inode for inode, owner in locks.items() if owner is self]:
            del locks[inode]

    def _check(self, operation: str, path: str) -> None:
        if self.killed is not None:
            raise self.killed
        error = self.platter.broken(operation, path) if self._breaks else None
        if error is not None:
            raise error

    def _node(self, path: str) -> Node:
        found = self.platter.names.get(os.path.normpath(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file or directory", path)
        return found

    def _file(self, path: str) -> Node:
        node = self._node(path)
        if node.kind != "file":
            raise OSError(errno.EISDIR if node.kind == "dir" else errno.ELOOP, "not a file", path)
        return node

    def _make(self, path: str, kind: Kind, mode: int) -> Node:
        parent = self._node(os.path.dirname(os.path.normpath(path)))
        if parent.kind != "dir":
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        self.platter.inodes += 1
        node = Node(kind, self.platter.inodes, mode, changed=self._tick())
        self.platter.names[os.path.normpath(path)] = node
        return node

    def _tick(self) -> int:
        self.platter.ticks += 1
        return int(self.platter.now() * 1e9) + self.platter.ticks

    def _put(self, path: str, node: Node, data: bytes) -> None:
        node.changed = self._tick()
        if self.platter.capacity < ENDLESS:
            room = self.platter.capacity - self.platter.used() + len(node.data)
            if len(data) > room:
                node.data = data[: max(0, room)]
                raise OSError(errno.ENOSPC, "No space left on device", path)
        node.data = data

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        self._check("read", path)
        data = self._file(path).data
        return data[offset:] if size < 0 else data[offset : offset + size]

    def write(self, path: str, data: Data, mode: int = 0o600) -> None:
        self._check("write", path)
        found = self.platter.names.get(os.path.normpath(path))
        node = self._file(path) if found else self._make(path, "file", mode)
        node.mode = mode
        self._put(path, node, bytes(data))

    def append(self, path: str, data: bytes) -> None:
        self._check("append", path)
        found = self.platter.names.get(os.path.normpath(path))
        node = self._file(path) if found else self._make(path, "file", 0o600)
        self._put(path, node, node.data + bytes(data))

    def truncate(self, path: str, size: int) -> None:
        self._check("truncate", path)
        node = self._file(path)
        node.data = node.data[:size]

    def sync(self, path: str) -> None:
        self._check("sync", path)
        self.platter.syncs += 1
        node = self._file(path)
        node.synced = node.data

    def sync_directory(self, path: str) -> None:
        self._check("sync", path)
        top = os.path.normpath(path)
        durable, names = self.platter.durable, self.platter.names
        inside = top.rstrip("/") + "/"
        length = len(inside)
        here = [each for each in durable if each.startswith(inside) and "/" not in each[length:] and each not in names]
        for known in here:
            del durable[known]
        durable.update(
            {each: node for each, node in names.items() if each.startswith(inside) and "/" not in each[length:]}
        )

    def rename(self, old: str, new: str) -> None:
        self._check("rename", old)
        old, new = os.path.normpath(old), os.path.normpath(new)
        node = self._node(old)
        if node.kind != "dir":
            self.platter.names[new] = self.platter.names.pop(old)
            return
        if any(path.startswith(new + "/") for path in self.platter.names):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new)
        for table in (self.platter.names, self.platter.durable):
            for path in [each for each in table if each == old or each.startswith(old + "/")]:
                table[new + path[len(old) :]] = table.pop(path)

    def copy(self, old: str, new: str) -> None:
        self.write(new, self.read(old))

    def unlink(self, path: str) -> None:
        self._check("unlink", path)
        self.platter.names.pop(os.path.normpath(path), None)

    def remove_tree(self, path: str) -> None:
        self._check("unlink", path)
        top = os.path.normpath(path)
        for each in [name for name in self.platter.names if name == top or name.startswith(top + "/")]:
            del self.platter.names[each]

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        self._check("make", path)
        path = os.path.normpath(path)
        found = self.platter.names.get(path)
        if found is None:
            self.make_directory(os.path.dirname(path), mode)
            self._make(path, "dir", mode)
        elif found.kind != "dir":
            raise FileExistsError(errno.EEXIST, "exists", path)

    def symlink(self, target: bytes, path: str) -> None:
        self._make(path, "link", 0o777).data = target

    def read_link(self, path: str) -> bytes:
        return self._node(path).data

    def chmod(self, path: str, mode: int) -> None:
        self._node(path).mode = mode

    def touch(self, path: str) -> None:
        self._check("write", path)
        self._node(path).changed = self._tick()

    def stat(self, path: str) -> Stat | None:
        node = self.platter.names.get(os.path.normpath(path))
        return None if node is None else _facts(os.path.basename(path), node)

    def scan(self, path: str) -> tuple[Stat, ...]:
        self._check("read", path)
        self._node(path)
        top = os.path.normpath(path)
        inside = top.rstrip("/") + "/"
        length = len(inside)
        found = [
            (each, node)
            for each, node in self.platter.names.items()
            if each.startswith(inside) and len(each) > length and "/" not in each[length:]
        ]
        return tuple(_facts(os.path.basename(each), node) for each, node in sorted(found, key=lambda pair: pair[0]))

    def free(self, path: str) -> int:
        if self.platter.capacity >= ENDLESS:
            return ENDLESS
        return max(0, self.platter.capacity - self.platter.used())

    def lock(self, path: str) -> Lock | None:
        found = self.platter.names.get(os.path.normpath(path))
        node = found or self._make(path, "file", 0o600)
        if node.inode in self.platter.locks:
            return None
        self.platter.locks[node.inode] = self
        return Lock(self, node.inode)


class Lock:
    """Held by one process."""

    def __init__(self, disk: MemoryDisk, inode: int) -> None:
        self._disk = disk
        self._inode = inode

    def release(self) -> None:
        locks = self._disk.platter.locks
        if locks.get(self._inode) is self._disk:
            del locks[self._inode]


def _facts(name: str, node: Node) -> Stat:
    return Stat(name, node.kind, len(node.data), node.mode, node.changed, node.inode)
