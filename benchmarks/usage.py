"""What processes used, from /proc: CPU seconds and resident memory. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
TICK = 1 / _TICKS  # seconds: less CPU than this cannot be told from none
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a process: seconds of its own, seconds of children it has waited for, resident bytes."""

    pid: int
    parent: int
    own: float
    reaped: float
    resident: int


def look(pid: int) -> Facts | None:
    """A process now; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    words = text[text.rindex(")") + 2 :].split()
    user, system, children_user, children_system = (int(word) / _TICKS for word in words[11:15])
    return Facts(pid, int(words[1]), user + system, children_user + children_system, int(words[21]) * _PAGE)


def tree(pid: int) -> list[Facts]:
    """A process and all its living descendants."""
    children: dict[int, list[Facts]] = {}
    for name in os.listdir("/proc"):
        found = look(int(name)) if name.isdigit() else None
        if found is not None:
            children.setdefault(found.parent, []).append(found)
    top = look(pid)
    result = [top] if top else []
    for each in result:
        result += children.get(each.pid, [])
    return result


def resident(pid: int) -> float:
    """MiB of a process and its descendants; pages that they share are counted once for each."""
    return sum(each.resident for each in tree(pid)) / MIB


def forget_peak(pid: int) -> None:
    """What `peak` tells begins now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> float:
    """MiB that a process itself has had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def cpu(pid: int) -> float:
    """CPU seconds of a process itself, without children."""
    found = look(pid)
    return found.own if found else 0.0


def cpu_tree(pid: int) -> float:
    """CPU seconds of a process, its living descendants, and all that they have waited for."""
    return sum(each.own + each.reaped for each in tree(pid))


@dataclass(slots=True)
class Meter:
    """Wall time and CPU of named processes between entering and leaving it.

    `alone`: name → pid, without children. `trees`: name → pid, with everything below. The calling process is `client`.
    """

    alone: Mapping[str, int] = field(default_factory=dict)
    trees: Mapping[str, int] = field(default_factory=dict)
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def _look(self) -> dict[str, float]:
        mine = os.times()
        return {
            **{name: cpu(pid) for name, pid in self.alone.items()},
            **{name: cpu_tree(pid) for name, pid in self.trees.items()},
            "client": mine.user + mine.system,
        }

    def __enter__(self) -> Meter:
        self.seconds = self._look()
        self.wall = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self.wall
        before, now = self.seconds, self._look()
        self.seconds = {name: now[name] - before[name] for name in now}
