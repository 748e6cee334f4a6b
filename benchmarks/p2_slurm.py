"""P2: pools on a real Slurm of this machine: polling, how soon a job runs on an idle one, and what is wasted.

A private Slurm with three nodes of four cores (tests/helpers/slurm.py), in which 1,000 allocations wait while they are polled in
one call, and 50 are asked for by one array and by a call for each. Then jobs one by one, each when no worker is left; then an
ensemble: core-hours that allocations had and no job used.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import Options, Table, main
from benchmarks.system import System, system
from cpc.api.scheduler import Ran, Tools
from cpc.core.allocation import Handle, Seen, Wanted
from cpc.core.chance import SystemChance
from cpc.core.clock import SECOND, SystemClock
from cpc.core.pool_views import AllocationView, PoolSettings
from cpc.plugins.schedulers.slurm import Slurm
from cpc.pools.allocation import Allocation, State
from cpc.pools.facts import Pool
from cpc.server.offline import wait as finished
from cpc.server.pools import offline, script, series
from cpc.server.pools.means import Means
from tests.helpers.slurm import Cluster

POLLED = 1000
POLLS = 5
ONE_BY_ONE = 3
JOB_SECONDS = 2.0
IDLE = 5.0
ASKED = 50
BUNDLE = 2300  # letters of one
Env = Mapping[str, str] | None
LIMIT = 4
CORES = 2
PATIENCE = 300.0


def run(options: Options) -> Table:
    """A Slurm and a server for each run."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"P2 pools on Slurm, {options.size} jobs of {JOB_SECONDS:g} s, {database}")
    for _ in range(options.runs):
        with slurm() as cluster:
            figures = polling(cluster) | asking(cluster)
            with system(worker=False, postgresql=options.postgresql) as running:
                settings = PoolSettings(
                    cores=CORES, memory=100 << 20, walltime=1200.0, max_allocations=LIMIT, idle=IDLE,
                    worker=str(Path(sys.executable).parent / "cpc-worker"), directory=str(cluster.jobs),
                    scheduler={"conf": str(cluster.conf)}, prologue=f"date +%s%6N > {cluster.jobs}/begun-$SLURM_JOB_ID",
                )  # fmt: skip
                running.client.add_pool("hpc", "slurm", settings)
                figures |= starting(running, cluster)
                figures |= wasting(running, options.size)
            table.add(**figures)
    return table


@contextmanager
def slurm() -> Iterator[Cluster]:
    """A Slurm of our own."""
    cluster = Cluster(nodes=3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def polling(cluster: Cluster) -> dict[str, float]:
    """POLLED allocations that wait, polled in one call."""
    asked = Slurm(
        Tools(offline.run, offline.http, SystemClock(), SystemChance()), {"conf": str(cluster.conf)}
    )  # fmt: skip
    wanted = Wanted(
        token="cpc-poll-1", script="#!/bin/sh\n", count=POLLED, walltime=600, directory=str(cluster.jobs),
        options=("--begin=now+1hour",),
    )  # fmt: skip
    begin = time.perf_counter()
    natives = finished(asked.submit(wanted))
    submitted = time.perf_counter() - begin
    handles = [Handle(native, wanted.token, index) for index, native in enumerate(natives)]
    times = []
    for _ in range(POLLS):
        begin = time.perf_counter()
        seen: tuple[Seen, ...] = finished(asked.poll(handles))
        times.append(time.perf_counter() - begin)
        assert len(seen) == POLLED
    finished(asked.cancel(handles))
    return {"submit_1000_s": submitted, "poll_1000_s": statistics.median(times)}


def asking(cluster: Cluster) -> dict[str, float]:
    """CPU of the commands and of slurmctld for ASKED allocations: by one array, and by a call for each."""
    figures: dict[str, float] = {}
    pool = Pool(number=1, name="ask", scheduler="slurm", options=("--begin=now+1hour",))
    means, bundle = Means(directory=str(cluster.jobs)), "x" * BUNDLE
    for name, requests, each in (("array", 1, ASKED), ("calls", ASKED, 1)):
        calls = 0

        async def counted(argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Env = None) -> Ran:
            nonlocal calls
            calls += 1
            return await offline.run(argv, stdin, timeout, env)

        asked = Slurm(Tools(counted, offline.http, SystemClock(), SystemChance()), {"conf": str(cluster.conf)})
        handles: list[Handle] = []
        begin, usage = time.perf_counter(), _cpu(cluster)
        if each > 1:
            finished(asked.most())
        for number in range(requests):
            base = f"cpc-{name}-1-{number}"
            token = series.element(series.base(base), 0) if each > 1 else base
            facts = Allocation(token=token, pool=1, state=State.ASKED, asked_at=0.0)
            wanted = script.wanted(pool, means, facts, asked, bundles=[bundle] * each)
            natives = finished(asked.submit(wanted))
            handles += [Handle(native, wanted.token, index) for index, native in enumerate(natives)]
        figures |= {f"{name}_calls": calls, f"{name}_cpu_s": _cpu(cluster) - usage}
        figures[f"{name}_s"] = time.perf_counter() - begin
        assert len(handles) == ASKED
        finished(asked.cancel(handles))
    return figures


def _cpu(cluster: Cluster) -> float:
    """Seconds of the commands that have ended, and of slurmctld."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + cluster.cpu("slurmctld")


def starting(running: System, cluster: Cluster) -> dict[str, float]:
    """A job submitted while there is no worker, until it runs; and where that time goes: until Slurm is asked, until it has
    begun the script, until the worker has joined, and until it has the job."""
    parts: dict[str, list[float]] = {
        name: [] for name in ("to_asked_s", "slurm_s", "worker_s", "given_s", "to_running_s")
    }
    for _ in range(ONE_BY_ONE):
        job = running.submit(argv=("true",))
        running.wait(job)
        found = running.detail(job)
        (one,) = running.client.allocations(live=True)
        (worker,) = running.client.workers()
        begun = int((cluster.jobs / f"begun-{one.native}").read_text())
        assert found.started is not None
        assert worker.joined is not None
        moments = (found.submitted, one.asked, begun, worker.joined, found.started)
        for name, before, after in zip(parts, moments, moments[1:], strict=False):
            parts[name].append((after - before) / SECOND)
        parts["to_running_s"].append((found.started - found.submitted) / SECOND)
        _empty(running)
    return {name: statistics.median(values) for name, values in parts.items()}


def wasting(running: System, size: int) -> dict[str, float]:
    """Core-hours of allocations that no job used, for each that one did."""
    before = {one.id for one in running.client.allocations()}
    array = running.submit(argv=("sleep", f"{JOB_SECONDS:g}"), array=size)
    begin = time.perf_counter()
    running.wait(array)
    took = time.perf_counter() - begin
    _empty(running)
    had = sum(_had(one) for one in running.client.allocations() if one.id not in before)
    used = sum(one.wall_seconds or 0.0 for one in running.client.jobs(array=array, limit=size))
    return {"ensemble_s": took, "used_core_s": used, "had_core_s": had, "wasted_each": (had - used) / used}


def _had(one: AllocationView) -> float:
    if one.started is None or one.ended is None:
        return 0.0
    return one.cores * max(0, one.ended - one.started) / SECOND


def _empty(running: System) -> None:
    end = time.perf_counter() + PATIENCE
    while running.client.allocations(live=True):
        assert time.perf_counter() < end, "the pool does not shrink to zero"
        time.sleep(0.1)


if __name__ == "__main__":
    main(__doc__, run, 100, 1, "jobs of the ensemble")
