"""F1: the project is at one server, the only worker at another one, with 0 to 3 hops between them.

For each number of hops: W1 (throughput), one job at a time (latency), W4 (payload), and what the servers used for it.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import report, usage, w4_payload
from benchmarks.chain import Chain, chain
from benchmarks.report import Options, Table

MOST_HOPS = 3
WARM_UP = 3
PAUSE = 0.02
LATENCIES = 30  # jobs, one after the other


def throughput(row: Chain, size: int) -> dict[str, float]:
    """W1: jobs a second, and µs a job of each server."""
    with row.meter() as meter:
        row.owner.wait(row.owner.submit(array=size))
    return {"jobs_s": size / meter.wall, **_micros(meter, size)}


def latency(row: Chain, count: int) -> dict[str, float]:
    """W2: ms from submit to the client's knowledge of the end; the median."""
    times = []
    for _ in range(count + WARM_UP):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        row.owner.wait(row.owner.submit())
        times.append(time.perf_counter() - begin)
    return {"latency_ms": statistics.median(times[WARM_UP:]) * 1e3}


def payload(row: Chain, count: int) -> dict[str, float]:
    """W4: MiB/s from the worker over all servers into the client's memory."""
    commands = w4_payload.writers(row.owner.directory, count)
    with row.meter() as meter:
        w4_payload.fetch(row.owner, commands)
    size = count * w4_payload.PAYLOAD / usage.MIB
    return {"mib_s": size / meter.wall}


def _micros(meter: usage.Meter, size: int) -> dict[str, float]:
    relays = [name for name in meter.seconds if name.startswith("relay")]
    found = {name: meter.seconds.get(name, 0.0) for name in ("home", "owner")}
    found["relay"] = sum(meter.seconds[name] for name in relays) / max(1, len(relays))
    return {f"{name}_us": seconds / size * 1e6 for name, seconds in found.items()}


def run(options: Options) -> list[Table]:
    """A table for each number of hops, and how each compares with none."""
    size, payloads = options.size, max(2, options.size // 100)
    tables = []
    middle: list[dict[str, float]] = []
    for number in range(MOST_HOPS + 1):
        table = Table(f"F1 {number} hops, {size} jobs, {payloads} × 10 MiB")
        for _ in range(options.runs):
            with chain(number) as row:
                table.add(**throughput(row, size), **latency(row, LATENCIES), **payload(row, payloads))
        tables.append(table)
        middle.append(table.medians())
    none = middle[0]
    ratio = Table("F1 beside no hop: throughput, added latency for each hop, payload, by the number of hops")
    found: dict[str, float] = {}
    for number, one in list(enumerate(middle))[1:]:
        found[f"w1_of_none_{number}"] = one["jobs_s"] / none["jobs_s"]
        found[f"ms_a_hop_{number}"] = (one["latency_ms"] - none["latency_ms"]) / number
        found[f"w4_of_none_{number}"] = one["mib_s"] / none["mib_s"]
    ratio.add(**found)
    return [*tables, ratio]


if __name__ == "__main__":
    report.main(__doc__, run, 2000, 3, "jobs of a run")
