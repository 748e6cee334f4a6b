"""W5: no-op jobs into a server without a worker, and what they cost it in memory. Floor: nothing can be said."""

from __future__ import annotations

from benchmarks import usage
from benchmarks.report import Options, Table, main
from benchmarks.system import system


def run(options: Options) -> Table:
    """One array; the clock stops when the server has answered, that is, when all are on its disk."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W5 depth, {options.size} jobs waiting, {database}")
    for _ in range(options.runs):
        with system(worker=False, postgresql=options.postgresql) as running:
            before = usage.resident(running.server)
            with running.meter() as meter:
                running.submit(array=options.size)
            after = usage.resident(running.server)
            table.add(
                jobs_s=options.size / meter.wall,
                accepted_ms=meter.wall * 1e3,
                server_mib_before=before,
                server_mib_after=after,
                bytes_a_job=(after - before) * usage.MIB / options.size,
                **{f"{name}_us": each / options.size * 1e6 for name, each in meter.seconds.items()},
            )
    return table


if __name__ == "__main__":
    main(__doc__, run, 100_000, 3, "jobs")
