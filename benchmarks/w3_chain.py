"""W3: a chain of no-op jobs, each after the one before, all submitted in advance. Floor: subprocess.run in a loop."""

from __future__ import annotations

import time

from benchmarks import floor
from benchmarks.report import Options, Table, main
from benchmarks.system import system
from cpc.core.spec import Dependency


def run(options: Options) -> Table:
    """Hops a second, counted from the first submit to the last result; and from the last submit on."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W3 chain of {options.size} jobs, {database}")
    for _ in range(options.runs):
        with system(postgresql=options.postgresql) as running:
            with running.meter() as meter:
                begin = time.perf_counter()
                job = running.submit()
                for _ in range(options.size - 1):
                    job = running.submit(after=(Dependency(job),))
                submitted = time.perf_counter() - begin
                running.wait(job)
            bare = sum(floor.subprocess_times(options.size))
            table.add(
                hops_s=options.size / meter.wall,
                floor_hops_s=options.size / bare,
                of_floor=bare / meter.wall,
                submit_ms_each=submitted / options.size * 1e3,
                **{f"{name}_us": each / options.size * 1e6 for name, each in meter.seconds.items()},
            )
    return table


if __name__ == "__main__":
    main(__doc__, run, 200, 3, "jobs of the chain")
