"""Pools on a real Slurm: a project with an empty pool grows, loses its controller and a node, finishes, and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
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
        "--shared-files", *more,
    )  # fmt: skip


def live(network: Network) -> list[AllocationView]:
    return network.client.allocations(live=True)


def wait(network: Network, true: Callable[[], object], what: str) -> None:
    until(true, what, seen=network.story)


def test_a_project_grows_to_its_limit_and_shrinks_to_zero_whatever_dies(lab: Network, cluster: Cluster) -> None:
    grown, dead = cluster.jobs / "grown", cluster.jobs / "dead"  # until then there is work
    gate = f"[ $CPC_INDEX -lt 40 ] && gate={grown} || gate={dead}; until [ -e $gate ]; do sleep 0.1; done"
    array = submit(lab, JOBS, f"{gate}; sleep 0.2; echo $CPC_INDEX > out")
    wait(lab, lambda: sum(bool(one.workers) for one in live(lab)) == LIMIT, "the pool has grown to its limit")
    assert len(live(lab)) == LIMIT
    grown.touch()
    wait(lab, lambda: lab.client.job(array).jobs.get("succeeded", 0) >= 20, "some are done")  # type: ignore[union-attr]
    cluster.kill("slurmctld")
    busy = next(one for one in live(lab) if one.ran_on and one.workers)
    cluster.kill_node(busy.ran_on[0])
    dead.touch()
    wait(lab, lambda: lab.client.job(array).jobs.get("succeeded", 0) >= 60, "the others go on")  # type: ignore[union-attr]
    cluster.start_controller()
    found = lab.end_of_array(array)
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
    assert ready.end_of_array(array).jobs == {"succeeded": 40}
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
    said = lab.run("cpc-server", "pool-stop", "hpc").done()
    assert "nothing in its batch system" in said
    assert cluster.command("squeue", "--noheader", "--states=pending,running,configuring,completing").strip() == ""
    lab.start()
    wait(lab, lambda: not live(lab), "the server has seen it")
    assert lab.client.pool("hpc").state == "paused"
    lab.cpcc("cancel", array).done()
    lab.cpcc("pool", "rm", "hpc").done()
    assert lab.client.pools() == []
    said = lab.run("cpc-server", "pool-stop", "hpc").done()
    assert "Pool hpc was removed and has nothing in its batch system" in said


def test_a_worker_on_several_nodes_gives_each_job_gpus_of_its_own(lab: Network, cluster: Cluster) -> None:
    add(lab, cluster, "gpu", "--nodes", "2", "--gpus", "2", "--platform", "slurm", "--max-allocations", "1").done()
    script = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES > out; sleep 1"
    array = lab.cpcc("submit", "--quiet", "--array", "4", "--gpus", "1", "--", "sh", "-c", script).done().strip()
    assert lab.end_of_array(array).jobs == {"succeeded": 4}
    told = {lab.output(f"{array}[{index}]", "out").decode().strip() for index in range(4)}
    assert all(re.fullmatch("n[1-3] [01]", one) for one in told), told
    assert len({one.split()[0] for one in told}) == 2, "both nodes were used"
    lab.cpcc("pool", "rm", "--cancel", "gpu").done()


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


# --- looks from nodes ---


@pytest.fixture(scope="module")
def looked(lab: Network, cluster: Cluster) -> Network:
    """A pool that is only looked at."""
    add(lab, cluster, "look").done()
    return lab


def look(network: Network, *node: str, **settings: str) -> tuple[int, dict[str, str]]:
    """(exit code, line by check) of a look from a node, with settings that are changed for it."""
    given = {"worker": str(network.bin / "cpc-worker"), "wrap": ""} | settings
    network.cpcc(
        "pool", "set", "look", "--force", *(word for one in given.items() for word in (f"--{one[0]}", one[1]))
    ).done()
    said = network.cpcc("doctor", "look", "--node", *node)
    assert said.err.startswith("allocation "), said.err
    lines = [line for line in said.out.splitlines() if not line.startswith(" ")]
    return said.code, {line[5:].partition(":")[0]: line for line in lines}


def test_a_pool_is_looked_at_from_one_of_its_nodes(looked: Network, cluster: Cluster) -> None:
    code, found = look(looked, "n2")
    assert code == 0, found
    assert found["way to the server"].startswith(
        f"ok   way to the server: n2 reaches 127.0.0.1 port {looked.port}, and knows"
    )
    assert {"clocks", "worker program", "run directory", "shared files", "size", "munge"} <= found.keys()
    assert all(line.startswith("ok ") for line in found.values()), found
    assert list(cluster.jobs.rglob(".cpc-*")) == []
    wait(looked, lambda: not live(looked), "it has ended")
    (mine, *_) = looked.client.allocations("look")
    assert (mine.reason, mine.cores, mine.ran_on) == ("left", 1, ("n2",))


def test_a_program_that_is_not_on_a_node_is_found_from_there(looked: Network) -> None:
    code, found = look(looked, worker="/nowhere/cpc-worker")
    assert code == 1
    assert (
        "/nowhere/cpc-worker, or a program of the pool's --wrap or --prologue, is not there on n"
        in found["worker program"]
    )


HIDDEN = """unshare --mount sh -c 'mount -t tmpfs none "$0" && exec "$@"'"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process other networks and file systems")
def test_a_node_that_does_not_reach_the_server_or_share_its_files_is_found_from_there(
    looked: Network, cluster: Cluster
) -> None:
    code, found = look(looked, wrap="unshare --net")
    assert code == 1
    assert "has no way to 127.0.0.1" in found["way to the server"]
    code, found = look(looked, wrap=f"{HIDDEN} {cluster.jobs}")
    assert code == 1
    assert [name for name, line in found.items() if not line.startswith("ok ")] == ["shared files"]
    assert "does not see in" in found["shared files"]


def test_who_breaks_a_look_off_leaves_nothing_behind(looked: Network, cluster: Cluster) -> None:
    cluster.command("scontrol", "update", "partition=batch", "state=down")
    try:
        program = looked.begin("cpcc", "doctor", "look", "--node")
        until(lambda: "waiting: PartitionDown" in program.said, "it says why it waits", seen=lambda: program.said)
        program.send(signal.SIGINT)
        assert program.ended() == 130
        assert "is being cancelled" in program.said
        wait(looked, lambda: not live(looked), "it has ended")
        assert cluster.command("squeue", "--noheader").strip() == ""
    finally:
        cluster.command("scontrol", "update", "partition=batch", "state=up")


def test_whoever_has_a_bundle_may_look_from_where_they_are(looked: Network) -> None:
    said = looked.run("cpc-worker", "check", "-c", str(looked.bundle), "-wd", str(looked.directory / "later")).done()
    assert said.startswith("ok    way to the server: ")
    assert "FAIL" not in said
    assert not (looked.directory / "later").exists()
