"""What this machine can do at all, without a job server: the floor that the figures are held against."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence

TRUE = "/bin/true"


def spawns(count: int, processes: int = 2) -> float:
    """Seconds to run /bin/true `count` times from `processes` processes with posix_spawn."""
    begin = time.perf_counter()
    children = []
    for place in range(processes):
        child = os.fork()
        if child == 0:
            for _ in range(place, count, processes):
                os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return time.perf_counter() - begin


def subprocess_times(count: int) -> list[float]:
    """Seconds of each of `count` runs of /bin/true with `subprocess.run`, one after the other."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        subprocess.run([TRUE], check=True)
        times.append(time.perf_counter() - begin)
    return times


def pipes(commands: Iterable[Sequence[str]], size: int) -> float:
    """Seconds to take `size` bytes from each command, one after the other, through a pipe."""
    begin = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        assert len(done.stdout) == size
    return time.perf_counter() - begin
