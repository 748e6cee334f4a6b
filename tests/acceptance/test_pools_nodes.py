"""Pools and the machines of a real Slurm: nodes drained and restarted, jobs with an allocation each, a Slurm that is away."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.resources import Amounts
from tests.acceptance.conftest import Make
from tests.helpers.pool_lab import PLAIN, Lab, lab_of
from tests.helpers.real_programs import gone

NODES = 4
JOBS = 12


@pytest.fixture(scope="module")
def lab(make_network: Make) -> Iterator[Lab]:
    with lab_of(make_network, NODES) as made:
        yield made
        made.nothing_left()


def test_each_job_has_an_allocation_of_its_own_and_none_is_left(lab: Lab, tmp_path: Path) -> None:
    lab.pool("direct", "--direct", "--cores", "4", "--max-allocations", "0", "--backlog", "30", "--walltime", "10m")
    client = lab.network.client
    stays = f"echo > {tmp_path}/$CPC_JOB; while :; do sleep 0.1; done"
    running = lab.submit("direct", stays, need=Amounts(cores=4), priority=9)
    lab.until((tmp_path / running).exists, "the first one runs")
    sizes = [1 + number % 3 for number in range(JOBS - 3)]
    jobs = [lab.submit("direct", "echo $CPC_CORES", need=Amounts(cores=size)) for size in sizes]
    fails = lab.submit("direct", "exit 3", need=Amounts(cores=2))
    pending = lab.submit("direct", "true", need=Amounts(cores=4), priority=-9)
    client.cancel(pending)
    client.cancel(running)
    for job in jobs:
        lab.network.success_of(job)
    assert lab.network.end_of(fails).exit_code == 3
    assert [lab.network.end_of(job).state for job in (running, pending)] == ["cancelled", "cancelled"]
    lab.until(lambda: not lab.live("direct"), "nothing is left")
    assert not [line for line in lab.squeue("--format=%j") if line.startswith("cpc-direct")]
    had = [one for one in lab.all("direct") if one.started]
    # One for each, one for the job that was cancelled as it ran; that of the one that was cancelled before may have begun.
    assert len(had) - len(jobs) in (2, 3)
    assert Counter([*sizes, 2, 4]) <= Counter(one.cores for one in had)
    for one in had:
        assert lab.shown(one.native)["NumCPUs"] == str(one.cores)
    assert lab.network.job(fails).failures == 1


def test_a_node_is_drained_restarted_and_resumed_with_three_commands(lab: Lab, tmp_path: Path) -> None:
    lab.pool("node", "options=--nodelist=n2")
    job = lab.submit("node", f"echo > {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    lab.until((tmp_path / "begun").exists, "it runs")
    drain = lab.network.begin("cpcc", "drain", "n2", "--wait", "new", "fan")
    lab.until(lambda: f"1 job(s) of ours run there: {job}" in drain.said, "it says what still runs")
    assert "Node n2 is draining" in drain.said
    drain.send(signal.SIGINT)
    assert drain.ended() == 130
    assert "Traceback" not in drain.said
    assert "cpcc resume n2" in drain.said, "the node stays drained, and how that is undone is said"
    late = lab.submit("node", "true")
    drain = lab.network.begin("cpcc", "drain", "n2", "--wait", "new", "fan")
    lab.until(lambda: "job(s) of ours run there" in drain.said, "it waits again")
    (tmp_path / "go").touch()
    lab.network.success_of(job)
    assert drain.ended() == 0
    assert "Node n2 is drained" in drain.said
    lab.cluster.kill("n2", signal.SIGTERM)
    lab.cluster.start_node("n2")
    assert lab.network.job(late).state == "waiting"
    lab.network.cpcc("resume", "n2").done()
    lab.network.success_of(late)
    assert lab.network.job(job).failures == 0


def test_a_slurm_that_hangs_is_asked_for_nothing_twice_and_workers_do_not_notice(lab: Lab, tmp_path: Path) -> None:
    lab.pool("hung", "--max-allocations", "2", "--cores", "1", "--idle", "30s", "options=--nodelist=n3")
    first = lab.submit("hung", f"echo > {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo done")
    lab.until((tmp_path / "begun").exists, "it runs")
    with lab.cluster.frozen("slurmctld"):
        second = lab.submit("hung", "echo second")
        lab.until(lambda: lab.network.client.pool("hung").state == "unreachable", "it is said that Slurm is away")
        (tmp_path / "go").touch()
        lab.network.success_of(first)
    lab.network.success_of(second)
    names = lab.cluster.command("squeue", "--noheader", "--states=all", "--format=%j").split()
    tokens = [one.token for one in lab.all("hung")]
    mine = [name for name in names if name.startswith("cpc-hung.")]
    assert len(mine) == len(set(mine)) <= 2, mine
    assert {name.partition(".")[2] for name in mine} <= set(tokens)
    assert lab.outcomes(first) == lab.outcomes(second) == ["ok"]


def test_a_node_that_is_given_up_and_comes_back_with_its_job_makes_no_second_result(lab: Lab, tmp_path: Path) -> None:
    """Cut off from Slurm, not from the server: what runs there runs on, until Slurm has ended the allocation."""
    lab.pool("cut", "options=--nodelist=n4")
    job = lab.submit("cut", PLAIN, str(tmp_path / "pid"))
    pid = lab.network.pid(tmp_path / "pid")
    lab.cluster.kill("n4")
    lab.until(lambda: lab.all("cut")[0].state == "ended", "Slurm has given the node up")
    lab.cluster.start_node("n4")
    lab.again("cut")
    found = lab.network.success_of(job)
    assert (found.attempts, found.failures) == (2, 0)
    assert lab.all("cut")[0].reason == "node"
    lab.until(lambda: gone(pid), "the first attempt is ended")
