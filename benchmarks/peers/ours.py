"""Our own system in the table of the peer benchmarks: `ours.py SIZE` with `peerlib` on the path. See ours.sh."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager

from peerlib import Meter, emit, lat, rss  # type: ignore[import-not-found]

from benchmarks.system import System, system
from benchmarks.w4_payload import PAYLOAD, fetch, writers
from cpc.core.spec import Dependency

#: size → W1 jobs, W1 runs, W2 jobs, W3 jobs, W4 jobs, W5 jobs
SIZES = {
    "small": (200, 1, 10, 20, 5, 2000),
    "medium": (2000, 3, 50, 200, 20, 100_000),
    "full": (2000, 3, 50, 200, 50, 100_000),
}
PEER = "ours"


class Case:
    """All workloads on one database."""

    def __init__(self, postgresql: bool) -> None:
        self.postgresql = postgresql
        self.variant = "postgresql" if postgresql else "sqlite FULL"

    def w1(self, count: int) -> None:
        with self._system() as running, self._meter(running) as meter:
            begin = time.perf_counter()
            job = running.submit(array=count)
            submitted = time.perf_counter() - begin
            running.wait(job)
            memory = rss(*self._server(running))
        self._emit("W1", n=count, submit_s=submitted, **meter.out, server_rss_mib=memory)

    def w2(self, count: int) -> None:
        times = []
        with self._system() as running:
            for _ in range(count + 3):
                begin = time.perf_counter()
                running.wait(running.submit())
                times.append(time.perf_counter() - begin)
                time.sleep(0.02)
        self._emit("W2", **lat(times[3:]))

    def w3(self, count: int) -> None:
        with self._system() as running, self._meter(running) as meter:
            job = running.submit()
            for _ in range(count - 1):
                job = running.submit(after=(Dependency(job),))
            running.wait(job)
        self._emit("W3", n=count, **meter.out)

    def w4(self, count: int) -> None:
        with self._system() as running:
            commands = writers(running.directory, count)
            with self._meter(running) as meter:
                fetch(running, commands)
                memory = rss(*self._server(running))
        note = "through the server's disk; every payload differs, so that no chunk is saved"
        self._emit("W4", n=count, mib=count * PAYLOAD / 2**20, **meter.out, server_rss_mib=memory, note=note)

    def w5(self, count: int) -> None:
        with system(worker=False, postgresql=self.postgresql) as running:
            before = rss(*self._server(running))
            with self._meter(running) as meter:
                running.submit(array=count)
            after = rss(*self._server(running))
        self._emit("W5", n=count, **meter.out, server_rss_mib=after, server_rss0_mib=before)

    def _system(self) -> AbstractContextManager[System]:
        return system(postgresql=self.postgresql)

    @staticmethod
    def _server(running: System) -> list[int]:
        """The server is our process and, where there is one, PostgreSQL's."""
        return [pid for pid in (running.server, running.database) if pid]

    def _meter(self, running: System) -> Meter:
        groups = {"server": self._server(running)}
        return Meter(**groups, **({"worker": running.worker} if running.worker else {}))

    def _emit(self, workload: str, **figures: object) -> None:
        emit(PEER, self.variant, workload, True, **figures)


def main(size: str) -> None:
    """Every workload at this size, on both databases."""
    jobs, runs, latency, chain, payload, depth = SIZES[size]
    for postgresql in (False, True):
        case = Case(postgresql)
        for _ in range(runs):
            case.w1(jobs)
        if size == "full":
            case.w1(20_000)
        case.w2(latency)
        case.w3(chain)
        case.w4(payload)
        case.w5(depth)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "medium")
