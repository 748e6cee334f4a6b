"""P1: the autoscaler's node-hours beside those of an oracle that knows the trace, at equal waiting time. Simulated.

Every trace on a batch system where allocations start at once (`quick`), on a busy one (half of them wait more than 15 min),
and on one that is busy by day. The oracle has every job begin when it did with us (so waiting is equal, job by job), has a
node ready the second a job needs it, gives it back the second it is empty, and puts jobs on nodes knowing when each ends.
The bound is what nobody can do: an oracle that also moves running jobs between nodes. Aim: 1.1 × the oracle.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from dataclasses import dataclass

from benchmarks.report import Options, Table
from cpc.pools.allocation import State
from tests.helpers.pools import allocation, deciding, demand, pool, worker
from tests.simulation.pools import oracle, scenario

CORES = 32


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run: node-hours, mean seconds of waiting, allocations."""

    ours: float
    oracle: float
    bound: float
    waited: float
    allocations: int

    @property
    def ratio(self) -> float:
        """Of the oracle's node-hours."""
        return self.ours / self.oracle


def once(trace: str, wait: str, seed: int) -> Figures:
    """One run to its end, without faults."""
    jobs = scenario.TRACES[trace](random.Random(seed))
    world = scenario.build(scenario.plain(jobs, wait, CORES), seed)
    world.run(60 * 86400.0)
    assert world.done
    assert not world.alive
    return Figures(
        ours=world.batches[1].node_seconds() / 3600,
        oracle=oracle.packing(world.intervals, CORES) / 3600,
        bound=oracle.node_seconds(world.intervals, {1: CORES}) / 3600,
        waited=statistics.mean(task.began - task.job.at for task in world.tasks),
        allocations=len(world.asked),
    )


def decision_ms(allocations: int, classes: int) -> float:
    """CPU of one decision, the median of five, with so many allocations, half of them running, and classes that wait."""
    half = allocations // 2
    ones = [allocation(f"r{n}", state=State.RUNNING, joined=1, used=True) for n in range(half)]
    ones += [allocation(f"w{n}") for n in range(allocations - half)]
    workers = [worker(f"r{n}", free=n % 3, number=n) for n in range(half)]
    wanted = [demand(40, cores=1 + n % 16, project=n, walltime=600.0 + n) for n in range(classes)]
    large = pool(max_allocations=0, backlog=10 * allocations)
    times = []
    for _ in range(5):
        begin = time.process_time()
        deciding([large], wanted, ones, workers)
        times.append(time.process_time() - begin)
    return statistics.median(times) * 1e3


def run(options: Options) -> Table:
    """`size` of the traces, `runs` seeds: what part of the oracle's node-hours, by trace and system and for all together."""
    table = Table(f"P1 autoscaler, node-hours of the oracle's, {options.size} traces")
    for seed in range(1, options.runs + 1):
        found = {pair: once(*pair, seed) for pair in _pairs(options.size)}
        ratios = {f"{trace}_{wait}": figures.ratio for (trace, wait), figures in found.items()}
        table.add(**ratios, all=_together(list(found.values())))
    return table


def _pairs(size: int) -> list[tuple[str, str]]:
    return list(itertools.product(list(scenario.TRACES)[:size], scenario.WAITS))


def _together(every: list[Figures]) -> float:
    return sum(each.ours for each in every) / sum(each.oracle for each in every)


def show(size: int, seeds: int) -> None:
    """Print all of it, line by line."""
    print(f"P1 autoscaler: node-hours, medians of seeds 1 to {seeds} (least and most of the ratio)")
    print("  trace      system     ours   oracle  ours/oracle            ours/bound  waited  allocations", flush=True)
    every: list[Figures] = []
    for trace, wait in _pairs(size):
        runs = [once(trace, wait, seed) for seed in range(1, seeds + 1)]
        every += runs
        ratios = sorted(each.ratio for each in runs)
        middle = {name: statistics.median(getattr(each, name) for each in runs) for name in Figures.__slots__}
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
        bound = statistics.median(each.ours / each.bound for each in runs)
        figures = f"{middle['ours']:8.1f} {middle['oracle']:8.1f}  {spread:22} {bound:9.3f} {middle['waited']:6.0f}s"
        print(f"  {trace:10} {wait:6} {figures} {middle['allocations']:12.0f}", flush=True)
    median = statistics.median(each.ratio for each in every)
    print(f"  median of {len(every)} runs {median:.3f}; all node-hours together {_together(every):.3f}")
    for allocations, classes in ((100, 20), (1000, 100)):
        cpu = decision_ms(allocations, classes)
        print(f"  one decision with {allocations} allocations and {classes} classes: {cpu:.0f} ms of CPU")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    most = len(scenario.TRACES)
    parser.add_argument(
        "-n", "--size", type=int, default=most, help=f"how many traces, of {', '.join(scenario.TRACES)}"
    )
    parser.add_argument("--runs", type=int, default=5, help="seeds (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.json:
        run(Options(given.size, given.runs)).show(as_json=True)
    else:
        show(given.size, given.runs)


if __name__ == "__main__":
    main()
