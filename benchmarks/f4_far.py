"""F4: three servers in a row, 0 and 100 ms away from each other, one way; for the rest as F1. Needs root, for namespaces.

Inputs and results are of 64 MiB, once each, so their rates have the way there and back in them, twice. Small inputs are of 10 KB,
many of them for one job.
"""

from __future__ import annotations

import secrets
import sys
import time

from benchmarks import usage
from benchmarks.chain import Chain, chain
from benchmarks.f1_hops import latency, throughput
from benchmarks.report import Options, Table, main
from cpc.client import transfer
from cpc.core.spec import Input

DELAYS = (0.0, 0.1)  # seconds
PAYLOAD = 64 << 20  # bytes
LATENCIES = 5
SMALL, MANY = 10_000, 200  # bytes of a small input, and how many a job has


def run(options: Options) -> list[Table]:
    """A table for each delay, and a fresh row for each run; none, and why, where it cannot be run."""
    from tests.helpers import namespaces

    lacking = namespaces.missing()
    if lacking:
        print(f"F4 cannot be run here: {lacking}", file=sys.stderr)
        return []
    return [_table(options, delay) for delay in DELAYS]


def _table(options: Options, delay: float) -> Table:
    from tests.helpers.namespaces import Wire

    table = Table(f"F4 2 hops of {delay * 1e3:g} ms one way, {options.size} jobs")
    for _ in range(options.runs):
        wire = Wire("a", "b", "c")
        try:
            wire.late(delay)
            with chain(2, wire) as row, row.at_owner():
                table.add(**throughput(row, options.size), **latency(row, LATENCIES), **_files(row))
        finally:
            wire.close()
    return table


def _files(row: Chain) -> dict[str, float]:
    """MiB/s of an input to the worker and of a result to the owner's disk, with all that running a job costs."""
    owner, mib = row.owner, PAYLOAD / usage.MIB
    path = owner.directory / "input"
    path.write_bytes(secrets.token_bytes(PAYLOAD))
    data = Input("data", transfer.upload(owner.client, path))
    begin = time.perf_counter()
    owner.wait(owner.submit(inputs=(data,)))
    there = time.perf_counter() - begin
    begin = time.perf_counter()
    owner.wait(owner.submit(argv=("sh", "-c", f"head -c {PAYLOAD} /dev/urandom > result")))
    back = time.perf_counter() - begin
    return {"input_mib_s": mib / there, "result_mib_s": mib / back, "small_inputs_s": MANY / _small(row)}


def _small(row: Chain) -> float:
    """Seconds that a job with many small inputs takes, all of them."""
    owner = row.owner
    path = owner.directory / "input"
    inputs = []
    for number in range(MANY):
        path.write_bytes(secrets.token_bytes(SMALL))
        inputs.append(Input(f"data{number}", transfer.upload(owner.client, path)))
    begin = time.perf_counter()
    owner.wait(owner.submit(inputs=tuple(inputs)))
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(__doc__, run, 1000, 1, "jobs of a run")
