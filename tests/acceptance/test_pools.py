"""Pools on a real Slurm: a project with an empty pool grows, loses its controller and a node, finishes, and leaves nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpc.core.pool_views import AllocationView
from tests.acceptance.conftest import Make
from tests.helpers.network_of_processes import Answer, Network, until
from tests.helpers.slurm import Cluster, needed

JOBS = 200
LIMIT = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed()
    running = Cluster(nodes=3)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def lab(cluster: Cluster, make_network: Make) -> Network:
    """A server whose only workers come from Slurm."""
    network = make_network(heartbeat_time="20")
    add(network, cluster, "hpc").done()
    return network


@pytest.fixture
def ready(lab: Network) -> Network:
    """Whatever went wrong before, the pool is not left alone because of it."""
    lab.cpcc("pool", "resume", "hpc").done()
    return lab


def add(network: Network, cluster: Cluster, name: str, *more: str) -> Answer:
    return network.cpcc(
        "pool", "add", name, "slurm", f"conf={cluster.conf}", "--cores", "2", "--memory", "100M", "--walltime", "20m",
        "--max-allocations", str(LIMIT), "--idle", "5s", "--worker", str(network.bin / "cpc-worker"),
        "--directory", str(cluster.jobs), "--work", str(cluster.jobs / "work"), "--output", str(cluster.jobs / "%j.log"),
        "--shared-files", *more, seconds=60.0,
    )  # fmt: skip


def live(network: Network) -> list[AllocationView]:
    return network.client.allocations(live=True)


def wait(network: Network, true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    until(true, what, seconds, network.story)


def test_a_project_grows_to_its_limit_and_shrinks_to_zero_whatever_dies(lab: Network, cluster: Cluster) -> None:
    array = (
        lab.cpcc("submit", "--quiet", "--array", str(JOBS), "--", "sh", "-c", "sleep 0.2; echo $CPC_INDEX > out")
        .done()
        .strip()
    )
    wait(lab, lambda: sum(bool(one.workers) for one in live(lab)) == LIMIT, "the pool has grown to its limit")
    assert len(live(lab)) == LIMIT
    wait(lab, lambda: lab.client.job(array).jobs.get("succeeded", 0) >= 20, "some are done")  # type: ignore[union-attr]
    cluster.kill("slurmctld")
    busy = next(one for one in live(lab) if one.ran_on and one.workers)
    cluster.kill_node(busy.ran_on[0])
    wait(lab, lambda: lab.client.job(array).jobs.get("succeeded", 0) >= 60, "the others go on")  # type: ignore[union-attr]
    cluster.start_controller()
    found = lab.end_of_array(array, seconds=90.0)
    assert found.jobs == {"succeeded": JOBS}
    wait(lab, lambda: not live(lab), "everything has ended")
    assert cluster.command("squeue", "--noheader", "--states=pending,running,configuring,completing").strip() == ""
    ended = lab.client.allocations()
    assert all(one.state == "ended" for one in ended)
    # A controller that is killed may come back without the job: then it is known of it only that it is not there any more.
    # Or it comes back with what it knew before the job ran, and starts it once more: arrays are kept whole.
    lost = [one for one in ended if busy.ran_on[0] in one.ran_on and one.reason in ("node", "vanished")]
    again = [one for one in ended if one.id == busy.id and one.restarts]
    assert lost or again, [(one.reason, one.words, one.ran_on, one.restarts) for one in ended]
    jobs = lab.client.jobs(array=array)
    assert all((one.failures, one.exit_code) == (0, 0) for one in jobs)
    for index in (0, 57, 199):
        assert lab.output(f"{array}[{index}]", "out") == f"{index}\n".encode()
    cluster.start_node(busy.ran_on[0])
    assert lab.cpcc("why", "hpc").done().startswith("Pool hpc is ")
    assert workers_of(cluster) == []


def submit(network: Network, count: int, script: str) -> str:
    return network.cpcc("submit", "--quiet", "--array", str(count), "--", "sh", "-c", script).done().strip()


def workers_of(cluster: Cluster) -> list[str]:
    """Processes of workers that Slurm has started here."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if "cpc-worker" in words and str(cluster.jobs / "work") in words:
                    found.append(words)
    return found


def test_a_server_that_is_killed_finds_its_allocations_again_and_tells_nobody_its_secrets(
    ready: Network, cluster: Cluster
) -> None:
    array = submit(ready, 40, "sleep 0.2; env; cat /proc/self/fd/0; ls -l /proc/self/fd")
    wait(ready, lambda: any(one.workers for one in live(ready)), "workers have come")
    before = {one.token for one in live(ready)}
    ready.kill_server()
    for native in cluster.command("squeue", "--noheader", "--format=%i").split():
        assert "PRIVATE KEY" not in cluster.command("scontrol", "--details", "show", "job", native)
    assert workers_of(cluster)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                assert b"PRIVATE KEY" not in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes(), entry
    for path in cluster.jobs.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                assert path.stat().st_mode & 0o077 == 0, path
    ready.start()
    assert ready.end_of_array(array, seconds=60.0).jobs == {"succeeded": 40}
    assert before <= {one.token for one in ready.client.allocations()}
    names = cluster.command("squeue", "--array", "--noheader", "--states=all", "--format=%j %K").splitlines()
    assert len(names) == len(set(names)), "nothing was asked for twice"
    for index in (0, 39):
        printed = ready.output(f"{array}[{index}]")
        assert b"PRIVATE KEY" not in printed
        assert b"CPC_ALLOCATION" not in printed


def test_everything_of_a_pool_is_stopped_without_a_server(ready: Network, cluster: Cluster) -> None:
    lab = ready
    array = submit(lab, 6, "sleep 60")
    wait(lab, lambda: any(one.workers for one in live(lab)), "workers have come")
    lab.stop_server()
    said = lab.run("cpc-server", "pool-stop", "hpc", seconds=90.0).done()
    assert "nothing in its batch system" in said
    assert cluster.command("squeue", "--noheader", "--states=pending,running,configuring,completing").strip() == ""
    lab.start()
    wait(lab, lambda: not live(lab), "the server has seen it")
    assert lab.client.pool("hpc").state == "paused"
    lab.cpcc("cancel", array).done()
    lab.cpcc("pool", "rm", "hpc").done()
    assert lab.client.pools() == []
    said = lab.run("cpc-server", "pool-stop", "hpc", seconds=90.0).done()
    assert "Pool hpc was removed and has nothing in its batch system" in said


def test_a_worker_on_several_nodes_gives_each_job_gpus_of_its_own(lab: Network, cluster: Cluster) -> None:
    add(lab, cluster, "gpu", "--nodes", "2", "--gpus", "2", "--platform", "slurm", "--max-allocations", "1").done()
    script = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES > out; sleep 1"
    array = lab.cpcc("submit", "--quiet", "--array", "4", "--gpus", "1", "--", "sh", "-c", script).done().strip()
    assert lab.end_of_array(array, seconds=60.0).jobs == {"succeeded": 4}
    told = {lab.output(f"{array}[{index}]", "out").decode().strip() for index in range(4)}
    assert all(re.fullmatch("n[1-3] [01]", one) for one in told), told
    assert len({one.split()[0] for one in told}) == 2, "both nodes were used"
    lab.cpcc("pool", "rm", "--cancel", "gpu", seconds=60.0).done()


def test_wrong_settings_are_told_at_once_in_one_line(lab: Network, cluster: Cluster) -> None:
    for more, words in (
        (("--partition", "nosuch"), "nosuch"),
        (("--walltime", "400d"), "not between"),
        (("--nodes", "99"), "node"),
        (("colour=red",), "has no setting 'colour'"),
    ):
        said = add(lab, cluster, "bad", *more)
        assert said.code == 1, more
        assert words in said.err
        assert len(said.err.strip().splitlines()) == 1
    assert "there is no pool" in lab.cpcc("pool", "pause", "bad").err
