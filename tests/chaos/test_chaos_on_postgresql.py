"""Ten faults on real processes, with a PostgreSQL that is killed, frozen and restarted as well."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.run import run

FAULTS = (
    "kill the database", "freeze the database", "stop and start the database", "kill the server twice",
    "freeze a worker", "kill a worker with guardian and keeper", "fill the disk of the server",
    "the server vanishes from the network", "drain and resume", "cancel a job",
)  # fmt: skip


def test_nothing_is_lost_blamed_or_left_behind(tmp_path: Path) -> None:
    print(run(tmp_path, "postgresql", seed=1, cycles=10, faults=FAULTS))
