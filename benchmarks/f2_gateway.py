"""F2: home, gateway, owner. What the gateway has in memory before, and at most while files go through it, and its CPU."""

from __future__ import annotations

import os

from benchmarks import usage, w4_payload
from benchmarks.chain import Chain, chain
from benchmarks.report import Options, Table, main
from cpc.client import transfer
from cpc.core.spec import Input

INPUT = 64 << 20  # bytes of each job's


def run(options: Options) -> Table:
    """A fresh row of servers for each run, and in each first results, then inputs. Memory in MiB, with libraries that
    processes share."""
    table = Table(f"F2 gateway, {options.size} MiB of results and of inputs in transit")
    for _ in range(options.runs):
        with chain(2) as row:
            before = usage.resident(row.servers[1].server)
            found = {"results": _results(row, options.size), "inputs": _inputs(row, options.size)}
            figures = {f"{what}_{name}": value for what, each in found.items() for name, value in each.items()}
            table.add(before_mib=before, **figures)
    return table


def _results(row: Chain, size: int) -> dict[str, float]:
    count = max(1, size * int(usage.MIB) // w4_payload.PAYLOAD)
    commands = w4_payload.writers(row.owner.directory, count)
    usage.forget_peak(row.servers[1].server)  # a login takes more, for a moment
    with row.meter() as meter:
        w4_payload.fetch(row.owner, commands)
    return _found(row, meter, count * w4_payload.PAYLOAD)


def _inputs(row: Chain, size: int) -> dict[str, float]:
    """Each job has another file, so nothing is in a cache."""
    path, jobs = row.owner.directory / "input", max(1, size * int(usage.MIB) // INPUT)
    uploaded = []
    for number in range(jobs):
        path.write_bytes(os.urandom(INPUT))
        uploaded.append(Input(f"data{number}", transfer.upload(row.owner.client, path)))
    usage.forget_peak(row.servers[1].server)
    with row.meter() as meter:
        for job in [row.owner.submit(inputs=(each,)) for each in uploaded]:
            row.owner.wait(job)
    return _found(row, meter, jobs * INPUT)


def _found(row: Chain, meter: usage.Meter, size: int) -> dict[str, float]:
    payload = size / usage.MIB
    return {
        "most_mib": usage.peak(row.servers[1].server),
        "cpu_ms_mib": meter.seconds["relay1"] / payload * 1e3,
        "core": meter.seconds["relay1"] / meter.wall,
        "mib_s": payload / meter.wall,
    }


if __name__ == "__main__":
    main(__doc__, run, 1024, 1, "MiB of results and of inputs")
