"""The Slurm plugin on the bench of the scheduler suite, with a Slurm of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.internet import reactor, task

from cpc.api import Handle, Seen, SeenState, Tools
from cpc.api.scheduler_suite import Rig, handles
from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.plugins.schedulers.slurm import Slurm
from cpc.server.pools.commands import Commands
from cpc.server.pools.web import Web
from tests.helpers.slurm import Cluster


def tools(cluster: Cluster) -> Tools:
    return Tools(Commands(reactor, os.environ, SystemClock()), Web(reactor), SystemClock(), SystemChance())


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


async def submitted(rig: Rig, body: str, **more: object) -> tuple[Handle, ...]:
    wanted = rig.request(body, **more)
    return handles(wanted, await rig.make().submit(wanted))


async def running(rig: Rig, mine: Sequence[Handle]) -> tuple[Seen, ...]:
    return await rig.until(rig.make(), mine, lambda one: one.state is SeenState.RUNNING, "it runs")
