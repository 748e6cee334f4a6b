"""Networks of up to a hundred servers, and how much they say: some have idle workers, one has jobs, most have neither.

`python -m tests.simulation.federation.crowds` tells the figures of docs/design/simulation.md; 1 when a bound is passed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cpc.core.peer import Agreement
from tests.helpers.memory_disk import Platter
from tests.simulation.federation.by_hand import QUIET, end, join, state, submit
from tests.simulation.federation.graphs import Pair, pairs, regular
from tests.simulation.federation.plain import unsecured
from tests.simulation.federation.plan import FAR, Bond, WidePlan
from tests.simulation.federation.universe import Universe
from tests.simulation.plan import ALL
from tests.simulation.server import given

IDLE = 1800.0  # seconds without work: idle homes ask each peer once in five minutes
#: Of a call that comes to nothing, because others were faster: again after 1, 2, 4, … seconds, for a minute; each home is called
#: by all ways by which it has asked.
WAVES = 8
#: For each home that is called to jobs, for as long as they last, and once more to the end of the network when there are no more:
#: in a star each is asked of the hub and of the owner.
QUESTIONS = {"mesh": 4, "star": 8}


@dataclass(frozen=True)
class Crowd:
    """`homes`: servers with an idle worker of four cores each. `owner` has the jobs. Everybody lends `lend_on` servers far."""

    name: str
    servers: int
    pairs: tuple[Pair, ...]
    homes: tuple[int, ...]
    owner: int
    lend_on: int


def crowd(name: str, servers: int, homes: int, lend_on: int = FAR) -> Crowd:
    """Servers in a mesh, a star, a chain or "random" (three links each); the last one has the jobs."""
    chance = random.Random(servers)
    found = regular(servers, 3, chance) if name == "random" else pairs(name, servers, chance)
    first = 2 if name == "star" else 1
    return Crowd(name, servers, found, tuple(range(first, first + homes)), servers, lend_on)


@contextmanager
def met(made: Crowd) -> Iterator[Universe]:
    """All are connected; the workers have not come yet."""
    workers = tuple(int(number in made.homes) for number in range(1, made.servers + 1))
    bond = Bond(0, Agreement(lend_on=made.lend_on))
    bonds = {key: bond for pair in made.pairs for key in (pair, pair[::-1])}
    plan = WidePlan(
        made.servers, made.name, made.pairs, bonds, workers, (0,) * made.servers, QUIET, {}, plain=True
    )  # fmt: skip
    with unsecured():
        universe = Universe(1, plan)
        for site in universe.sites.values():
            for worker in site.workers.values():
                worker.kind, worker.platter = ALL, Platter(universe.reactor.seconds)
        universe.trust.found()
        for site in universe.sites.values():
            site.start_server()
        while not all(universe.trust.up(*pair) for pair in made.pairs):
            universe.reactor.advance(1.0)
            assert universe.now < 120.0, universe.trust.trouble()
        yield universe
        end(universe)


def said(universe: Universe, before: Counter[str]) -> Counter[str]:
    """What came over the links since then, but for signs of life."""
    found = universe.frames - before
    del found["alive"]
    return found


def start(universe: Universe, made: Crowd) -> Counter[str]:
    """The workers come, and everybody is asked; what was said."""
    before = universe.frames.copy()
    join(universe, *(f"s{number}n1" for number in made.homes))
    universe.reactor.advance(20.0)
    return said(universe, before)


def burst(universe: Universe, made: Crowd, jobs: int, seconds: float = 5.0) -> Counter[str]:
    """So many jobs are submitted at once, and done; what was said."""
    before = universe.frames.copy()
    first = submit(universe, made.owner, "ok", f"{seconds:g}", "10", array=jobs)
    while state(universe, made.owner, first + jobs - 1) != "succeeded":
        universe.reactor.advance(1.0)
        assert universe.now < 20_000.0
    universe.reactor.advance(10.0)
    states = {state(universe, made.owner, first + index) for index in range(jobs)}
    assert states == {"succeeded"}, states
    return said(universe, before)


@dataclass(frozen=True)
class Told:
    """What was said: when the workers came, in half an hour without work, and for so many jobs at one server."""

    crowd: Crowd
    start: Counter[str]
    idle: Counter[str]
    alive: int  # signs of life in that time
    burst: Counter[str]
    jobs: int

    def wrong(self) -> list[str]:
        """Bounds that are passed."""
        return [*too_many(self.crowd, self.start, self.burst, self.jobs), *self._too_much_while_idle()]

    def _too_much_while_idle(self) -> list[str]:
        most, asked = int(IDLE / 300.0) * most_asked(self.crowd), self.idle["ask-work"]
        found = [f"{asked} questions in half an hour, at most {most}"] if asked > most else []
        other = {method: count for method, count in self.idle.items() if method not in ("ask-work", "answer")}
        return found + ([f"in half an hour without work: {other}"] if other else [])

    def __str__(self) -> str:
        made, burst = self.crowd, Counter(self.burst)
        answers = burst.pop("answer", 0)
        each = sum(burst.values()) / self.jobs
        shape = f"{made.name} of {made.servers}" + (f", lends {made.lend_on} on" if made.name == "random" else "")
        return (
            f"| {shape} | {len(made.pairs):,} | {len(made.homes)} | {self.start['ask-work']:,} | {self.idle['ask-work']:,} | "
            f"{self.alive:,} | {burst['demand']:,} | {burst['ask-work']:,} | {burst['report']:,} | {each:.2f} | {answers:,} |"
        )


def most_asked(made: Crowd) -> int:
    """Questions that one round of all homes may cost: each goes to every peer of its home, and from there over each link once;
    where there is no end for many servers, once more by each shorter way, which is about as often again. What is nearest is
    asked once more for each step that the question goes farther."""
    ends = Counter(number for pair in made.pairs for number in pair)
    if made.name == "mesh":  # whom the home asks itself, nobody else asks
        return sum(ends[home] for home in made.homes)
    ways = 2 if made.lend_on >= FAR and made.name == "random" else 1
    return sum(ends[home] * 2 * len(made.pairs) for home in made.homes) * ways


def too_many(made: Crowd, start: Counter[str], burst: Counter[str], jobs: int) -> list[str]:
    """What was said beyond what it may cost that workers come, and that they are called to so many jobs."""
    homes, links = len(made.homes), len(made.pairs)
    waves = WAVES if made.lend_on >= FAR else 1
    most = {
        "questions of workers that come": (start["ask-work"], most_asked(made)),
        "calls in them": (start["demand"], 0),
        "calls": (burst["demand"], 2 * homes if made.name in ("mesh", "star") else waves * 2 * links + 2 * homes),
        "questions": (
            burst["ask-work"],
            QUESTIONS[made.name] * homes if made.name in QUESTIONS else 2 * most_asked(made),
        ),
    }
    if made.name in ("mesh", "star"):
        most["messages"] = (sum(burst.values()) - burst["answer"], 2 * jobs + 8 * homes)
    return [f"{what}: {count}, at most {bound}" for what, (count, bound) in most.items() if count > bound]


def tell(made: Crowd, jobs: int) -> Told:
    """All of it."""
    with met(made) as universe:
        begun = start(universe, made)
        before = universe.frames.copy()
        universe.reactor.advance(IDLE)
        idle, alive = said(universe, before), universe.frames["alive"] - before["alive"]
        return Told(made, begun, idle, alive, burst(universe, made, jobs), jobs)


CROWDS = (
    crowd("mesh", 100, 1), crowd("mesh", 100, 20), crowd("star", 100, 20), crowd("random", 100, 20, 3), crowd("random", 100, 20),
    crowd("chain", 12, 1),
)  # fmt: skip


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="crowds", description=__doc__)
    parser.add_argument("rows", nargs="*", type=lambda text: CROWDS[int(text) - 1], help="only these (1, 2, …)")
    chosen = parser.parse_args()
    wrong = []
    heads = (
        "network", "links", "idle workers", "asked", "asked in half an hour", "signs of life", "calls", "asked", "reports",
        "each job", "answers", "seconds of CPU",
    )  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for made in chosen.rows or CROWDS:
        began = time.process_time()
        told = tell(made, 1000 if len(made.homes) > 1 else 100)
        print(f"{told} {time.process_time() - began:.0f} |", flush=True)
        wrong += [f"{made.name} of {made.servers}: {words}" for words in told.wrong()]
    print("\n".join(wrong))
    given().remove()
    sys.stdout.flush()
    os._exit(1 if wrong else 0)  # what a hundred servers say when Python collects them is of no interest


if __name__ == "__main__":
    main()
