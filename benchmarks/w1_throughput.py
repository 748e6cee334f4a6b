"""W1: N no-op jobs as one array, from submit to all done. Floor: posix_spawn of /bin/true from 2 processes."""

from __future__ import annotations

import time

from benchmarks import floor, usage
from benchmarks.report import Options, Table, main
from benchmarks.system import System, system


def run(options: Options) -> Table:
    """A fresh server for each run."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W1 throughput, {options.size} jobs, {database}")
    for _ in range(options.runs):
        with system(postgresql=options.postgresql) as running:
            table.add(**once(running, options.size))
    return table


def once(running: System, size: int) -> dict[str, float]:
    """One run: rates in jobs/s, CPU in µs a job."""
    with running.meter() as meter:
        begin = time.perf_counter()
        job = running.submit(array=size) if size > 1 else running.submit()
        submitted = time.perf_counter() - begin
        running.wait(job)
    bare = floor.spawns(size)
    figures = {
        "jobs_s": size / meter.wall,
        "floor_jobs_s": size / bare,
        "of_floor": bare / meter.wall,
        "submit_ms": submitted * 1e3,
    }
    figures |= {f"{name}_us": seconds / size * 1e6 for name, seconds in meter.seconds.items()}
    return {**figures, "server_mib": usage.resident(running.server)}


if __name__ == "__main__":
    main(__doc__, run, 2000, 3, "jobs a run")
