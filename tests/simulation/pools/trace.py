"""What people submit: made from a seed, or read from a file in which one was kept."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: A week of a group's jobs as a batch system's records show them: long tails, nights, a few large arrays. Made once by
#: `python -m tests.simulation.pools.trace` and kept, so that figures can be compared.
RECORDED = Path(__file__).parent / "traces" / "week.csv"
SEED = 20261130


@dataclass(frozen=True, slots=True)
class Job:
    """`at`: when it is submitted; `seconds`: how long it runs; `walltime`: what its owner says."""

    at: float
    project: int
    cores: int
    seconds: float
    walltime: float
    checkpoints: bool = False
    program: str = ""
    gpus: int = 0
    hopeless: bool = False  # no pool has what it needs: it must cost nothing


def ensemble(chance: random.Random, members: int = 64, rounds: int = 6, hours: float = 1.0) -> list[Job]:
    """An ensemble in rounds, as adaptive sampling makes them: each round is submitted when the one before is about over."""
    jobs = []
    at = 0.0
    for _ in range(rounds):
        for _ in range(members):
            seconds = hours * 3600 * chance.uniform(0.9, 1.1)
            jobs.append(Job(at + chance.uniform(0, 30), 1, 8, seconds, 2 * hours * 3600, True, "mdrun"))
        at += hours * 3600 * 1.25
    return jobs


def steady(chance: random.Random, hours: float = 24.0, per_hour: float = 60.0) -> list[Job]:
    """Jobs at random all day, of several sizes and projects."""
    jobs = []
    at = 0.0
    while (at := at + chance.expovariate(per_hour / 3600)) < hours * 3600:
        cores = chance.choice([1, 2, 4, 8, 16])
        seconds = min(3 * 3600, 60 + chance.lognormvariate(7.2, 0.9))
        jobs.append(Job(at, chance.randint(1, 3), cores, seconds, min(4 * 3600.0, 2 * seconds + 600)))
    return jobs


def array(chance: random.Random, size: int = 2000, seconds: float = 120.0) -> list[Job]:
    """Many short jobs at once."""
    return [Job(1.0, 1, 1, seconds * chance.uniform(0.7, 1.3), 10 * seconds) for _ in range(size)]


def bursts(chance: random.Random, count: int = 8) -> list[Job]:
    """A campaign now and then, with hours of silence between."""
    jobs = []
    at = 0.0
    for _ in range(count):
        at += chance.uniform(2, 8) * 3600
        size, seconds = chance.randint(20, 120), chance.uniform(0.5, 2.0) * 3600
        cores = chance.choice([4, 16])
        jobs += [
            Job(
                at + chance.uniform(0, 300),
                chance.randint(1, 2),
                cores,
                seconds * chance.uniform(0.8, 1.2),
                2 * seconds,
            )
            for _ in range(size)
        ]
    return jobs


def week(chance: random.Random) -> list[Job]:
    """Seven days: people by day, arrays at night, log-normal run times, walltimes as people round them."""
    jobs = []
    for day in range(7):
        rate = 30 if day < 5 else 6
        at = day * 86400 + 9 * 3600.0
        while (at := at + chance.expovariate(rate / 3600)) < day * 86400 + 18 * 3600:
            seconds = min(10 * 3600.0, 30 + chance.lognormvariate(8.0, 1.2))
            limit = next(hours for hours in (1, 2, 4, 8, 12) if hours * 3600 >= seconds)
            cores = chance.choices([1, 4, 8, 16, 32], [30, 20, 20, 25, 5])[0]
            jobs.append(Job(at, chance.randint(1, 4), cores, seconds, limit * 3600.0, chance.random() < 0.5))
        if day % 2 == 0:
            seconds, night = chance.uniform(600, 5400), day * 86400 + 20 * 3600.0
            for _ in range(chance.randint(100, 400)):
                jobs.append(Job(night, 1, 4, seconds * chance.uniform(0.7, 1.3), 3 * seconds, True, "mdrun"))
    return sorted(jobs, key=lambda job: job.at)


def read(path: Path = RECORDED) -> list[Job]:
    """The jobs of a kept trace."""
    with path.open(newline="") as file:
        return [
            Job(
                float(row["at"]), int(row["project"]), int(row["cores"]), float(row["seconds"]), float(row["walltime"]),
                row["checkpoints"] == "1", row["program"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def lines(jobs: list[Job]) -> Iterator[list[str]]:
    """As they are kept."""
    yield ["at", "project", "cores", "seconds", "walltime", "checkpoints", "program"]
    for job in jobs:
        figures = [f"{job.at:.0f}", str(job.project), str(job.cores), f"{job.seconds:.0f}", f"{job.walltime:.0f}"]
        yield [*figures, str(int(job.checkpoints)), job.program]


if __name__ == "__main__":
    with RECORDED.open("w", newline="") as kept:
        csv.writer(kept, lineterminator="\n").writerows(lines(week(random.Random(SEED))))
