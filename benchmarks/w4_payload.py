"""W4: jobs that write 10 MiB each; the client ends up with the bytes. Floor: the same commands through a pipe."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import floor, usage
from benchmarks.report import Options, Table, main
from benchmarks.system import System, system
from cpc.client import transfer

PAYLOAD = 10 << 20
BLOCK = 8 << 10

Command = tuple[str, ...]


def run(options: Options) -> Table:
    """MiB/s of payload, from the first submit to the last byte in the client's memory."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W4 payload, {options.size} jobs of 10 MiB, {database}")
    for _ in range(options.runs):
        with system(postgresql=options.postgresql) as running:
            commands = writers(running.directory, options.size)
            jobs = usage.look(running.guardian)
            with running.meter() as meter:
                fetch(running, commands)
            after = usage.look(running.guardian)
            bare = floor.pipes(commands, PAYLOAD)
            payload = options.size * PAYLOAD / usage.MIB
            assert jobs is not None
            assert after is not None
            table.add(
                mib_s=payload / meter.wall,
                floor_mib_s=payload / bare,
                of_floor=bare / meter.wall,
                server_mib=usage.resident(running.server),
                **{f"{name}_ms_mib": each / payload * 1e3 for name, each in meter.seconds.items()},
                jobs_ms_mib=(after.reaped - jobs.reaped) / payload * 1e3,
            )
    return table


def writers(directory: Path, count: int) -> list[Command]:
    """Each writes another part of one file that is made up here: of what the server has already nothing would travel.

    In pieces of 8 KiB, as `head -c 10485760 /dev/zero` does, which the other job servers run.
    """
    source = directory / "payload"
    source.write_bytes(os.urandom(PAYLOAD + count * BLOCK))
    part = (f"if={source}", f"bs={BLOCK}", f"count={PAYLOAD // BLOCK}", "status=none")
    return [("dd", *part, f"skip={number}") for number in range(count)]


def fetch(running: System, commands: list[Command]) -> None:
    """Submit, wait for each, read its output."""
    jobs = [running.submit(argv=command) for command in commands]
    for job in jobs:
        running.wait(job)
        got = len(transfer.read(running.client, job, "stdout"))
        assert got == PAYLOAD, f"{job}: {got} bytes"


if __name__ == "__main__":
    main(__doc__, run, 20, 3, "jobs of 10 MiB")
