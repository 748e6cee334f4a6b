"""Seeds without end: `python -m tests.simulation.soak --seconds 600`, or one of them again: `--seed 42`. With `--wide`, each
is a network of servers, three to eight, or as many as `--servers` says; with `--dense`, the next fault comes before all have
recovered from the last one."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from tests.simulation import logs
from tests.simulation.federation import universe
from tests.simulation.federation.graphs import MANY
from tests.simulation.federation.plan import WidePlan
from tests.simulation.federation.truth import RULES
from tests.simulation.federation.universe import Universe
from tests.simulation.plan import Plan
from tests.simulation.server import given
from tests.simulation.world import World, run

Make = Callable[[int], World | Universe]

SWEEP_EVERY = 20  # worlds between garbage collections
MILLION = 1_000_000


@dataclass
class Sum:
    """What the worlds so far come to. `used`: seconds of CPU; `cores`: on so many at once."""

    first: int
    cores: int = 1
    seeds: int = 0
    jobs: int = 0
    events: int = 0
    checks: int = 0
    broken: list[int] = field(default_factory=list)
    hours: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    used: float = 0.0

    def add(self, world: World | Universe) -> None:
        """One more."""
        self.seeds += 1
        self.events += world.story.events
        self.hours += world.now / 3600
        self.faults += world.common.faults
        for realm in (world,) if isinstance(world, World) else world.sites.values():
            self.checks += realm.oracle.invariants.checks
            self.jobs += sum(len(known.jobs) for known in realm.oracle.known.values())
            self.verdicts += realm.oracle.verdicts
        if isinstance(world, Universe):
            self.decided.update(dict.fromkeys(RULES, 0) | world.decided)
        if world.broken:
            self.broken.append(world.seed)

    def merge(self, other: Sum) -> None:
        """What another process has found."""
        self.cores += other.cores
        self.began = min(self.began, other.began)
        for name in ("seeds", "jobs", "events", "checks", "broken", "hours", "faults", "verdicts", "used"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.decided.update(other.decided)  # with those that were never decided

    def report(self) -> str:
        """For people: a few lines."""
        real, used = time.monotonic() - self.began, self.used
        simulated = self.hours * 3600
        kinds = ", ".join(f"{what} {count:,}" for what, count in self.faults.most_common())
        million = MILLION * used / max(1, self.faults.total()) / 3600
        verdicts = ", ".join(f"{what} {count:,}" for what, count in self.verdicts.most_common())
        rules = ", ".join(f"{rule} {count:,} times" for rule, count in self.decided.most_common())
        decided = f"decided: {rules}\n" if rules else ""
        return (
            f"{self.seeds:,} seeds from {self.first}: {self.faults.total():,} fault events, {self.events:,} events, "
            f"{self.checks:,} whole checks, {self.jobs:,} jobs\n"
            f"{self.hours:,.1f} simulated hours in {real:,.0f} s on {self.cores} of {os.cpu_count()} cores: {used:,.0f} s of "
            "CPU, "
            f"{simulated / max(real, 1e-9):,.0f} times real time, {simulated / max(used, 1e-9):,.0f} times CPU time\n"
            f"{60 * self.faults.total() / max(used, 1e-9):,.0f} fault events in a minute of CPU, a million in {million:,.1f} "
            "hours\n"
            f"faults: {kinds or 'none'}\nverdicts: {verdicts or 'none'}\n{decided}"
            f"{len(self.broken)} broken{': seeds ' + ', '.join(map(str, self.broken)) if self.broken else ''}"
        )


def main() -> int:
    """Run; print what broke, and the sum of it all. 1 when something broke."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (default: 60)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: by the time of day)")
    parser.add_argument("--seed", type=int, default=None, help="only this one, with its whole story")
    parser.add_argument("--most", type=int, default=10**9, help="so many seeds at most")
    parser.add_argument("--every", type=float, default=0.0, help="a report each so many seconds")
    parser.add_argument("--wide", action="store_true", help="networks of many servers, in place of worlds of one")
    parser.add_argument("--servers", type=int, default=0, help="with --wide: so many in each network (default: 3 to 8)")
    parser.add_argument(
        "--shape", default="", choices=MANY, help="with --wide: how they are connected (default: by seed)"
    )
    parser.add_argument("--dense", action="store_true", help="faults upon faults, several each second")
    parser.add_argument("--jobs", type=int, default=1, help="on so many processors (default: 1)")
    chosen = parser.parse_args()
    logs.deaf()
    make = _maker(chosen.wide, chosen.dense, chosen.servers, chosen.shape)
    if chosen.seed is not None:
        code = _one(make, chosen.seed)
    else:
        first = int(time.time()) % 100_000_000 if chosen.first is None else chosen.first
        total = _side_by_side(make, first, chosen)
        print(total.report())
        code = 1 if total.broken else 0
    given().remove()
    sys.stdout.flush()
    # What killed processes say when Python collects them at its end is of no interest.
    os._exit(code)


def _one(make: Make, seed: int) -> int:
    world = make(seed)
    print(world.story.last(1_000_000))
    print(world.report() if world.broken else f"seed {seed}: nothing broke; digest {world.story.digest}")
    return 1 if world.broken else 0


def _maker(wide: bool, dense: bool, servers: int, shape: str) -> Make:
    """How a seed becomes a story."""
    if not dense:
        return partial(universe.run_many, servers, shape) if wide else run
    if not wide:
        return lambda seed: run(seed, Plan.dense(random.Random(seed + 1)))

    def network(seed: int) -> Universe:
        chance = random.Random(seed + 1)
        plan = WidePlan.of(chance, servers, shape)
        base = replace(plan.base, mean=chance.choice([0.3, 1.0]), scale=chance.choice([0.05, 0.2]), span=300.0)
        return universe.run(seed, replace(plan, base=base, peer_grace=300.0))

    return network


def _side_by_side(make: Make, first: int, chosen: argparse.Namespace) -> Sum:
    """In so many processes, each with every so manieth seed."""
    ways = []
    for number in range(1, chosen.jobs):
        here, there = os.pipe()
        if not os.fork():
            try:
                with open(there, "wb") as way:
                    pickle.dump(_many(make, first + number, chosen), way)
                given().remove()
                sys.stdout.flush()
            finally:
                os._exit(0)  # if nothing was said, the other side says so
        os.close(there)
        ways.append(here)
    total = _many(make, first, chosen)
    for way in ways:
        with open(way, "rb") as said:
            total.merge(pickle.load(said))
    return total


def _many(make: Make, first: int, chosen: argparse.Namespace) -> Sum:
    total, used = Sum(first), time.process_time()
    with contextlib.suppress(KeyboardInterrupt):
        _until(make, total, used, chosen)
    _sweep(total, chosen)
    total.used = time.process_time() - used
    return total


def _sweep(total: Sum, chosen: argparse.Namespace) -> None:
    for text in logs.unhandled():
        last = total.first + (total.seeds - 1) * chosen.jobs
        print(f"in one of the {SWEEP_EVERY} seeds up to {last} nobody heard of\n{text}", flush=True)
        total.broken.append(last)


def _until(make: Make, total: Sum, used: float, chosen: argparse.Namespace) -> None:
    end = total.began + chosen.seconds
    due = total.began + chosen.every
    while time.monotonic() < end and total.seeds * chosen.jobs < chosen.most:
        world = make(total.first + total.seeds * chosen.jobs)
        total.add(world)
        if world.broken:
            print(f"{world.report()}{' --dense' if chosen.dense else ''}", flush=True)
        del world
        if not total.seeds % SWEEP_EVERY:
            _sweep(total, chosen)
        if chosen.every and time.monotonic() >= due:
            due += chosen.every
            total.used = time.process_time() - used
            print(total.report(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
