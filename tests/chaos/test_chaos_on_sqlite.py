"""Ten faults on real processes. `make soak` has two hundred; `python -m tests.chaos` as many as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.helpers.mounts import Mount

FAULTS = (
    "kill the server", "freeze the server", "kill a worker", "kill a guardian", "fill the disk of the server",
    "fill the disk of a worker", "cut uploads", "stall the network of a worker", "backup while it runs",
    "answers are lost",
)  # fmt: skip


def test_nothing_is_lost_blamed_or_left_behind(tmp_path: Path) -> None:
    print(run(tmp_path, "sqlite", seed=1, cycles=10, faults=FAULTS))


def test_full_disks_are_among_the_faults(tmp_path: Path) -> None:
    """Else the runs go without them, and this says so."""
    mount = Mount(tmp_path, 1 << 20)
    if mount.why_not:
        pytest.skip(f"the faults of full disks are left out of the chaos: {mount.why_not}")
    mount.close()
