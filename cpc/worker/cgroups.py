"""Memory limits by control groups: where they can be made, one per attempt that asked for a limit, version 1 or 2.

Groups are made below the group that the worker is in already, so whatever limits the worker limits its attempts too.
Read by the guardian: light imports only. Every path is an argument, so that the file interface can be tested on a
directory tree.
"""

from __future__ import annotations

import contextlib
import os

from cpc.worker import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


def _get(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _put(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _count(text: str, word: str) -> int:
    """The number behind `word` in a file of `word number` lines."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == word and number.strip().isdigit():
            return int(number)
    return 0


class Group:
    """One attempt's control group."""

    __slots__ = ("_entrance", "path", "version")

    def __init__(self, path: str, version: int, limit: int) -> None:
        self.path = path
        self.version = version
        os.mkdir(path)
        try:
            if version == 1:
                _put(f"{path}/memory.limit_in_bytes", str(limit))
                self._try("memory.memsw.limit_in_bytes", str(limit))  # with swap: the limit is of both together
            else:
                _put(f"{path}/memory.max", str(limit))
                self._try("memory.swap.max", "0")
                self._try("memory.oom.group", "1")  # the kernel ends all of the attempt, not its largest process
            self._entrance = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        except OSError:
            os.rmdir(path)
            raise

    def _try(self, name: str, text: str) -> None:
        with contextlib.suppress(OSError):  # the kernel was built or started without it
            _put(f"{self.path}/{name}", text)

    def enter(self) -> None:
        """Move the calling process in: between fork and exec, so not one page is charged elsewhere."""
        os.write(self._entrance, b"0")

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process in here for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        try:
            return _count(_get(f"{self.path}/{name}"), "oom_kill") > 0
        except OSError:
            return False

    def peak(self) -> int:
        """The most memory used at once, in bytes, file cache included; 0 when the kernel does not tell."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            return int(_get(f"{self.path}/{name}"))
        except (OSError, ValueError):
            return 0

    def pids(self) -> list[int]:
        """Who is in here now."""
        try:
            return [int(line) for line in _get(f"{self.path}/cgroup.procs").split()]
        except (OSError, ValueError):
            return []

    def remove(self) -> bool:
        """Away with it; False while something is still in it (then ask again)."""
        if self._entrance >= 0:
            os.close(self._entrance)
            self._entrance = -1
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """The place where this worker's groups are made: a directory `cpc-TOKEN` in its own group."""

    __slots__ = ("_made", "base", "version")

    def __init__(self, base: str, version: int) -> None:
        self.base = base
        self.version = version
        self._made = 0

    @classmethod
    def make(cls, own: str, version: int, token: str) -> Self:
        """Prepare `own`/cpc-`token`. OSError says why that cannot be."""
        if version == 2:
            _share(own)
        base = f"{own}/cpc-{token}"
        os.mkdir(base)
        groups = cls(base, version)
        try:
            if version == 2:
                _put(f"{base}/cgroup.subtree_control", "+memory")
            probe = groups.group(1 << 30)
            probe.remove()
        except OSError:
            groups.remove()
            raise
        return groups

    def group(self, limit: int) -> Group:
        """A new group with a limit of `limit` bytes."""
        self._made += 1
        return Group(f"{self.base}/{self._made}", self.version, limit)

    def remove(self) -> None:
        """Remove the place and what is empty in it."""
        sweep(self.base)


def sweep(base: str) -> None:
    """Remove a place of groups, made by this worker or left by a former one, as far as it is empty."""
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        if os.path.isdir(f"{base}/{name}"):
            with contextlib.suppress(OSError):
                os.rmdir(f"{base}/{name}")
    with contextlib.suppress(OSError):
        os.rmdir(base)


def _share(own: str) -> None:
    """Version 2: let groups below `own` limit memory. Processes may then only be in leaves, so move ours to one."""
    if "memory" in _get(f"{own}/cgroup.subtree_control").split():
        return
    mine = set(_family())
    inside = {int(line) for line in _get(f"{own}/cgroup.procs").split()}
    if not inside <= mine:
        raise PermissionError(f"{own} holds processes that are not the worker's")
    leaf = f"{own}/cpc-worker"
    if not os.path.isdir(leaf):
        os.mkdir(leaf)
    for pid in sorted(inside):
        _put(f"{leaf}/cgroup.procs", str(pid))
    _put(f"{own}/cgroup.subtree_control", "+memory")


def _family() -> list[int]:
    """The guardian, its keeper and the agent."""
    keeper = os.getppid()
    try:
        agent = int(_get(f"/proc/{keeper}/stat").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        agent = keeper
    return [os.getpid(), keeper, agent]


def own_group(proc: str = "/proc/self", controller: str = "memory") -> tuple[str, int, str]:
    """(directory of this process's group with `controller`, version 1 or 2, "") or ("", 0, why there is none)."""
    try:
        mounts, groups = _get(f"{proc}/mountinfo"), _get(f"{proc}/cgroup")
    except OSError as error:
        return "", 0, f"control groups cannot be read: {error.strerror}"
    places = [line.split(" - ") for line in mounts.splitlines()]
    why = "no control groups are mounted here"
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        version = 1 if controller in names.split(",") else 2 if names == "" else 0
        if not version:
            continue
        for left, right in (place for place in places if len(place) == 2):
            kind, _, options = right.split(" ", 2)
            if kind != ("cgroup" if version == 1 else "cgroup2"):
                continue
            if version == 1 and controller not in options.rpartition(" ")[2].split(","):
                continue
            root, mount = left.split(" ")[3:5]
            below = path[len(root) :] if root != "/" and path.startswith(root) else path
            directory = (mount + "/" + below.lstrip("/")).rstrip("/")
            if not os.path.isdir(directory):
                directory = mount  # a container that sees only its own part
            if version == 2 and controller not in _controllers(directory):
                why = f"control groups version 2 are mounted without the {controller} controller"
                continue
            return directory, version, ""
    return "", 0, why


def _controllers(directory: str) -> list[str]:
    try:
        return _get(f"{directory}/cgroup.controllers").split()
    except OSError:
        return []


def possible(proc: str = "/proc/self") -> tuple[int, str]:
    """(version, "") where groups can probably be made, else (0, why not). Changes nothing."""
    own, version, why = own_group(proc)
    if own and not os.access(own, os.W_OK):
        return 0, f"{own} is not writable"
    return version, why


def open_groups(token: str, proc: str = "/proc/self") -> tuple[Groups | None, str]:
    """(where to make groups, how to say so) or (None, why memory cannot be limited by control groups)."""
    own, version, why = own_group(proc)
    if not own:
        return None, why
    if not os.access(own, os.W_OK):
        return None, f"{own} is not writable"
    _sweep_former(own)
    try:
        return Groups.make(own, version, token), f"control groups version {version}"
    except OSError as error:
        return None, f"no control group could be made in {own}: {error.strerror or error}"


def _sweep_former(own: str) -> None:
    """Remove what guardians that are no more have left: their places are named after their tokens."""
    for name in os.listdir(own):
        if name.startswith("cpc-") and tree.is_over(name[4:]):
            sweep(f"{own}/{name}")
