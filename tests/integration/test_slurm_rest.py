"""The plugin for slurmrestd on a real one: all that every scheduler promises, and tokens that are over."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from cpc.api import Refused, SeenState, Tools, Unavailable
from cpc.api.scheduler_suite import PROMISES, Rig, handles
from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.plugins.schedulers.slurm_rest import SlurmRest
from cpc.server.pools.commands import Commands
from cpc.server.pools.web import Web
from tests.helpers.slurm import Cluster, needed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed("slurmrestd")
    running = Cluster(nodes=2, rest=True)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def rig_for(cluster: Cluster, prefix: str, token: Path | None = None, **more: str) -> Rig:
    path = token or cluster.base / "token"
    if token is None and not path.exists():
        path.touch(0o600)
        path.write_text(cluster.token())
    settings = {"url": cluster.rest_url, "user": getpass.getuser(), "token_file": str(path)} | more
    return Rig(
        SlurmRest,
        Tools(Commands(reactor, cluster.env, SystemClock()), Web(reactor), SystemClock(), SystemChance()),
        wait=lambda seconds: task.deferLater(reactor, seconds),
        prefix=prefix,
        settings=settings,
        wanted={"directory": str(cluster.jobs), "memory": 50 << 20},
    )


@pytest.mark.parametrize("promise", PROMISES)
@pytest_twisted.ensureDeferred
async def test_it_keeps(promise: str, cluster: Cluster) -> None:
    rig = rig_for(cluster, f"t{list(PROMISES).index(promise)}")
    try:
        await PROMISES[promise](rig)
    finally:
        await rig.clean()


@pytest_twisted.ensureDeferred
async def test_gpus_are_of_each_node(cluster: Cluster) -> None:
    rig = rig_for(cluster, "gpus")
    scheduler = rig.make()
    wanted = rig.request("exec sleep 600", nodes=2, gpus=1)
    mine = handles(wanted, await scheduler.submit(wanted))
    await rig.until(scheduler, mine, lambda one: one.state is SeenState.RUNNING, "it runs")
    assert [(one.gpus, one.gpus_used) for one in await scheduler.nodes("batch")] == [(2, 1)] * 2
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_those_of_an_array_that_wait_are_each_seen_whichever_are_gone(cluster: Cluster) -> None:
    rig = rig_for(cluster, "wait")
    scheduler = rig.make()
    first = rig.request("exec sleep 600", nodes=2, cores=4)
    await rig.until(
        scheduler, handles(first, await scheduler.submit(first)), lambda one: one.state is SeenState.RUNNING, "it runs"
    )
    wanted = rig.request("exit 0", count=await scheduler.most(), nodes=2, cores=4)
    mine = handles(wanted, await scheduler.submit(wanted))
    await scheduler.cancel(mine[1::2])
    found = [one for one in await scheduler.adopt(wanted.token) if one.token == wanted.token]
    assert {one.handle for one in found if one.state is SeenState.WAITING} == set(mine[::2])
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_a_token_whose_time_is_over_is_named(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(cluster.token(1) + "\n")
    rig = rig_for(cluster, "old", token)
    scheduler = rig.make()
    await task.deferLater(reactor, 2.1)
    with pytest.raises(Unavailable, match="does not accept the token") as refused:
        await scheduler.adopt("old")
    assert "its time is over since" in refused.value.hint
    checks = {one.name: one for one in await scheduler.diagnose()}
    assert not checks["token"].ok
    assert "is over since" in checks["token"].words
    token.chmod(0o644)
    assert "chmod 600" in {one.name: one for one in await scheduler.diagnose()}["token mode"].hint
    token.unlink()
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        await scheduler.adopt("old")


@pytest_twisted.ensureDeferred
async def test_an_api_that_is_not_there_and_a_server_that_is_not_there_are_told_apart(cluster: Cluster) -> None:
    with pytest.raises(Refused, match="has no /slurm") as refused:
        await rig_for(cluster, "api", api="v0.0.99").make().adopt("x")
    assert "api" in refused.value.hint
    with pytest.raises(Unavailable, match="cannot be reached"):
        await rig_for(cluster, "url", url="http://127.0.0.1:1").make().submit(rig_for(cluster, "url").request("exit 0"))


@pytest_twisted.ensureDeferred
async def test_the_doctor_tells_slurmctld_from_slurmrestd(cluster: Cluster) -> None:
    scheduler = rig_for(cluster, "down").make()
    cluster.kill("slurmctld")
    bad = {one.name for one in await scheduler.diagnose() if not one.ok}
    assert bad & {"slurmctld", "slurmrestd"}
    cluster.start_controller()
    assert all(one.ok for one in await scheduler.diagnose())
