"""How allocations end on a real Slurm, and what becomes of the jobs in them: no job is blamed, no checkpoint is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.resources import Amounts
from tests.acceptance.conftest import Make
from tests.helpers.pool_lab import POLITE, Lab, lab_of

NODES = 6


@pytest.fixture(scope="module")
def lab(make_network: Make) -> Iterator[Lab]:
    with lab_of(make_network, NODES) as made:
        yield made
        made.nothing_left()


@pytest.fixture(scope="module", autouse=True)
def ending(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Jobs in allocations whose time will be over: pool → job. Begun before the other tests: nobody waits for them.

    `brief` is over by the worker's own knowledge: of Slurm it hears nothing that it heeds. Of `cut`
    an administrator takes the rest; Slurm tells, within 30 s.
    """
    path = tmp_path_factory.mktemp("ending")
    lab.pool("brief", "--walltime", "1m", "--margin", "10s", "options=--nodelist=n1 --signal=B:URG@1")
    lab.pool("cut", "--margin", "9m", "options=--nodelist=n1")
    jobs = {}
    for pool in ("brief", "cut"):
        jobs[pool] = lab.submit(pool, POLITE, str(path / pool), "0", checkpoint=("*.cpt",))
    for pool in jobs:
        lab.until((path / pool).exists, f"a job runs in {pool}")
    lab.cluster.command("scontrol", "update", f"JobId={lab.one('cut').native}", "TimeLimit=5")
    return jobs


def test_a_preempted_allocation_hands_back_and_comes_back_or_is_asked_for_again(lab: Lab, tmp_path: Path) -> None:
    """One that Slurm requeues is the same afterwards. One that it cancels, of two nodes, is followed by another one."""
    (tmp_path / "low").mkdir()
    (tmp_path / "cheap").mkdir()
    lab.pool("low", "--partition", "low", "--cores", "3", "options=--requeue --nodelist=n3")
    lab.pool("cheap", "--partition", "cheap", "--nodes", "2", "options=--nodelist=n[4-5]")
    again, other = lab.long("low", tmp_path / "low"), lab.long("cheap", tmp_path / "cheap")
    before = {pool: lab.one(pool) for pool in ("low", "cheap")}
    assert len(before["cheap"].workers) == 2
    lab.somebody("--nodelist=n[3-4]", "--nodes=2", "--exclusive", script="sleep 2")
    lab.until(lambda: lab.all("cheap")[0].state == "ended", "the cancelled one has ended")
    lab.again("cheap")
    lab.went_on(again, "preempted")
    lab.went_on(other, "preempted")
    (back,) = lab.all("low")
    assert (back.token, back.native, back.restarts) == (before["low"].token, before["low"].native, 1)
    first, second = lab.all("cheap")
    assert (first.reason, first.restarts, second.restarts) == ("preempted", 0, 0)


def test_whole_nodes_are_counted_though_less_was_asked_for(lab: Lab) -> None:
    """The partition gives whole nodes by itself: two of them are all that 8 cores allow."""
    lab.pool("whole", "--partition", "whole", "--cores", "1", "--max-allocations", "3", "--max-cores", "8")
    job = lab.submit("whole", "while [ ! -e go ]; do sleep 0.1; done")
    lab.until(lambda: lab.one("whole").cores == 4, "it is known what the first has")
    more = [lab.submit("whole", "sleep 0.1") for _ in range(2)]
    lab.until(lambda: len(lab.live("whole")) == 2, "another one is asked for")
    (reason,) = [one for one in lab.network.client.why_pool("whole").reasons if one.kind == "cores"]
    assert "one allocation is 4" in reason.text
    for each in more:
        lab.network.success_of(each)
    assert len(lab.all("whole")) == 2
    lab.network.client.cancel(job)
    for one in lab.all("whole"):
        assert lab.shown(one.native)["NumCPUs"] == "4"
        assert one.cores == 4


def test_one_worker_has_all_nodes_and_jobs_of_one_that_dies_are_not_done(lab: Lab, tmp_path: Path) -> None:
    lab.pool("srun", "--nodes", "2", "--platform", "slurm", "options=--nodelist=n[5-6]")
    wide = lab.submit("srun", "$MPIRUN sh -c 'echo $SLURMD_NODENAME'", need=Amounts(cores=3))
    assert sorted(lab.network.output(lab.network.success_of(wide).id).split()) == [b"n5", b"n5", b"n6"]
    names = [lab.submit("srun", f"echo $SLURMD_NODENAME; echo > {tmp_path}/$CPC_JOB; sleep 1") for _ in range(4)]
    found = sorted(lab.network.output(lab.network.success_of(job).id) for job in names)
    assert found == [b"n5\n", b"n5\n", b"n6\n", b"n6\n"]
    (only,) = lab.all("srun")
    assert len(only.workers) == 1
    jobs = lab.long("srun", tmp_path)
    lab.cluster.kill_node("n6")
    lab.until(lambda: lab.all("srun")[0].state == "ended", "Slurm has given the allocation up")
    assert lab.all("srun")[0].reason == "node"
    lab.cluster.start_node("n6")
    lab.again("srun")
    for job in jobs:
        done = lab.network.success_of(job)
        assert lab.outcomes(job)[0] in ("preempted", "refused"), lab.story()
        assert (done.failures, done.losses) == (0, 0)


def test_a_job_that_cannot_end_in_time_is_not_begun_and_why_says_so(lab: Lab) -> None:
    job = lab.submit("brief", "true", walltime=1800.0)
    said = [reason.text for reason in lab.network.client.why(job).reasons if reason.kind == "pool"]
    assert any(text.startswith("pool brief: needs 30m 00s and has no checkpoints; it has ") for text in said), said
    assert lab.network.job(job).attempts == 0
    lab.network.client.cancel(job)


@pytest.mark.parametrize(("pool", "outcome"), [("cut", "preempted"), ("brief", "walltime")])
def test_a_worker_leaves_before_its_time_is_over_and_its_job_goes_on_in_the_next_allocation(
    pool: str, outcome: str, lab: Lab, ending: dict[str, str]
) -> None:
    lab.went_on([ending[pool]], outcome)
    first, second = lab.all(pool)
    assert (first.reason, first.native != second.native) == ("left", True)
    assert lab.shown(first.native)["JobState"] == "COMPLETED"
