"""F2: home, gateway, owner. What the gateway has in memory before, and at most while results go through it, and its CPU."""

from __future__ import annotations

from benchmarks import usage, w4_payload
from benchmarks.chain import chain
from benchmarks.report import Options, Table, main


def run(options: Options) -> Table:
    """A fresh row for each run. Memory in MiB, with libraries that processes share."""
    table = Table(f"F2 gateway, {options.size} MiB in transit")
    count = max(1, options.size * int(usage.MIB) // w4_payload.PAYLOAD)
    for _ in range(options.runs):
        with chain(2) as row:
            relay = row.servers[1].server
            commands = w4_payload.writers(row.owner.directory, count)
            usage.forget_peak(relay)  # a login takes more, for a moment
            before = usage.resident(relay)
            with row.meter() as meter:
                w4_payload.fetch(row.owner, commands)
            payload = count * w4_payload.PAYLOAD / usage.MIB
            table.add(
                before_mib=before,
                most_mib=usage.peak(relay),
                cpu_ms_mib=meter.seconds["relay1"] / payload * 1e3,
                gateway_core=meter.seconds["relay1"] / meter.wall,
                mib_s=payload / meter.wall,
            )
    return table


if __name__ == "__main__":
    main(__doc__, run, 1024, 1, "MiB of results")
