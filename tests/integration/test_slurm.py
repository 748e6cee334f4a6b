"""The Slurm plugin on a real Slurm without accounting: all that every scheduler promises, and Slurm's own bad days."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from msgspec.structs import replace as replace_struct
from twisted.internet import reactor

from cpc.api import NodeState, Refused, SeenOutcome, SeenState, Unavailable, Unsettled
from cpc.api.scheduler_suite import PROMISES, handles
from cpc.core.clock import SECOND, SystemClock
from cpc.server.pools.commands import Commands
from tests.helpers.slurm import Cluster, needed, wait_for
from tests.helpers.slurm_rig import rig_for, running, submitted


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed()
    made = Cluster(nodes=2, cloud=1, max_array=6)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("promise", PROMISES)
@pytest_twisted.ensureDeferred
async def test_it_keeps(promise: str, cluster: Cluster) -> None:
    rig = rig_for(cluster, f"t{list(PROMISES).index(promise)}")
    try:
        await PROMISES[promise](rig)
    finally:
        await rig.clean()


@pytest_twisted.ensureDeferred
async def test_a_request_becomes_what_was_asked_for(cluster: Cluster) -> None:
    rig = rig_for(cluster, "asked")
    out = cluster.jobs / "asked.out"
    mine = await submitted(
        rig, "env > $0.env; echo done; exec sleep 600", nodes=2, cores=3, memory=200 << 20, gpus=1, walltime=90, output=str(out),
        queue="low", requeue=True, lead=60, exclude=("c1",), options=("--nice=5",),
    )  # fmt: skip
    (seen,) = await running(rig, mine)
    job = cluster.command("scontrol", "show", "job", mine[0].native, "--oneliner")
    for word in (
        "Partition=low", "NumNodes=2", "CPUs/Task=3", "TimeLimit=00:02:00", "Requeue=1", "Nice=5", "MinMemoryNode=200M",
        "TresPerNode=gres:gpu:1", f"WorkDir={cluster.jobs}", f"StdOut={out}", "Comment=cpc:asked-1", "JobName=copernicus.asked-1",
    ):  # fmt: skip
        assert word in job, (word, job)
    assert seen.nodes == ("n1", "n2")
    nodes = {one.name: one for one in await rig.make().nodes("low")}
    assert [(one.cores_used, one.memory_used >> 20, one.gpus, one.gpus_used) for one in nodes.values()] == [
        (3, 200, 2, 1)
    ] * 2
    await rig.clean()
    assert out.read_text().splitlines()[0] == "done"


@pytest_twisted.ensureDeferred
async def test_nothing_of_the_servers_environment_reaches_a_job(cluster: Cluster) -> None:
    rig = rig_for(cluster, "clean")
    out = cluster.jobs / "env.out"
    secret = dict(os.environ) | {"CPC_SERVER_KEY": "secret", "SBATCH_PARTITION": "low", "SSH_AUTH_SOCK": "/x"}
    rig.tools = replace(rig.tools, run=Commands(reactor, secret, SystemClock()))
    (end,) = await rig.ended(rig.make(), await submitted(rig, "env; sinfo --version", output=str(out)))
    assert end.outcome is SeenOutcome.OK
    names = {line.partition("=")[0] for line in out.read_text().splitlines()}
    assert "SLURM_JOB_ID" in names
    assert not names & {"CPC_SERVER_KEY", "SSH_AUTH_SOCK", "LC_ALL", "SBATCH_PARTITION"}
    assert "SLURM_JOB_PARTITION=batch" in out.read_text()


@pytest_twisted.ensureDeferred
async def test_the_script_is_told_before_it_is_ended(cluster: Cluster) -> None:
    rig = rig_for(cluster, "term")
    out = cluster.jobs / "term.out"
    body = f'trap "echo told >> {out}; exit 0" TERM\necho up >> {out}\nwhile :; do sleep 0.1; done'
    mine = await submitted(rig, body)
    await running(rig, mine)
    wait_for(out.exists, "the script runs")
    await rig.make().cancel(mine)
    await rig.ended(rig.make(), mine)
    wait_for(lambda: "told" in out.read_text(), "the script was told")


@pytest_twisted.ensureDeferred
async def test_every_node_runs_a_command_and_steps_of_jobs_find_room_beside_it(cluster: Cluster) -> None:
    rig = rig_for(cluster, "each")
    wanted = rig.request("", nodes=2, cores=2, gpus=2)
    each = rig.make().on_every_node(wanted)
    out = cluster.jobs / "each"
    step = f"srun --exact -n1 -c2 -w $SLURMD_NODENAME true > {out}.step"
    inner = f"echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES > {out}.$SLURM_NODEID; test $SLURM_NODEID = 1 || {step}"
    wanted = replace_struct(wanted, script=f"#!/bin/sh\n{each} sh -c '{inner}'\n")
    (end,) = await rig.ended(rig.make(), handles(wanted, await rig.make().submit(wanted)))
    assert end.outcome is SeenOutcome.OK, end
    assert sorted(path.name for path in cluster.jobs.glob("each.*")) == ["each.0", "each.1", "each.step"]
    told = [Path(f"{out}.{number}").read_text() for number in (0, 1)]
    assert told == ["n1 0,1\n", "n2 0,1\n"], "the GPUs of its node"


@pytest_twisted.ensureDeferred
async def test_nobody_but_its_owner_reads_what_an_array_knows(cluster: Cluster) -> None:
    rig = rig_for(cluster, "hush")
    secret = f"hush-{os.urandom(8).hex()}"
    mine = await submitted(rig, f": {secret}; exec sleep 600", count=3, requeue=True)
    await running(rig, mine)
    holding = [path for path in cluster.base.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert {path.name for path in holding} >= {"script", "slurm_script"}, "the controller's, and the nodes'"
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                assert secret.encode() not in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes(), entry
    assert secret in cluster.command("scontrol", "write", "batch_script", mine[1].native, "-")
    if os.getuid() == 0:
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for path in holding:
            read = subprocess.run([*nobody, "cat", str(path)], capture_output=True, env=cluster.env, check=False)
            assert read.returncode != 0, path
        asked = [*nobody, "scontrol", "write", "batch_script", mine[1].native, "-"]
        told = subprocess.run(asked, capture_output=True, env=cluster.env, check=False)
        assert secret.encode() not in told.stdout
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_one_of_an_array_starts_again_by_itself_and_the_others_run_on(cluster: Cluster) -> None:
    rig = rig_for(cluster, "again")
    out = cluster.jobs / "again.out"
    body = f"echo $CPC_ALLOCATION_INDEX $CPC_ALLOCATION_RESTARTS >> {out}; exec sleep 600"
    first, second, third = mine = await submitted(rig, body, count=3, requeue=True)
    await running(rig, mine)
    cluster.command("scontrol", "requeue", second.native)
    (seen,) = await rig.until(rig.make(), [second], lambda one: one.restarts == 1, "it was requeued")
    assert seen.handle == second
    await rig.until(
        rig.make(), [second], lambda one: one.state is SeenState.RUNNING and one.restarts == 1, "it runs again"
    )
    wait_for(lambda: sorted(out.read_text().splitlines()) == ["0 0", "1 0", "1 1", "2 0"], "it knows that it did")
    still = await rig.make().poll([first, third])
    assert [(one.state, one.restarts) for one in still] == [(SeenState.RUNNING, 0)] * 2
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_how_large_arrays_may_be_is_asked_of_slurm(cluster: Cluster) -> None:
    rig = rig_for(cluster, "large")
    held = ("--begin=now+1hour",)
    most = await rig.make().most()
    assert most == 6
    with pytest.raises(Refused, match="Invalid job array specification"):
        await rig.make().submit(rig.request("exit 0", count=most + 1, options=held))
    mine = await submitted(rig, "exit 0", count=most, options=held)
    await rig.make().cancel(mine[1:3])  # those that wait are one line to Slurm, whatever is left of them
    left = [one for one in await rig.make().adopt("large") if one.state is SeenState.WAITING]
    assert [one.handle for one in left] == [mine[0], *mine[3:]]
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_what_runs_on_every_node_is_told_to_end_and_that_of_others_of_the_array_is_not(cluster: Cluster) -> None:
    rig = rig_for(cluster, "tell")
    out = cluster.jobs / "tell"
    body = 'trap "echo told; exit 0" TERM; while :; do sleep 0.05; done'
    wanted = rig.request("", nodes=2, count=2)
    each = rig.make().on_every_node(wanted)
    # The last of an array has the array's own number.
    text = (
        f"#!/bin/sh\n{each} sh -c 'echo up; {body}' > {out}.$CPC_ALLOCATION_INDEX &\n"
        f"while [ ! -e {out}.go$CPC_ALLOCATION_INDEX ]; do sleep 0.05; done\n{rig.make().end_every_node()}\nwait\n"
    )
    wanted = replace_struct(wanted, script=text)
    mine = handles(wanted, await rig.make().submit(wanted))
    paths = [Path(f"{out}.{index}") for index in range(2)]
    wait_for(lambda: [path.exists() and path.read_text() for path in paths] == ["up\nup\n"] * 2, "they run")
    Path(f"{out}.go1").touch()
    (end,) = await rig.ended(rig.make(), mine[1:])
    assert (end.outcome, paths[1].read_text()) == (SeenOutcome.OK, "up\nup\ntold\ntold\n")
    assert paths[0].read_text() == "up\nup\n"
    Path(f"{out}.go0").touch()
    (end,) = await rig.ended(rig.make(), mine[:1])
    assert (end.outcome, paths[0].read_text()) == (SeenOutcome.OK, "up\nup\ntold\ntold\n")


@pytest_twisted.ensureDeferred
async def test_what_waits_says_why_and_what_can_never_start_is_stuck(cluster: Cluster) -> None:
    rig = rig_for(cluster, "wait")
    held = await submitted(rig, "exit 0", options=("--begin=now+1hour",))
    never = await submitted(rig, "exit 0", nodes=99)
    scheduler = rig.make()
    (seen,) = await rig.until(scheduler, held, lambda one: one.reason == "BeginTime", "it says why")
    assert (seen.state, seen.stuck) == (SeenState.WAITING, False)
    (seen,) = await rig.until(scheduler, never, lambda one: one.stuck, "it is stuck")
    assert "PartitionConfig" in seen.reason or "PartitionNodeLimit" in seen.reason
    cluster.command("scontrol", "hold", held[0].native)
    (seen,) = await rig.until(scheduler, held, lambda one: one.stuck, "it is held")
    assert "JobHeld" in seen.reason
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_somebody_elses_strange_names_do_not_disturb(cluster: Cluster) -> None:
    rig = rig_for(cluster, "strange")
    cluster.command("sbatch", "-H", "--job-name=a\nb\x1fc.strange-9", "--comment=x\x1fcpc:strange-8", "--wrap=true")
    mine = await submitted(rig, "exec sleep 600")
    await running(rig, mine)
    assert [one.handle for one in await rig.make().adopt("strange")] == list(mine)
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_walltimes_accounts_and_sizes_that_cannot_be_are_found_before_anything_is_asked(cluster: Cluster) -> None:
    rig = rig_for(cluster, "check")
    scheduler = rig.make()
    for more, name, words in (
        ({"queue": "low", "walltime": 7200}, "walltime", "120 min are more than the 60 min of partition low"),
        ({"nodes": 5}, "size", "5 nodes are more than the 2 that partition batch gives"),
        ({"nodes": 2, "cores": 5}, "size", "10 cores are more than the 8 of partition batch"),
        ({"memory": 1 << 40}, "request", "configuration is not available"),
        ({"gpus": 9}, "request", "configuration is not available"),
        ({"options": ("--constraint=nofeature",)}, "request", "Invalid feature specification"),
        ({"queue": "nosuch"}, "partition", "nosuch"),
    ):
        bad = {one.name: one for one in await scheduler.check(rig.request("exit 0", **more)) if not one.ok}
        assert words in bad[name].words, (more, bad)
        assert bad[name].hint
    assert await scheduler.adopt("check") == ()
    cluster.command("scontrol", "update", "PartitionName=low", "State=DOWN")
    bad = {one.name: one for one in await scheduler.check(rig.request("exit 0", queue="low")) if not one.ok}
    assert "is DOWN" in bad["partition"].words
    cluster.command("scontrol", "update", "PartitionName=low", "State=UP")


@pytest_twisted.ensureDeferred
async def test_a_sleeping_node_is_off_and_starts_for_an_allocation(cluster: Cluster) -> None:
    rig = rig_for(cluster, "cloud")
    scheduler = rig.make()
    (node,) = await scheduler.nodes("cloud")
    assert node.state is NodeState.OFF
    assert "POWERED_DOWN" in node.flags
    mine = await submitted(rig, "exec sleep 600", queue="cloud")
    (seen,) = await rig.until(scheduler, mine, lambda one: one.state is SeenState.CONFIGURING, "its node starts")
    assert (seen.outcome, seen.nodes) == (None, ("c1",))
    (node,) = await scheduler.nodes("cloud")
    assert node.state is NodeState.STARTING
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_the_preempted_wait_again_and_know_it(cluster: Cluster) -> None:
    rig = rig_for(cluster, "preempt")
    scheduler = rig.make()
    out = cluster.jobs / "preempt.out"
    body = f"echo $CPC_ALLOCATION_RESTARTS >> {out}; exec sleep 600"
    low = await submitted(rig, body, queue="low", requeue=True, cores=4)
    gone = await submitted(rig, "exec sleep 600", queue="low", cores=4)
    await running(rig, [*low, *gone])
    high = await submitted(rig, "exit 0", nodes=2, cores=4)
    (seen,) = await rig.ended(scheduler, gone)
    assert seen.outcome is SeenOutcome.PREEMPTED
    (seen,) = await rig.until(scheduler, low, lambda one: one.restarts == 1, "it was requeued")
    assert seen.outcome is None
    await rig.ended(scheduler, high)
    await rig.until(scheduler, low, lambda one: one.state is SeenState.RUNNING and one.restarts == 1, "it runs again")
    wait_for(lambda: out.read_text() == "0\n1\n", "the script knows that it was restarted")
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_a_dead_node_is_seen_and_one_that_comes_back_loses_its_old_job(cluster: Cluster) -> None:
    rig = rig_for(cluster, "death")
    scheduler = rig.make()
    ticks = cluster.jobs / "ticks"
    dead = await submitted(rig, "exec sleep 600", options=("--nodelist=n1",))
    again = await submitted(rig, "exec sleep 600", options=("--nodelist=n1",), requeue=True)
    lives = await submitted(rig, f"while :; do echo >> {ticks}; sleep 0.1; done", options=("--nodelist=n2",))
    await running(rig, [*dead, *again, *lives])
    cluster.kill_node("n1")
    cluster.kill("n2")  # it is only cut off: what runs there runs on
    ends = await rig.ended(scheduler, [*dead, *lives])
    assert [(one.outcome, one.nodes) for one in ends] == [
        (SeenOutcome.NODE_FAILED, ("n1",)), (SeenOutcome.NODE_FAILED, ("n2",))
    ]  # fmt: skip
    (seen,) = await rig.until(scheduler, again, lambda one: one.state is SeenState.WAITING, "it waits again")
    assert seen.restarts == 1
    for node in await scheduler.nodes("batch"):
        assert (node.state, node.memory_free) == (NodeState.DOWN, -1)
    size = ticks.stat().st_size
    wait_for(lambda: ticks.stat().st_size > size, "the old job runs on")
    await scheduler.cancel(again)
    cluster.start_node("n1")
    cluster.start_node("n2")
    wait_for(lambda: cluster.idle() == 2, "the nodes are back")
    wait_for(lambda: not list(cluster.processes("n2")), "the old job was ended")


@pytest_twisted.ensureDeferred
async def test_a_controller_killed_right_after_a_submission_is_settled_by_adopt(cluster: Cluster) -> None:
    rig = rig_for(cluster, "killed")
    old = await submitted(rig, "exec sleep 600")
    await running(rig, old)
    wanted = rig.request("exec sleep 600", count=2)
    scheduler = rig.make()
    natives = await scheduler.submit(wanted)
    cluster.kill("slurmctld")
    with cluster.changed("MessageTimeout", 1):
        with pytest.raises(Unavailable, match="controller"):
            await scheduler.poll(old)
        with pytest.raises(Unavailable) as refused:
            await scheduler.submit(rig.request("exit 0"))
        assert not isinstance(refused.value, Unsettled)
        assert {one.name for one in await scheduler.diagnose() if not one.ok} == {"slurmctld"}
    cluster.start_controller()
    found = {(one.token, one.index): one for one in await scheduler.adopt("killed")}
    # Slurm may have kept each or lost it; it may not be two, and it may not be somebody else.
    mine = handles(wanted, natives)
    for seen in await scheduler.poll(mine):
        assert ((seen.token, seen.index) in found) == (seen.outcome is None), (found, seen)
    assert found.keys() <= {(one.token, one.index) for one in (*mine, *old)}
    other = await submitted(rig, "exec sleep 600")  # it may get the number of one that was lost
    for seen in await scheduler.poll([*mine, *other]):
        assert seen.token in (wanted.token, other[0].token)
        if seen.token == other[0].token:
            assert seen.outcome is None
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_the_doctor_names_munge(cluster: Cluster) -> None:
    scheduler = rig_for(cluster, "munge").make()
    cluster.kill("munged")
    (cluster.base / "munge" / "socket").unlink()
    try:
        bad = {one.name: one for one in await scheduler.diagnose() if not one.ok}
        assert "munged" in bad["munge"].hint
        with pytest.raises(Unavailable, match="munge"):
            await scheduler.adopt("munge")
    finally:
        cluster.start_munge()
    assert all(one.ok for one in await scheduler.diagnose())


@pytest_twisted.ensureDeferred
async def test_the_doctor_names_a_key_of_munge_that_is_not_the_clusters(cluster: Cluster) -> None:
    scheduler = rig_for(cluster, "key").make()
    with cluster.other_munge() as socket, cluster.changed("AuthInfo", f"socket={socket}"):
        bad = {one.name: one for one in await scheduler.diagnose() if not one.ok}
        with pytest.raises(Unavailable, match="Zero Bytes") as refused:
            await scheduler.adopt("key")
    assert list(bad) == ["munge"], "what depends on it is not said to be wrong as well"
    assert "munge.key" in bad["munge"].hint
    assert "munge.key" in refused.value.hint


@pytest_twisted.ensureDeferred
async def test_the_doctor_names_clocks_that_differ(cluster: Cluster) -> None:
    rig = rig_for(cluster, "clock")
    assert all(one.ok for one in await rig.make().diagnose())
    for shift, words in ((-3600 * SECOND, "differ by 3"), (61 * SECOND, "differ by ")):
        rig.tools = replace(rig.tools, clock=Shifted(shift))
        bad = {one.name: one for one in await rig.make().diagnose() if not one.ok}
        assert list(bad) == ["clocks"]
        assert words in bad["clocks"].words
        assert "NTP" in bad["clocks"].hint


class Shifted(SystemClock):
    """A clock that is set wrongly."""

    def __init__(self, shift: int) -> None:
        self._shift = shift

    def now(self) -> int:
        return super().now() + self._shift
