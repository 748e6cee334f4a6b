"""F5: a gateway whose N workers all start with the same input, and then send as much each: its memory."""

from __future__ import annotations

import os

from benchmarks import usage
from benchmarks.chain import Chain, chain
from benchmarks.report import Options, Table, main
from benchmarks.system import System
from cpc.client import transfer
from cpc.core.spec import Input

INPUT = 32 << 20  # bytes


def run(options: Options) -> Table:
    """Memory of the home in MiB, with libraries that processes share: with its workers, and at most from the first submit to the
    last result. Seconds for both."""
    table = Table(f"F5 nodes, {options.size} workers and an input of 32 MiB")
    for _ in range(options.runs):
        with chain(1) as row:
            _crowd(row.servers[0], options.size)
            before = usage.resident(row.servers[0].server)
            table.add(before_mib=before, **_all_at_once(row, options.size * row.servers[0].slots))
    return table


def _crowd(home: System, size: int) -> None:
    for number in range(1, size):
        home.add_worker(f"worker{number}")
    home.until(lambda: len(home.client.workers()) == size, "all workers have joined")


def _all_at_once(row: Chain, count: int) -> dict[str, float]:
    path, home = row.owner.directory / "input", row.servers[0].server
    path.write_bytes(os.urandom(INPUT))
    given = Input("data", transfer.upload(row.owner.client, path))
    usage.forget_peak(home)
    # Each takes what it has and changes it, so that its result is nobody else's.
    words = ("sh", "-c", 'echo "$CPC_JOB" >> data && mv data result && sleep 2')
    with row.meter() as meter:
        for job in [row.owner.submit(argv=words, inputs=(given,)) for _ in range(count)]:
            row.owner.wait(job)
    return {"most_mib": usage.peak(home), "seconds": meter.wall}


if __name__ == "__main__":
    main(__doc__, run, 20, 1, "workers")
