"""mpi: programs that run on many cores or hosts through mpirun.

With `-hf FILE` the hosts of the file are shared out: each attempt gets slots of its own, written to `hostfile` in its run
directory, one line a slot, a form that all of Open MPI, MPICH and Intel MPI read. `MPIRUN` is in the job's environment
and in executables' command lines, for example `mpirun -np 8 -hostfile /…/hostfile`.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cpc.api import (
    CORES,
    CORES_PER_JOB,
    Amounts,
    BadInput,
    GpuPool,
    HostPool,
    Node,
    Option,
    Place,
    Platform,
    Unavailable,
)

HOST_FILE = Option("host_file", ("-hf",), "share out the hosts of this file (one a line)", str, "FILE")
CORES_PER_HOST = Option(
    "cores_per_host", ("-cph",), "cores of each host (default: its 'slots=' in the file, else 1)", int, "N"
)
MAX_FILE = 16 << 20
_SLOTS = re.compile(r"(?:\bslots\s*=\s*|:)(\d{1,6})\b")


class Mpi(Platform):
    """Cores of this node, or of the hosts in a file, used through mpirun."""

    name: ClassVar[str] = "mpi"
    summary: ClassVar[str] = "programs started through mpirun, on this node or on the hosts of a file"

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """-n, -s, -hf, -cph."""
        return (CORES, CORES_PER_JOB, HOST_FILE, CORES_PER_HOST)

    def __init__(self, node: Node, options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        """`environ`: where MPIRUN may name another mpirun, with options of its own; the worker's by default."""
        self._hosts = _hosts(options.get("host_file"), options.get("cores_per_host"))
        super().__init__(node, options)
        self._pool = HostPool(self._hosts)
        self._gpus = GpuPool(node.gpus)
        self._mpirun = _mpirun(environ)

    def _cores(self, wanted: int | None) -> int:
        slots = sum(self._hosts.values())
        if slots and wanted is not None and wanted > slots:
            raise BadInput(f"-n {wanted}: the host file has {slots} cores", "leave -n out to use all of them")
        return super()._cores(wanted or slots or None)

    def total(self) -> Amounts:
        """Cores of all hosts; memory of one node; no GPUs when there is a host file (nothing is known of them)."""
        gpus = 0 if self._hosts else len(self.node.gpus)
        return Amounts(cores=self.cores, gpus=gpus, memory=self.node.memory)

    def acquire(self, key: str, granted: Amounts, directory: str) -> Place:
        """Reserve slots and write the host file. Unavailable when fewer are free."""
        command = (*self._mpirun, "-np", str(granted.cores))
        env = {"OMP_NUM_THREADS": "1"}  # the ranks take the cores
        if self._hosts:
            self._pool.acquire(key, granted.cores)
            path = Path(directory) / "hostfile"
            self._pool.write(key, path)
            command = (*command, "-hostfile", str(path))
        elif granted.gpus > self._gpus.free():
            raise Unavailable(f"{granted.gpus} GPUs were granted, {self._gpus.free()} are free")
        else:
            env.update(self._gpus.acquire(key, granted.gpus))
        env["MPIRUN"] = shlex.join(command)
        return Place(env=env, variables={"MPIRUN": command})

    def release(self, key: str) -> None:
        """Its slots are free again."""
        self._pool.release(key)
        self._gpus.release(key)

    def describe(self) -> tuple[str, ...]:
        """The mpirun in use, and the hosts."""
        lines = [f"mpirun: {shlex.join(self._mpirun)}"]
        if self._hosts:
            shown = [f"{host}:{slots}" for host, slots in list(self._hosts.items())[:8]]
            more = f" and {len(self._hosts) - 8} more" if len(self._hosts) > 8 else ""
            lines.append(f"hosts: {' '.join(shown)}{more}")
        return tuple(lines)


def _mpirun(environ: Mapping[str, str] | None) -> tuple[str, ...]:
    """The command that starts MPI programs: $MPIRUN or mpirun. BadInput when it is not there."""
    import os

    environ = os.environ if environ is None else environ
    try:
        command = shlex.split(environ.get("MPIRUN", "")) or ["mpirun"]
    except ValueError as error:
        raise BadInput(f"MPIRUN={environ['MPIRUN']!r} is not a command: {error}") from None
    if shutil.which(command[0], path=environ.get("PATH")) is None:
        raise BadInput(f"{command[0]} was not found", "load your MPI module, or set MPIRUN to the command")
    return tuple(command)


def _hosts(file: str | None, cores_per_host: int | None) -> dict[str, int]:
    """Cores of each host in the file, in its order; a host that is named twice has both shares."""
    if cores_per_host is not None and not 1 <= cores_per_host <= 1 << 16:
        raise BadInput(f"-cph {cores_per_host} is not a number of cores", "use 1 or more")
    if file is None:
        if cores_per_host is not None:
            raise BadInput("-cph needs a host file", "add -hf FILE")
        return {}
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read(MAX_FILE)
    except OSError as error:
        raise BadInput(f"host file {file}: {error.strerror}") from None
    hosts: dict[str, int] = {}
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.partition("#")[0].strip()
        if not line:
            continue
        host = re.split(r"[\s:]", line, maxsplit=1)[0]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", host):
            raise BadInput(f"host file {file}, line {number}: {host[:80]!r} is not a host name")
        told = _SLOTS.search(line[len(host) :])
        slots = cores_per_host or (int(told.group(1)) if told else 1)
        hosts[host] = hosts.get(host, 0) + slots
    if not sum(hosts.values()):
        raise BadInput(f"host file {file} names no hosts", "write one host name a line")
    return hosts
