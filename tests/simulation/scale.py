"""A world of many workers, and how much faster than real time it runs: `python -m tests.simulation.scale --workers 1000`.

Everything is production code as in the other worlds: agents, spools, TLS, the store. Every worker runs one job after the
other; faults come at the usual pace. Invariants are checked whole every so many commits, because they cost by the number of
jobs; what each event changes is glanced at.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time

from cpc.core.spec import JobSpec
from tests.helpers.memory_disk import Platter
from tests.simulation import logs
from tests.simulation.plan import ALL, Plan
from tests.simulation.server import given
from tests.simulation.world import World


def build(workers: int, beat: float, faults: float) -> World:
    """The world with its server, before anybody has joined. `beat`: the heartbeat time; `faults`: seconds between two."""
    plan = Plan(
        span=1e9, workers=workers, clients=0, mean=faults, lost_replies=0.0, heartbeat_time=beat, checkpoint_interval=900.0,
        probe_every=60.0, check_every=1000,
    )  # fmt: skip
    world = World(1, plan)
    for worker in world.workers.values():
        worker.kind, worker.platter = ALL, Platter(world.reactor.seconds)
    world.start_server()
    world.until(lambda: world.server is not None and world.server.ready)
    return world


def main() -> int:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated, after all have joined (default: 10)")
    parser.add_argument("--job", type=float, default=600.0, help="seconds that a job takes (default: 600)")
    parser.add_argument(
        "--heartbeat", type=float, default=120.0, help="the heartbeat time (default: 120, as installed)"
    )
    parser.add_argument("--faults", type=float, default=30.0, help="seconds between faults (default: 30)")
    chosen = parser.parse_args()
    logs.deaf()
    began = time.process_time()
    world = build(chosen.workers, chosen.heartbeat, chosen.faults)
    for worker in world.workers.values():
        world.reactor.callLater(world.chance.uniform(0.0, 30.0), worker.start)
    while not all(world.joined(name) for name in world.workers):
        world.reactor.advance(1.0)
    joined = time.process_time()
    # More jobs than will end, in submissions of a hundred, so that the queue is never empty.
    for _ in range(int(chosen.workers * (1 + chosen.minutes * 60 / chosen.job) / 100) + 1):
        world.submit(JobSpec(argv=("run", "ok", f"{chosen.job:g}", "1000"), array=100, max_losses=1000))
    gc.collect()
    gc.freeze()
    at, steps, jobs = world.now, world.reactor.steps, world.oracle.verdicts.total()
    used, real = time.process_time(), time.monotonic()
    world.chaos.start()
    world.steps(chosen.minutes * 60)
    used, real = time.process_time() - used, time.monotonic() - real
    simulated = world.now - at
    events, faults = world.reactor.steps - steps, world.faults.total()
    each = 1000 * (joined - began) / chosen.workers
    print(f"{chosen.workers:,} workers joined: {joined - began:.1f} s of CPU, {each:.1f} ms each")
    print(
        f"{simulated / 60:.1f} simulated minutes, {world.oracle.verdicts.total() - jobs:,} results, {faults:,} fault events, "
        f"{events:,} events in {used:.1f} s of CPU on one of {os.cpu_count()} cores: {1e6 * used / max(1, events):.0f} µs each, "
        f"{simulated / used:,.0f} times CPU time, {simulated / real:,.0f} times real time; {len(world.broken)} broken"
    )
    for line in world.broken:
        print(line)
    code = 1 if world.broken else 0
    given().remove()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
