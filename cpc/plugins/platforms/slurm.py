"""slurm: programs started with srun on the nodes of the Slurm allocation that this worker runs in.

The worker itself shares out the cores of all nodes, so steps are started with `--overlap` and unbound: Slurm neither makes
them wait for each other nor pins two of them to the same cores. A program of one process runs on one node, through
`srun --ntasks=1`; one that begins with `$MPIRUN` is started by that, on as few nodes as can be. Slurm shows every step all GPUs
that the allocation has on a node; which of them are a program's own is said by `CPC_STEP_GPUS`, to the shell at the step's end.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cpc.api import Amounts, BadInput, CopernicusError, GpuPool, HostPool, Node, Place, Platform, Unavailable
from cpc.plugins.schedulers.slurm_text import hosts

#: srun that passes SIGTERM on and knows whether its program has ended; beside this file, on the worker's own node.
GENTLY = str(Path(__file__).with_name("srun-gently.sh"))
_STEP = ("--overlap", "--cpu-bind=none", "--mem=0", "--quiet")
#: How that ends when it is not known how the program has, as an exit code.
LOST = -signal.SIGUSR2
_COUNT = re.compile(r"(\d{1,6})(?:\(x(\d{1,6})\))?")


class Slurm(Platform):
    """The cores of a Slurm allocation, used through srun."""

    name: ClassVar[str] = "slurm"
    summary: ClassVar[str] = "programs started with srun on the nodes of the Slurm allocation that the worker is in"
    runs: ClassVar[tuple[str, ...]] = ("mpi", "smp")

    def __init__(self, node: Node, options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        """`environ`: where Slurm tells of the allocation; the worker's own by default."""
        environ = os.environ if environ is None else environ
        self._job = environ.get("SLURM_JOB_ID", "")
        if not self._job:
            raise BadInput(
                "there is no Slurm allocation here: SLURM_JOB_ID is not set", "start the worker from a batch script"
            )
        if shutil.which("srun", path=environ.get("PATH")) is None:
            raise BadInput("srun was not found", "put Slurm's commands into the PATH of the batch script")
        self._hosts = _allocated(environ)
        self._memory = _memory(environ, self._hosts) or node.memory * len(self._hosts)
        super().__init__(node, options)
        self._each = _gpus(environ, len(self._hosts))
        self._pool = HostPool(self._hosts, self._each)
        # Where Slurm knows of no GPUs, one node may have some all the same.
        self._gpus = GpuPool(node.gpus if len(self._hosts) == 1 and not self._each else ())

    def _cores(self, wanted: int | None) -> int:
        there = sum(self._hosts.values())
        if wanted is not None and wanted > there:
            raise BadInput(f"-n {wanted}: the allocation has {there} cores", "leave -n out to use all of them")
        return super()._cores(wanted or there)

    def total(self) -> Amounts:
        """Cores, memory and GPUs of all nodes."""
        gpus = self._each * len(self._hosts) or self._gpus.free()
        return Amounts(cores=self.cores, gpus=gpus, memory=self._memory)

    def acquire(self, key: str, granted: Amounts, directory: str) -> Place:
        """Reserve cores and GPUs, on one node where that can be. Unavailable when fewer are free."""
        if not self._each and granted.gpus > self._gpus.free():
            raise Unavailable(f"{granted.gpus} GPUs were granted, {self._gpus.free()} are free")
        taken = self._pool.acquire(key, granted.cores, granted.gpus if self._each else 0)
        first = next(iter(taken))
        step = ("/bin/sh", GENTLY, directory, *_STEP)
        mpirun = [*step, f"--ntasks={granted.cores}", f"--nodes={len(taken)}"]
        if len(taken) == 1:
            mpirun.append(f"--nodelist={first}")
        else:
            path = Path(directory) / "hostfile"
            self._pool.write(key, path)
            mpirun += ["--distribution=arbitrary", f"--nodelist={path}"]
        env = {"MPIRUN": shlex.join(mpirun)}
        if self._each:
            held = self._pool.gpus(key).items()
            env["CPC_STEP_GPUS"] = " ".join(f"{host}:{','.join(map(str, gpus))}" for host, gpus in held) or "-"
        else:
            env |= self._gpus.acquire(key, granted.gpus)
        prefix = (*step, "--ntasks=1", "--nodes=1", f"--nodelist={first}")
        return Place(prefix=prefix, env=env, variables={"MPIRUN": tuple(mpirun)}, lost=LOST)

    def release(self, key: str) -> None:
        """Its cores and GPUs are free again."""
        self._pool.release(key)
        self._gpus.release(key)

    def describe(self) -> tuple[str, ...]:
        """The allocation and its nodes."""
        shown = [f"{host}:{cores}" for host, cores in list(self._hosts.items())[:8]]
        more = f" and {len(self._hosts) - 8} more" if len(self._hosts) > 8 else ""
        gpus = f", {self._each} GPUs each" if self._each else ""
        return (f"allocation: {self._job} on {' '.join(shown)}{more}{gpus}",)


def _allocated(environ: Mapping[str, str]) -> dict[str, int]:
    """Cores of each node of the allocation, in its order: `n[1-3]` and `4(x2),3`."""
    try:
        names = hosts(environ.get("SLURM_JOB_NODELIST", ""))
    except CopernicusError as error:
        raise BadInput(f"SLURM_JOB_NODELIST: {error.message}") from None
    counts: list[int] = []
    for part in environ.get("SLURM_JOB_CPUS_PER_NODE", "").split(","):
        found = _COUNT.fullmatch(part)
        counts += [int(found.group(1))] * int(found.group(2) or 1) if found else []
    if not names or len(counts) != len(names) or not all(counts):
        told = f"{environ.get('SLURM_JOB_NODELIST', '')!r} and {environ.get('SLURM_JOB_CPUS_PER_NODE', '')!r}"
        raise BadInput(
            f"the Slurm allocation cannot be understood from its nodes and cores, {told}",
            "start the worker from the batch script itself, with the environment that Slurm gave it",
        )
    return dict(zip(names, counts, strict=True))


def _gpus(environ: Mapping[str, str], nodes: int) -> int:
    """GPUs of each node. Slurm tells of this node's; where they were asked for in all, they may be unevenly spread: then none
    can be counted on."""
    each = environ.get("SLURM_GPUS_ON_NODE", "")
    if not each.isdecimal() or len(each) > 6:
        return 0
    asked = [environ.get("SLURM_GPUS", "").rpartition(":")[2]]
    tasks, of_each = environ.get("SLURM_NTASKS", ""), environ.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]
    if tasks.isdecimal() and of_each.isdecimal():
        asked.append(str(int(tasks) * int(of_each)))
    return int(each) if all(not all_ or all_ == str(int(each) * nodes) for all_ in asked) else 0


def _memory(environ: Mapping[str, str], nodes: Mapping[str, int]) -> int:
    """Bytes that the allocation has altogether; 0 when Slurm does not say."""
    for name, times in (("SLURM_MEM_PER_NODE", len(nodes)), ("SLURM_MEM_PER_CPU", sum(nodes.values()))):
        told = environ.get(name, "")
        if told.isdecimal() and len(told) <= 12:
            return (int(told) << 20) * times
    return 0
