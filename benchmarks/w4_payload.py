"""W4: jobs that write 10 MiB each; the client ends up with the bytes. Floor: the same commands through a pipe."""

from __future__ import annotations

from benchmarks import floor, usage
from benchmarks.report import Options, Table, main
from benchmarks.system import System, system
from cpc.client import transfer

PAYLOAD = 10 << 20


def run(options: Options) -> Table:
    """MiB/s of payload, from the first submit to the last byte in the client's memory."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"W4 payload, {options.size} jobs of 10 MiB, {database}")
    for _ in range(options.runs):
        with system(postgresql=options.postgresql) as running:
            with running.meter() as meter:
                fetch(running, options.size)
            bare = floor.pipes([command(str(number)) for number in range(options.size)], PAYLOAD)
            payload = options.size * PAYLOAD / usage.MIB
            table.add(
                mib_s=payload / meter.wall,
                floor_mib_s=payload / bare,
                of_floor=bare / meter.wall,
                server_mib=usage.resident(running.server),
                **{f"{name}_ms_mib": each / payload * 1e3 for name, each in meter.seconds.items()},
            )
    return table


def command(word: str) -> tuple[str, ...]:
    """Writes PAYLOAD bytes. Chunks that the server has already do not travel, so no two jobs write the same ones."""
    return ("sh", "-c", f"yes copernicus-{word} | head -c {PAYLOAD}")


def fetch(running: System, count: int) -> None:
    """Submit, wait for each, read its output."""
    jobs = [running.submit(argv=command(str(number))) for number in range(count)]
    for job in jobs:
        running.wait(job)
        got = len(transfer.read(running.client, job, "stdout"))
        assert got == PAYLOAD, f"{job}: {got} bytes"


if __name__ == "__main__":
    main(__doc__, run, 20, 3, "jobs of 10 MiB")
