"""S3: from `cpc-server start` until the server answers, with N jobs queued and one in a hundred running. Aim: 5 s at 10⁶.

The jobs are of several projects and of several classes in each. The server is killed, not stopped. Also: its memory then,
and how long it takes until the workers that have the running jobs are all back.
"""

from __future__ import annotations

import time

from benchmarks import usage
from benchmarks.crowd import crowd
from benchmarks.report import Options, Table, main
from benchmarks.s2_depth import parts
from benchmarks.system import PROJECT, System, system
from cpc.core.resources import Amounts

PROJECTS, CLASSES = 3, 4
WORKERS = 20


def run(options: Options) -> Table:
    """A fresh server for each run; the empty server's start beside it."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"S3 restart with {options.size} jobs queued, {database}")
    for _ in range(options.runs):
        with system(worker=False, postgresql=options.postgresql) as running:
            table.add(**once(running, options.size))
    return table


def once(running: System, size: int) -> dict[str, float]:
    """Kill it empty, fill it, kill it full."""
    running.end_server(kill=True)
    empty = running.start_server()
    before, empty_cpu = usage.resident(running.server), usage.cpu(running.server)
    slots = max(1, size // 100 // WORKERS)
    with crowd(running.bundle, WORKERS, cores=slots) as fleet:
        fill(running, size)
        fleet.start()
        fleet.until(lambda seen: seen.running == WORKERS * slots, 300.0, "the workers are full")
        running.end_server(kill=True)
        begin = time.perf_counter()
        ready = running.start_server()
        cpu, after = usage.cpu(running.server), usage.resident(running.server)
        seen = fleet.until(lambda seen: seen.connected == WORKERS, 120.0, "the workers are back")
        back = time.perf_counter() - begin
        assert not seen.dropped, "the server has forgotten what ran"
    return {
        "ready_s": ready,
        "empty_ready_s": empty,
        "ready_cpu_s": cpu,
        "empty_cpu_s": empty_cpu,
        "mib": after,
        "empty_mib": before,
        "workers_back_s": back,
        "mib_then": usage.resident(running.server),
    }


def fill(running: System, size: int) -> None:
    """`size` jobs, in PROJECTS projects with CLASSES classes each."""
    client = running.client
    for project in range(PROJECTS):
        name = f"{PROJECT}-{project}"
        client.create_project(name)
        client.project = name
        for number in range(CLASSES):
            for count in parts(size // (PROJECTS * CLASSES)):
                running.submit(array=count, need=Amounts(cores=1, memory=1 << (20 + 2 * number)))


if __name__ == "__main__":
    main(__doc__, run, 50_000, 1, "jobs queued")
