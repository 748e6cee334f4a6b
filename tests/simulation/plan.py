"""How a world is made: its size, its people, and what may go wrong in it; by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulation.network import Faults
from tests.simulation.workers import Kind

ALL = Kind(cores=4, memory=8 << 30, labels=("fast", "any"), programs=(("sim", "1.0"), ("sim", "2.5")))
KINDS = (
    ALL,
    Kind(cores=1, memory=1 << 30),
    Kind(cores=16, memory=4 << 30, programs=(("sim", "1.0"),)),
    Kind(cores=4, memory=3 * (1 << 30) + 100 * (1 << 20), project="p", labels=("fast",)),
    Kind(cores=8, memory=8 << 30, cores_per_job=2, programs=(("sim", "2.0"),)),
    Kind(cores=4, memory=8 << 30, time_left=900.0),
    Kind(cores=4, memory=8 << 30, time_left=25.0),  # an allocation that ends almost at once, again and again
)
NO_FAULTS = Faults()
DAY = 86400.0
NETWORKS = 0.06  # of the seeds


@dataclass(frozen=True)
class Plan:
    """How a world is made. Seconds.

    `mean`: between faults. `scale`: of how long outages and jobs take. `also`: kinds of jobs beside the usual ones. `slow`:
    workers' disks take time. `keep`: how long finished submissions are kept, 0 for ever. `certificate_time`: of workers'
    certificates.
    """

    span: float = 600.0
    workers: int = 3
    clients: int = 2
    actions: int = 8
    mean: float = 60.0
    scale: float = 1.0
    heartbeat_time: float = 60.0
    checkpoint_interval: float = 45.0
    patience: float = 120.0
    lost_replies: float = 0.05
    probe_every: float = 20.0
    check_every: int = 1  # commits
    certificate_time: float = 30 * DAY
    keep: float = 0.0
    slow: bool = False
    forgetful: bool = False  # people forget submissions, and delete projects
    restores: bool = False
    revokes: bool = False
    mixed: bool = False  # releases older and newer than this one
    networks: bool = False  # somebody has a project with a network
    also: tuple[str, ...] = ()
    faults: Faults = NO_FAULTS

    @classmethod
    def of(cls, chance: random.Random) -> Plan:
        """By seed: calm and stormy worlds."""
        storm = chance.choice([0.0, 0.0, 0.001, 0.004])
        also = [
            kind for kind, how_often in (("poison", 0.2), ("big", 0.15), ("grow", 0.15)) if chance.random() < how_often
        ]
        made = cls(
            span=chance.choice([200.0, 400.0, 700.0]),
            workers=chance.choice([1, 2, 3, 4]),
            clients=chance.choice([1, 2]),
            actions=chance.choice([6, 12, 20]),
            mean=chance.choice([1.0, 3.0, 12.0, 30.0, 80.0]),
            lost_replies=chance.choice([0.0, 0.05, 0.3]),
            certificate_time=chance.choice([30 * DAY, 30 * DAY, 240.0]),
            keep=chance.choice([0.0, 0.0, 0.0, 90.0]),
            slow=chance.random() < 0.5,
            forgetful=chance.random() < 0.3,
            restores=chance.random() < 0.2,
            revokes=chance.random() < 0.25,
            mixed=chance.random() < 0.3,
            also=tuple(also),
            faults=Faults(cut=storm, stall=storm, stall_time=chance.choice([2.0, 40.0])),
        )
        return replace(made, networks=chance.random() < NETWORKS)

    @classmethod
    def dense(cls, chance: random.Random) -> Plan:
        """By seed: a world in which the next fault comes before all have recovered from the last one, several each second."""
        storm = chance.choice([0.0, 0.0, 0.004, 0.02])
        return replace(
            cls.of(chance),
            span=chance.choice([150.0, 300.0]),
            workers=chance.choice([2, 3, 5]),
            clients=2,
            actions=chance.choice([10, 20]),
            mean=chance.choice([0.1, 0.3, 0.6]),
            scale=chance.choice([0.01, 0.05]),
            heartbeat_time=chance.choice([9.0, 20.0]),
            checkpoint_interval=6.0,
            patience=30.0,
            faults=Faults(cut=storm, stall=storm, stall_time=chance.choice([0.5, 5.0])),
        )
