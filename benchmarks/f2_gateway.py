"""F2: home, relay, owner. What the first two have in memory before, and at most while files go through them, and their CPU.

A head node's gateway is a home: the workers join it. One that only joins two networks is a relay.
"""

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
            found = {f"{role}_before_mib": usage.resident(pid) for role, pid in _gateways(row).items()}
            for what, carry in (("results", _results), ("inputs", _inputs)):
                found |= {f"{what}_{name}": value for name, value in carry(row, options.size).items()}
            table.add(**found)
    return table


def _gateways(row: Chain) -> dict[str, int]:
    return {"home": row.servers[0].server, "relay": row.servers[1].server}


def _results(row: Chain, size: int) -> dict[str, float]:
    count = max(1, size * int(usage.MIB) // w4_payload.PAYLOAD)
    commands = w4_payload.writers(row.owner.directory, count)
    _forget_peaks(row)
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
    _forget_peaks(row)
    with row.meter() as meter:
        for job in [row.owner.submit(inputs=(each,)) for each in uploaded]:
            row.owner.wait(job)
    return _found(row, meter, jobs * INPUT)


def _forget_peaks(row: Chain) -> None:
    for pid in _gateways(row).values():
        usage.forget_peak(pid)  # a login takes more, for a moment


def _found(row: Chain, meter: usage.Meter, size: int) -> dict[str, float]:
    payload = size / usage.MIB
    found = {"mib_s": payload / meter.wall}
    for role, pid in _gateways(row).items():
        seconds = meter.seconds["home" if role == "home" else "relay1"]
        found |= {f"{role}_most_mib": usage.peak(pid), f"{role}_cpu_ms_mib": seconds / payload * 1e3}
    return found


if __name__ == "__main__":
    main(__doc__, run, 1024, 1, "MiB of results and of inputs")
