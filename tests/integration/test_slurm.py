"""The Slurm plugin on a real Slurm without accounting: all that every scheduler promises, and Slurm's own bad days."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from cpc.api.scheduler import Tools
from cpc.api.scheduler_suite import PROMISES, Rig
from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.plugins.schedulers.slurm import Slurm
from cpc.server.pools.commands import Commands
from cpc.server.pools.web import Web
from tests.helpers.slurm import Cluster, needed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed()
    running = Cluster(nodes=2, cloud=1)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def tools(cluster: Cluster) -> Tools:
    return Tools(Commands(reactor, os.environ), Web(reactor), SystemClock(), SystemChance())


def rig_for(cluster: Cluster, prefix: str) -> Rig:
    return Rig(
        Slurm,
        tools(cluster),
        wait=lambda seconds: task.deferLater(reactor, seconds),
        prefix=prefix,
        settings={"conf": str(cluster.conf)},
        wanted={"directory": str(cluster.jobs), "memory": 50 << 20},
        node="n2",
    )


@pytest.mark.parametrize("promise", PROMISES)
@pytest_twisted.ensureDeferred
async def test_it_keeps(promise: str, cluster: Cluster) -> None:
    rig = rig_for(cluster, f"t{list(PROMISES).index(promise)}")
    try:
        await PROMISES[promise](rig)
    finally:
        await rig.clean()
