"""W2: one no-op job to an idle system, until the client knows its end. Floor: subprocess.run of /bin/true."""

from __future__ import annotations

import statistics
import time

from benchmarks import floor
from benchmarks.report import Options, Table, main, percentile
from benchmarks.system import system

WARM_UP = 3
PAUSE = 0.02


def run(options: Options) -> Table:
    """Jobs one by one, with a pause before each so that the system is idle."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W2 latency, {options.size} jobs one by one, {database}")
    with system(postgresql=options.postgresql) as running:
        for _ in range(options.runs):
            times, submits = [], []
            with running.meter() as meter:
                for _ in range(options.size + WARM_UP):
                    begin = time.perf_counter()
                    job = running.submit()
                    submits.append(time.perf_counter() - begin)
                    running.wait(job)
                    times.append(time.perf_counter() - begin)
                    time.sleep(PAUSE)
            bare = statistics.median(floor.subprocess_times(options.size))
            del times[:WARM_UP], submits[:WARM_UP]
            middle = statistics.median(times)
            table.add(
                median_ms=middle * 1e3,
                p95_ms=percentile(times, 95) * 1e3,
                most_ms=max(times) * 1e3,
                submit_ms=statistics.median(submits) * 1e3,
                floor_ms=bare * 1e3,
                times_floor=middle / bare,
                **{f"{name}_us": each / (options.size + WARM_UP) * 1e6 for name, each in meter.seconds.items()},
            )
    return table


if __name__ == "__main__":
    main(__doc__, run, 50, 3, "jobs a run")
