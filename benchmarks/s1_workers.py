"""S1: N simulated workers connected with TLS at once, idle and then busy. Aim at 10,000: below half a core and 1 GiB.

Connecting is enrolling with a key of its own, and joining. Idle means heartbeats and nothing else; busy means that each
worker runs one job after the other, so that the whole fleet ends RATE jobs a second.
"""

from __future__ import annotations

import time
from collections import Counter

from benchmarks import usage
from benchmarks.crowd import Crowd, crowd
from benchmarks.report import Options, Table, main, percentile
from benchmarks.system import System, system

RATE = 200.0  # jobs a second of the whole fleet, while busy; at most one each second of a worker


def run(options: Options) -> Table:
    """A fresh server for each run. CPU as shares of one core."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"S1 connected workers, {options.size}, {database}")
    for _ in range(options.runs):
        with system(worker=False, postgresql=options.postgresql) as running:
            table.add(**once(running, options.size))
    return table


def once(running: System, size: int) -> dict[str, float]:
    """Join, be idle for two heartbeats, be busy as long."""
    seconds = 3.0 if size < 100 else 10.0 if size < 1000 else 60.0
    each = max(1.0, size / RATE)
    before = usage.resident(running.server)
    with crowd(running.bundle, size, seconds=each) as fleet:
        with running.meter() as storm:
            fleet.start()
            seen = fleet.until(lambda seen: seen.connected == size, 900.0, f"{size} workers are connected")
        figures = {
            "join_s": storm.wall,
            "join_peak_s": float(peak(seen.joined)),
            "join_cpu_ms": storm.seconds["server"] / size * 1e3,
            "retries": float(sum(seen.said.values()) - size),
        }
        time.sleep(min(5.0, seconds))  # what joining left to do is done
        figures |= {f"idle_{name}": value for name, value in _watch(running, fleet, seconds).items()}
        figures["kib_a_worker"] = (usage.resident(running.server) - before) * 1024 / size
        running.submit(array=2 * size + int(size / each * seconds))
        time.sleep(1.5 * each)
        figures |= {f"busy_{name}": value for name, value in _watch(running, fleet, seconds).items()}
    return figures


def _watch(running: System, fleet: Crowd, seconds: float) -> dict[str, float]:
    first = fleet.look()
    with running.meter() as meter:
        time.sleep(seconds)
    seen = fleet.look()
    turns = seen.turns or [0.0]
    return {
        "core": meter.seconds["server"] / meter.wall,
        "mib": usage.resident(running.server),
        "turns_s": len(seen.turns) / meter.wall,
        "jobs_s": (seen.settled - first.settled) / meter.wall,
        "turn_p99_ms": percentile(turns, 99) * 1e3,
    }


def peak(times: list[float]) -> int:
    """How many of these fell into one second, at most."""
    return max(Counter(int(moment) for moment in times).values(), default=0)


if __name__ == "__main__":
    main(__doc__, run, 1000, 1, "workers")
