"""P1: the autoscaler's node-hours beside those of an oracle that knows the trace, at equal waiting time. Simulated.

Every trace on a batch system where allocations start at once (`quick`), on a busy one (half of them wait more than 15 min),
and on one that is busy by day. The oracle has every job begin when it did with us (so waiting is equal, job by job), has a
node ready the second a job needs it, gives it back the second it is empty, and puts jobs on nodes knowing when each ends.
The bound is what nobody can do: an oracle that also moves running jobs between nodes. Aim: 1.1 × the oracle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each trace (default 5)")
    parser.add_argument("--traces", nargs="*", default=list(scenario.TRACES), help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not given.json:
        print(f"P1 autoscaler: node-hours, medians of seeds 1 to {given.seeds} (least and most of the ratio)")
        print(
            "  trace      system     ours   oracle  ours/oracle            ours/bound  waited  allocations", flush=True
        )
    rows, every = [], []
    for trace, wait in itertools.product(given.traces, scenario.WAITS):
        runs = [once(trace, wait, seed) for seed in range(1, given.seeds + 1)]
        every += runs
        ratios = sorted(run.ratio for run in runs)
        rows.append({"trace": trace, "wait": wait, "ratios": ratios})
        if not given.json:
            middle = {name: statistics.median(getattr(run, name) for run in runs) for name in Figures.__slots__}
            spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
            bound = statistics.median(run.ours / run.bound for run in runs)
            figures = (
                f"{middle['ours']:8.1f} {middle['oracle']:8.1f}  {spread:22} {bound:9.3f} {middle['waited']:6.0f}s"
            )
            print(f"  {trace:10} {wait:6} {figures} {middle['allocations']:12.0f}", flush=True)
    middle_ratio = statistics.median(run.ratio for run in every)
    together = sum(run.ours for run in every) / sum(run.oracle for run in every)
    if given.json:
        print(json.dumps({"median": middle_ratio, "all": together, "rows": rows}))
        return
    print(f"  median of {len(every)} runs {middle_ratio:.3f}; all node-hours together {together:.3f}")
    print(f"  one decision with 1,000 allocations and 100 classes: {decision_ms(1000, 100):.0f} ms of CPU")


if __name__ == "__main__":
    main()
