"""S2: throughput and claim latency with N jobs queued and as many finished, beside those of an empty server.

Simulated workers that end each job at once: what is measured is the server. Both servers run at the same time and are
measured in turns, so that the ratio means something on a busy machine. The N jobs are of the same project and class as
those that are measured, and of lower priority. Claim: from a slot that has become free to a task in it, with jobs of PACED
seconds, so that the server is not what everybody waits for. Aim: within 10 %.
"""

from __future__ import annotations

import contextlib
import statistics
import time

from benchmarks import history, usage
from benchmarks.crowd import Crowd, crowd
from benchmarks.report import Options, Table, main, percentile
from benchmarks.system import System, system

WORKERS, CORES = 4, 8
ARRAY = 100_000
ROUNDS = 5
PACED = 0.25


def run(options: Options) -> Table:
    """Medians of ROUNDS turns for each run (one when N is small); times of claims in ms, CPU of the server in µs a job."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"S2 depth, {options.size} queued and as many finished, {database}")
    for _ in range(options.runs):
        with contextlib.ExitStack() as stack:
            empty = stack.enter_context(system(worker=False, postgresql=options.postgresql))
            deep = stack.enter_context(system(worker=False, postgresql=options.postgresql))
            figures = fill(deep, options.size)
            pairs = [(each, stack.enter_context(_fleet(each))) for each in (empty, deep)]
            size = max(50, min(2000, options.size // 10))
            rounds, paced = (ROUNDS, 4.0) if options.size >= 1000 else (1, 1.0)
            turns = [[once(each, fleet, size, paced) for each, fleet in pairs] for _ in range(rounds + 1)][1:]
            figures |= {"server_mib": usage.resident(deep.server)}
        middle = [
            {name: statistics.median(turn[which][name] for turn in turns) for name in turns[0][0]} for which in (0, 1)
        ]
        for name in middle[0]:
            figures |= {f"{word}{name}": middle[which][name] for which, word in enumerate(("empty_", ""))}
        figures["rate_of_empty"] = figures["jobs_s"] / figures["empty_jobs_s"]
        figures["cpu_of_empty"] = figures["server_us"] / figures["empty_server_us"]
        table.add(**figures)
    return table


def fill(running: System, size: int) -> dict[str, float]:
    """`size` finished jobs and as many that wait."""
    done = [running.submit(array=count) for count in parts(size)]
    running.end_server()
    history.finish(running.url, done)
    ready = running.start_server()
    begin = time.perf_counter()
    for count in parts(size):
        running.submit(array=count)
    return {"ready_s": ready, "fill_s": time.perf_counter() - begin}


def parts(size: int) -> list[int]:
    """In arrays of at most ARRAY."""
    return [ARRAY] * (size // ARRAY) + ([size % ARRAY] if size % ARRAY else [])


def _fleet(running: System) -> contextlib.AbstractContextManager[Crowd]:
    return crowd(running.bundle, WORKERS, CORES, seconds=0.0, idle=True)


def once(running: System, fleet: Crowd, size: int, paced: float) -> dict[str, float]:
    """`size` jobs, from the moment at which the workers want some; then `paced` seconds at a quiet pace."""
    if not fleet.started:
        fleet.start()
        fleet.until(lambda seen: seen.connected == WORKERS, 60.0, "the workers are connected")
    running.submit(array=size, priority=10)
    before = fleet.look().settled
    with running.meter() as meter:
        fleet.want(True)
        seen = fleet.until(lambda seen: seen.settled >= before + size, 300.0, f"{size} jobs have ended", tick=0.02)
    ended = seen.settled - before
    claims = _claims(running, fleet, paced)
    figures = {
        "jobs_s": ended / meter.wall,
        "server_us": max(meter.seconds["server"], usage.TICK) / ended * 1e6,  # a few jobs may cost less than a tick
        "claim_ms": statistics.median(claims) * 1e3,
        "claim_p95_ms": percentile(claims, 95) * 1e3,
    }
    if running.database:
        figures["database_us"] = meter.seconds["database"] / ended * 1e6
    return figures


def _claims(running: System, fleet: Crowd, seconds: float) -> list[float]:
    """Seconds of each claim at a pace that keeps the server half asleep."""
    running.submit(array=int(WORKERS * CORES * seconds / PACED), priority=10)
    fleet.want(True, PACED)
    time.sleep(seconds / 4)
    fleet.look()
    time.sleep(seconds / 2)
    claims = fleet.look().claims
    fleet.want(False)
    fleet.until(lambda seen: not seen.running, 60.0, "nothing runs", tick=0.1)
    return claims or [0.0]


if __name__ == "__main__":
    main(__doc__, run, 100_000, 1, "jobs queued, and finished")
