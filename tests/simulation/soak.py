"""Seeds without end: `python -m tests.simulation.soak --seconds 600`, or one of them again: `--seed 42`."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from tests.simulation import logs
from tests.simulation.server import given
from tests.simulation.world import World, run


def main() -> int:
    """Run; print what broke, and the sum of it all. 1 when something broke."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (default: 60)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: by the time of day)")
    parser.add_argument("--seed", type=int, default=None, help="only this one, with its whole story")
    chosen = parser.parse_args()
    try:
        if chosen.seed is not None:
            return _one(chosen.seed)
        first = int(time.time()) % 100_000_000 if chosen.first is None else chosen.first
        return _many(first, chosen.seconds)
    finally:
        logs.listen()  # also to what is collected at the very end
        given().remove()


def _one(seed: int) -> int:
    world = run(seed)
    print(world.story.last(1_000_000))
    print(world.report() if world.broken else f"seed {seed}: nothing broke; digest {world.story.digest}")
    return 1 if world.broken else 0


def _many(first: int, seconds: float) -> int:
    began = time.monotonic()
    seeds = events = broken = checks = jobs = 0
    hours = 0.0
    while time.monotonic() - began < seconds:
        world: World = run(first + seeds)
        seeds += 1
        events += world.story.events
        hours += world.now / 3600
        checks += world.oracle.checks
        jobs += sum(len(known.jobs) for known in world.oracle.known.values())
        if world.broken:
            broken += 1
            print(world.report(), flush=True)
        logs.listen()  # to what the last world's processes say when they are collected, so that nobody else does
        del world
        if not seeds % 20:
            gc.collect()
    spent = time.monotonic() - began
    print(
        f"{seeds} seeds from {first}, {jobs} jobs, {events} events, {checks} checks, {hours:.1f} simulated hours in "
        f"{spent:.0f} s ({hours * 3600 / spent:.0f} times as fast as life); {broken} broken"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
