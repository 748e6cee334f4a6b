"""S4: a server that is killed and away, while N simulated workers run a job each; then all come back, and hand in.

Aim: no attempt is lost, no job fails, and coming back is bounded: it takes no longer than the workers' longest pause
between tries and the handshakes, and no worker gives up on a connection that the server has begun to take.
"""

from __future__ import annotations

import time

from benchmarks import usage
from benchmarks.crowd import Seen, crowd
from benchmarks.report import Options, Table, main
from benchmarks.s1_workers import peak
from benchmarks.system import System, system


def run(options: Options) -> Table:
    """A fresh server for each run."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"S4 outage of {options.away:g} s with {options.size} workers and running jobs, {database}")
    for _ in range(options.runs):
        with system(worker=False, postgresql=options.postgresql) as running:
            table.add(**once(running, options.size, options.away))
    return table


def once(running: System, size: int, away: float) -> dict[str, float]:
    """AssertionError when an attempt or a job was lost. CPU of the server as a share of one core, memory in MiB."""
    job = running.submit(array=size)
    with crowd(running.bundle, size) as fleet:
        fleet.start()
        first = fleet.until(lambda seen: seen.running == size, 1200.0, "every worker runs a job")
        running.end_server(kill=True)
        time.sleep(away)
        gone = fleet.look()
        assert gone.running == size, "workers keep computing"
        ready = running.start_server()
        storm = _Storm(running.server)
        with running.meter() as meter:
            back = fleet.until(lambda seen: seen.connected == size, 600.0, "all are back", watch=storm.look)
        fleet.finish()
        end = fleet.until(lambda seen: seen.settled == size, 600.0, "all have handed in")
    _check(end, size)
    states = running.client.wait(job, 60.0).jobs
    assert {state: count for state, count in states.items() if count} == {"succeeded": size}, states
    return {
        "ready_s": ready,
        "back_s": meter.wall,
        "back_peak_s": float(peak(back.joined)),
        "joined_twice": float(len(back.joined) - size),
        "gave_up": float(_given_up(end) - _given_up(first)),
        "server_ms_each": meter.seconds["server"] / size * 1e3,
        "peak_core": storm.core,
        "peak_mib": usage.peak(running.server),
        "lost_attempts": float(end.again + end.dropped),
    }


def _check(seen: Seen, size: int) -> None:
    assert seen.tasks == size, f"{seen.tasks} tasks were given for {size} jobs"
    assert seen.again == seen.dropped == 0, f"{seen.again} attempts were made again, {seen.dropped} dropped"
    assert seen.verdicts == {"accepted": size}, seen.verdicts


def _given_up(seen: Seen) -> int:
    """Connections and calls that were given up because no answer came in time."""
    return sum(count for said, count in seen.said.items() if "no answer" in said or "no greeting" in said)


class _Storm:
    """The server's largest share of a core within a second."""

    def __init__(self, pid: int) -> None:
        self.core = 0.0
        self._pid = pid
        self._at, self._cpu = time.perf_counter(), usage.cpu(pid)

    def look(self) -> None:
        now = time.perf_counter()
        if now - self._at >= 1.0:
            cpu = usage.cpu(self._pid)
            self.core = max(self.core, (cpu - self._cpu) / (now - self._at))
            self._at, self._cpu = now, cpu


if __name__ == "__main__":
    main(__doc__, run, 500, 1, "workers", outage=True)
