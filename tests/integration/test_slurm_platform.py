"""The platform slurm within real allocations: one worker that uses all nodes, their cores and their GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from cpc.api import SeenOutcome
from tests.helpers.slurm import Cluster, needed
from tests.helpers.slurm_rig import rig_for, submitted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed()
    running = Cluster(nodes=2)
    try:
        running.start()
        yield running
    finally:
        running.stop()


IN_ALLOCATION = """
import os, signal, subprocess, sys, time
from cpc.api import Amounts
from cpc.plugins.platforms.slurm import Slurm
from cpc.worker.node import describe_node
from cpc.worker.search import PathSearch

platform = Slurm(describe_node(os.environ, PathSearch()), {})
print(platform.total().cores, *platform.describe())


def run(place, mpi, *argv):
    start = place.variables["MPIRUN"] if mpi else place.prefix
    return subprocess.run([*start, *argv], capture_output=True, text=True, env=os.environ | place.env).stdout.split()


where = ("sh", "-c", "echo $SLURMD_NODENAME")
places = [platform.acquire(key, Amounts(cores=4), os.getcwd()) for key in "ab"]
print(*(name for place in places for name in run(place, False, *where)))
platform.release("a")
platform.release("b")
print(*sorted(run(platform.acquire("c", Amounts(cores=7), os.getcwd()), True, *where)))
platform.release("c")
place = platform.acquire("d", Amounts(cores=1), os.getcwd())
body = "trap 'echo told; exit 5' TERM; echo up; while :; do sleep 0.05; done"
program = subprocess.Popen([*place.prefix, "sh", "-c", body], stdout=subprocess.PIPE, text=True, start_new_session=True)
program.stdout.readline()
os.killpg(program.pid, signal.SIGTERM)
print(program.communicate()[0].strip(), program.returncode)
"""


@pytest_twisted.ensureDeferred
async def test_one_worker_uses_all_nodes_of_an_allocation(cluster: Cluster) -> None:
    rig = rig_for(cluster, "platform")
    out, program = cluster.jobs / "platform.out", cluster.jobs / "in_allocation.py"
    program.write_text(IN_ALLOCATION)
    show = "cpc-worker --show slurm"
    body = f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}\npython {program} && {show}"
    mine = await submitted(rig, body, nodes=2, cores=4, memory=500 << 20, output=str(out))
    (end,) = await rig.ended(rig.make(), mine)
    text = out.read_text()
    assert end.outcome is SeenOutcome.OK, text
    lines = [line for line in text.splitlines() if not line.startswith(("srun:", "slurmstepd"))]
    assert lines[:4] == [
        f"8 allocation: {mine[0].native} on n1:4 n2:4",
        "n1 n2",
        " ".join(["n1"] * 4 + ["n2"] * 3),
        "told 5",
    ]
    assert "Platform slurm: " in text
    assert f"allocation: {mine[0].native} on n1:4 n2:4" in "".join(lines[4:])
    assert "benchmark/sleep" in text  # what smp runs, slurm runs too


WITH_GPUS = """
import os, subprocess
from cpc.api import Amounts
from cpc.plugins.platforms.slurm import Slurm
from cpc.worker.node import describe_node
from cpc.worker.search import PathSearch

platform = Slurm(describe_node(os.environ, PathSearch()), {})
print(platform.total().gpus, *platform.describe())
SAY = "sh", "-c", "sleep 0.3; echo $SLURMD_NODENAME cuda=$CUDA_VISIBLE_DEVICES ordinal=$GPU_DEVICE_ORDINAL ${CPC_STEP_GPUS-}"


def begin(key, mpi=False, **granted):
    place = platform.acquire(key, Amounts(**granted), os.getcwd())
    start = place.variables["MPIRUN"] if mpi else place.prefix
    return subprocess.Popen([*start, *SAY], stdout=subprocess.PIPE, text=True, env=os.environ | place.env)


wanted = {"a": 1, "b": 1, "c": 1, "d": 0}
for program in [begin(key, cores=1, gpus=gpus) for key, gpus in wanted.items()]:
    print(program.communicate()[0].strip())
for key in wanted:
    platform.release(key)
print(*sorted(set(begin("e", True, cores=5, gpus=3).communicate()[0].splitlines())), sep="\\n")
"""


@pytest_twisted.ensureDeferred
async def test_each_program_sees_its_own_gpus_on_whichever_node(cluster: Cluster) -> None:
    rig = rig_for(cluster, "gpus")
    out, program = cluster.jobs / "gpus.out", cluster.jobs / "with_gpus.py"
    program.write_text(WITH_GPUS)
    body = f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}\npython {program}"
    mine = await submitted(rig, body, nodes=2, cores=4, gpus=2, output=str(out))
    (end,) = await rig.ended(rig.make(), mine)
    text = out.read_text()
    assert end.outcome is SeenOutcome.OK, text
    assert [line for line in text.splitlines() if not line.startswith(("srun:", "slurmstepd"))] == [
        f"4 allocation: {mine[0].native} on n1:4 n2:4, 2 GPUs each",
        "n1 cuda=0 ordinal=0",
        "n1 cuda=1 ordinal=1",
        "n2 cuda=0 ordinal=0",
        "n1 cuda= ordinal=",
        "n1 cuda=0,1 ordinal=0,1",
        "n2 cuda=0 ordinal=0",
    ]
