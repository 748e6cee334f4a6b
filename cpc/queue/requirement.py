"""What a job needs of a worker, coarsely: the class that its place in the queue is kept by."""

from __future__ import annotations

import msgspec

from cpc.core import versions
from cpc.core.resources import Amounts
from cpc.core.spec import JobSpec


class Size(msgspec.Struct, frozen=True, array_like=True):
    """How large and how long the jobs of a class are, whatever they run: amounts and walltime as in the class."""

    cores: int
    gpus: int
    memory: int
    other: tuple[tuple[str, int], ...]
    walltime: int


class Requirement(msgspec.Struct, frozen=True, array_like=True):
    """A class of jobs. `memory` and `walltime` are the lower edge of a grid cell: the exact need is checked when a job
    is placed, so a class never hides a job that would fit."""

    executable: str
    versions: str
    labels: tuple[str, ...]
    cores: int
    gpus: int
    memory: int
    other: tuple[tuple[str, int], ...]
    walltime: int

    @property
    def least(self) -> Amounts:
        """The least that any job of the class needs."""
        return Amounts(cores=self.cores, gpus=self.gpus, memory=self.memory, other=dict(self.other))

    @property
    def size(self) -> Size:
        """The size of its jobs."""
        return Size(self.cores, self.gpus, self.memory, self.other, self.walltime)


def grid(value: float) -> int:
    """The lower edge of the value's cell; cells are a sixteenth of the power of two below them."""
    whole = int(value)
    if whole < 32:
        return whole
    step = 1 << (whole.bit_length() - 5)
    return whole // step * step


def of(spec: JobSpec) -> Requirement:
    """The class of a job."""
    return Requirement(
        executable=spec.executable,
        versions=spec.versions,
        labels=tuple(sorted(set(spec.labels))),
        cores=spec.need.cores,
        gpus=spec.need.gpus,
        memory=grid(spec.need.memory),
        other=tuple(sorted(spec.need.other.items())),
        walltime=grid(spec.walltime),
    )


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What of a worker decides which classes it can ever run: the same for many workers, so answers are remembered.

    `plain` false: it is lent for its programs only, not for jobs that name none.
    """

    programs: tuple[tuple[str, str], ...]  # (name, version)
    labels: frozenset[str]
    total: tuple[int, int, int, tuple[tuple[str, int], ...]]
    plain: bool = True

    @property
    def amounts(self) -> Amounts:
        """All that the worker has."""
        cores, gpus, memory, other = self.total
        return Amounts(cores=cores, gpus=gpus, memory=memory, other=dict(other))


def profile(
    programs: tuple[tuple[str, str], ...], labels: tuple[str, ...], total: Amounts, plain: bool = True
) -> Profile:
    """The profile of a worker."""
    other = tuple(sorted(total.other.items()))
    return Profile(tuple(sorted(programs)), frozenset(labels), (total.cores, total.gpus, total.memory, other), plain)


def best_version(need: Requirement, programs: tuple[tuple[str, str], ...]) -> str | None:
    """The newest announced version that the class accepts; None when there is none; "" when it names no program."""
    if not need.executable:
        return ""
    fitting = [version for name, version in programs if name == need.executable]
    fitting = [version for version in fitting if versions.matches(version, need.versions)]
    return max(fitting, key=versions.key) if fitting else None


def misses(need: Requirement, who: Profile) -> list[tuple[str, str]]:
    """Why a worker could never run the class: (kind, words) for each thing missing; empty when it could."""
    found: list[tuple[str, str]] = []
    if not need.executable and not who.plain:
        found.append(("executable", "names no program; it is lent for certain programs only"))
    if best_version(need, who.programs) is None:
        have = sorted((version for name, version in who.programs if name == need.executable), key=versions.key)
        wanted = f"{need.executable} {need.versions}".strip()
        has = f"has {', '.join(have)}" if have else "does not have it"
        found.append(("executable", f"needs {wanted}; it {has}"))
    missing = sorted(set(need.labels) - who.labels)
    if missing:
        found.append(("label", f"needs label {', '.join(missing)}"))
    found += shortage(need.least, who.amounts, "in all")
    return found


def shortage(need: Amounts, have: Amounts, where: str) -> list[tuple[str, str]]:
    """What of `need` is more than `have`, in words."""
    from cpc.core.resources import show_size

    short: list[tuple[str, str]] = []
    if need.cores > have.cores:
        short.append(("cores", f"needs {need.cores} cores; it has {have.cores} {where}"))
    if need.gpus > have.gpus:
        short.append(("gpus", f"needs {need.gpus} GPUs; it has {have.gpus} {where}"))
    if need.memory > have.memory:
        short.append(("memory", f"needs {show_size(need.memory)} memory; it has {show_size(have.memory)} {where}"))
    for name, amount in need.other.items():
        if amount > have.other.get(name, 0):
            short.append((name, f"needs {amount} {name}; it has {have.other.get(name, 0)} {where}"))
    return short
