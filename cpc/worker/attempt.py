"""One attempt as the guardian sees it: its main process, its limits and what it has used. Light imports only."""

from __future__ import annotations

import contextlib
import os
import signal

from cpc.worker import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from typing import Any

    from cpc.worker.cgroups import Group


class Attempt:
    """Times in seconds, memory in bytes. `born` counts from the machine's start, as /proc does. `status` is None while
    the main process runs."""

    __slots__ = (
        "began", "born", "cpu", "exceeded", "group", "memory", "most", "number", "pid", "status", "wall",
        "walltime",
    )  # fmt: skip

    def __init__(self, number: int, memory: int, walltime: float, born: float) -> None:
        self.number = number
        self.memory = memory
        self.walltime = walltime
        self.group: Group | None = None
        self.pid = 0
        self.began = 0.0
        self.born = born
        self.status: int | None = None
        self.wall = 0.0
        self.cpu = 0.0
        self.most = 0
        self.exceeded = ""

    def ask_to_end(self) -> None:
        """SIGTERM to the whole process group, woken up if it is stopped."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def count(self, usage: resource.struct_rusage) -> None:
        """Add what a reaped process, with all that it had reaped itself, has used."""
        self.cpu += usage.ru_utime + usage.ru_stime
        self.most = max(self.most, usage.ru_maxrss * 1024)

    def ended(self, status: int, usage: resource.struct_rusage, now: float) -> None:
        """The main process has been reaped."""
        self.status = status
        self.wall = now - self.began
        self.count(usage)
        if self.group is not None and not self.exceeded and status != 0 and self.group.out_of_memory():
            self.exceeded = "memory"

    def over_memory(self, roots: list[int]) -> bool:
        """Whether it uses more memory than its limit now. `roots`: its main process and strays."""
        if self.group is not None:
            return self.group.out_of_memory()
        pids = tree.below(roots)
        used = tree.resident(pids)
        if used > self.memory:
            used = tree.proportional(pids)
        self.most = max(self.most, min(used, 2 * self.memory))
        return used > self.memory

    def report(self) -> tuple[Any, ...]:
        """The message that tells the agent of the end."""
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        if self.exceeded == "memory" and self.group is not None:
            self.most = max(self.most, self.group.peak())
        return ("exit", self.number, code, self.wall, self.cpu, self.most, self.exceeded, "")
