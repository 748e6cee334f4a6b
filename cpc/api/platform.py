"""Platforms: how a worker starts a process. Entry point group `cpc.platforms.v1`, each a subclass of `Platform`.

A platform is made once, when the worker starts, from the node and its own options. It says what can be used altogether,
and for every attempt what goes before its command and into its environment. It does no I/O but files in the attempt's
run directory, and it need not be thread-safe.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cpc.api.node import Gpu, Node
from cpc.api.variables import Value
from cpc.core.errors import BadInput, Unavailable
from cpc.core.resources import Amounts


@dataclass(frozen=True, slots=True)
class Option:
    """A command line option of a platform, as `cpc-worker PLATFORM --help` shows it. `type`: int, str or bool (a flag)."""

    name: str
    flags: tuple[str, ...]
    help: str
    type: type = str
    metavar: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one attempt runs. `prefix` goes before every command, but for one that begins with the platform's own way to
    start it (`MPIRUN` in `variables`); `env` is added to its environment.

    `variables` may be used by executables' command lines: a tuple becomes several arguments (`MPIRUN`).
    `lost`: the exit code (−N: ended by signal N) of what starts the program when nobody knows how that has ended, because its
    node died; 0: there is none. The job is not to blame then.
    """

    prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Value] = field(default_factory=dict)
    lost: int = 0


CORES = Option("cores", ("-n",), "use this many cores altogether (default: all there are)", int, "N")
CORES_PER_JOB = Option(
    "cores_per_job", ("-s",), "give each job exactly this many cores, where its limits allow", int, "N"
)


class Platform(abc.ABC):
    """One way to start processes, with its resources. Version 1 of this interface."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    #: Other platforms whose executables it can start too; what is found for an earlier one is taken.
    runs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """What it can be told on the command line."""
        return (CORES, CORES_PER_JOB)

    def __init__(self, node: Node, options: Mapping[str, Any]) -> None:
        """`options` by name; those not given are missing or None. BadInput for values that cannot be."""
        known = {option.name for option in self.options()}
        unknown = [name for name, value in options.items() if name not in known and value is not None]
        if unknown:
            raise BadInput(f"platform {self.name} has no option {unknown[0]}", f"see 'cpc-worker {self.name} --help'")
        self.node = node
        self.cores = self._cores(options.get("cores"))
        self.cores_per_job = options.get("cores_per_job") or 0
        if not 0 <= self.cores_per_job <= self.cores:
            raise BadInput(
                f"-s {self.cores_per_job}: there are {self.cores} cores", "give each job between 1 and that many"
            )

    def _cores(self, wanted: int | None) -> int:
        """How many cores there are to use: `wanted`, or the node's."""
        if wanted is not None and not 1 <= wanted <= 1 << 20:
            raise BadInput(f"-n {wanted} is not a number of cores", "use 1 or more")
        return wanted or self.node.cores

    @abc.abstractmethod
    def total(self) -> Amounts:
        """All that attempts can be given together."""

    @abc.abstractmethod
    def acquire(self, key: str, granted: Amounts, directory: str) -> Place:
        """Set `granted` aside for attempt `key`, which runs in `directory`. Unavailable when it is not free."""

    @abc.abstractmethod
    def release(self, key: str) -> None:
        """Attempt `key` has ended: what was set aside is free again. Unknown keys do nothing."""

    def by_name(self, granted: Amounts) -> bool:
        """Whether `acquire` gives out things that have names (GPUs, hosts), or writes into the directory: then it is called
        when they are free, else perhaps a moment before an attempt begins that waits for the end of another."""
        return True

    def describe(self) -> tuple[str, ...]:
        """Lines for `cpc-worker --show`."""
        return ()


class GpuPool:
    """Which of a node's GPUs are whose."""

    def __init__(self, gpus: tuple[Gpu, ...]) -> None:
        self._all = gpus
        self._free = list(gpus)
        self._held: dict[str, list[Gpu]] = {}

    def free(self) -> int:
        """How many nobody has."""
        return len(self._free)

    def acquire(self, key: str, number: int) -> dict[str, str]:
        """The environment that shows `number` GPUs, and no others, to `key`; empty where the node has none."""
        held, self._free = self._free[:number], self._free[number:]
        self._held[key] = held
        variables = {"nvidia": ("CUDA_VISIBLE_DEVICES",), "amd": ("ROCR_VISIBLE_DEVICES",)}
        env = {}
        for kind in {gpu.kind for gpu in self._all}:
            ids = ",".join(gpu.id for gpu in held if gpu.kind == kind)
            env.update(dict.fromkeys(variables.get(kind, ()), ids))
        return env

    def release(self, key: str) -> None:
        """Take them back, in the node's order."""
        back = self._held.pop(key, [])
        self._free = [gpu for gpu in self._all if gpu in self._free or gpu in back]


class HostPool:
    """Cores and GPUs of several hosts, shared out by key: on as few hosts as can be."""

    def __init__(self, hosts: Mapping[str, int], gpus: int = 0) -> None:
        """`hosts`: cores of each, in the order in which they are used where it does not matter. `gpus`: of each."""
        self._free = dict(hosts)
        self._gpus = {host: set(range(gpus)) for host in hosts}
        self._held: dict[str, dict[str, int]] = {}
        self._held_gpus: dict[str, dict[str, tuple[int, ...]]] = {}

    def acquire(self, key: str, cores: int, gpus: int = 0) -> dict[str, int]:
        """Cores by host: the tightest single host, else whole ones from the emptiest down, those with GPUs first where some
        are needed. Unavailable when fewer are free, or no hosts have both."""
        if cores > sum(self._free.values()):
            raise Unavailable(f"{cores} cores were granted, {sum(self._free.values())} are free on the hosts")
        hosts = self._hosts(cores, gpus)
        taken: dict[str, int] = {}
        held: dict[str, tuple[int, ...]] = {}
        for place, host in enumerate(hosts):
            others = len(hosts) - place - 1
            taken[host] = min(cores - sum(taken.values()) - others, self._free[host])
            left = gpus - sum(map(len, held.values()))
            beyond = sum(len(self._gpus[one]) for one in hosts[place + 1 :])
            here = min(max(-(-left // (others + 1)), left - beyond), len(self._gpus[host]))
            held[host] = tuple(sorted(self._gpus[host])[:here])
        for host in hosts:
            self._free[host] -= taken[host]
            self._gpus[host] -= set(held[host])
        self._held[key], self._held_gpus[key] = taken, held
        return taken

    def _hosts(self, cores: int, gpus: int) -> list[str]:
        """On which hosts: each has a core at least."""
        there = {host: (free, len(self._gpus[host])) for host, free in self._free.items() if free}
        fitting = [host for host, (free, more) in there.items() if free >= cores and more >= gpus]
        if fitting:
            return [min(fitting, key=lambda host: (there[host][1], there[host][0]))]
        chosen: list[str] = []
        for host in sorted(there, key=lambda host: (-min(there[host][1], gpus), -there[host][0])):
            chosen.append(host)
            found = [sum(there[one][which] for one in chosen) for which in (0, 1)]
            if found[0] >= cores and found[1] >= gpus and len(chosen) <= cores:
                return chosen
        raise Unavailable(f"{cores} cores with {gpus} GPUs were granted, and no hosts have both free together")

    def gpus(self, key: str) -> dict[str, tuple[int, ...]]:
        """Which GPUs of each of its hosts the key has, counted from 0."""
        return {host: held for host, held in self._held_gpus.get(key, {}).items() if held}

    def release(self, key: str) -> None:
        """Its cores and GPUs are free again."""
        for host, cores in self._held.pop(key, {}).items():
            self._free[host] += cores
        for host, gpus in self._held_gpus.pop(key, {}).items():
            self._gpus[host] |= set(gpus)

    def write(self, key: str, path: Path) -> None:
        """The hosts of the key, one line a core, a form that every mpirun and srun reads; its cores are free again when
        that fails."""
        try:
            path.write_text("".join(f"{host}\n" * cores for host, cores in self._held[key].items()))
        except OSError as error:
            self.release(key)
            raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
