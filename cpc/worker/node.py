"""What this node has: cores, memory and GPUs that a worker may use, limits of its own control group included."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from cpc.api import Gpu, Node, Search
from cpc.worker import cgroups
from cpc.worker.search import PathSearch

_NVIDIA = re.compile(r"^GPU (\d+): (.*?) \(UUID: (GPU-[\w-]+|MIG-[\w-]+)\)", re.MULTILINE)


def describe_node(
    environ: Mapping[str, str] | None = None, search: Search | None = None, root: Path = Path("/")
) -> Node:
    """The node as it is now. `root`: where /proc, /sys and /dev are looked for. nvidia-smi is asked if it is there."""
    environ = os.environ if environ is None else environ
    search = search or PathSearch(environ)
    notes: list[str] = []
    memory, available = _memory(root, notes)
    gpus = _gpus(environ, search, root, notes)
    return Node(socket.gethostname(), _cores(root, notes), memory, available, gpus, tuple(notes))


def _cores(root: Path, notes: list[str]) -> int:
    """Cores that this process may run on, fewer when its control group has a quota."""
    allowed = len(os.sched_getaffinity(0))
    there = os.cpu_count() or allowed
    if allowed < there:
        notes.append(f"this process may run on {allowed} of {there} cores (affinity)")
    quota = _quota(root)
    if quota is not None and quota < allowed:
        notes.append(f"a control group allows the time of {quota:.2g} cores")
        allowed = max(1, int(quota))
    return allowed


def _levels(root: Path, controller: str) -> tuple[int, list[str]]:
    """(version, directories of this process's control group and those above it that can be seen)."""
    directory, version, _ = cgroups.own_group(str(root / "proc/self"), controller)
    levels = []
    while directory and len(Path(directory).parts) > 3:
        levels.append(directory)
        directory = os.path.dirname(directory)
    return version, levels


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _quota(root: Path) -> float | None:
    """The least number of cores' worth of time that any level of the control group allows."""
    version, levels = _levels(root, "cpu")
    found = []
    for level in levels:
        if version == 1:
            words = [_first_line(f"{level}/cpu.cfs_quota_us"), _first_line(f"{level}/cpu.cfs_period_us")]
        else:
            words = _first_line(f"{level}/cpu.max").split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _memory(root: Path, notes: list[str]) -> tuple[int, int]:
    """(bytes altogether, bytes available now)."""
    kib: dict[str, int] = {}
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdigit():
                kib[name] = int(words[0])
    except OSError as error:
        notes.append(f"memory is unknown: {error}")
    total = kib.get("MemTotal", 0) * 1024
    available = kib.get("MemAvailable", kib.get("MemFree", 0)) * 1024
    version, levels = _levels(root, "memory")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    for level in levels:
        limit, used = (_first_line(f"{level}/{name}") for name in names)
        if limit.isdigit() and int(limit) < total:
            total = int(limit)
            notes.append(f"a control group allows {total >> 20} MiB of memory")
            available = min(available, max(0, total - int(used) if used.isdigit() else total))
    return total, available


def _gpus(environ: Mapping[str, str], search: Search, root: Path, notes: list[str]) -> tuple[Gpu, ...]:
    """GPUs that jobs may use: what the environment grants, else what nvidia-smi lists, else what /dev shows."""
    return (*_nvidia(environ, search, root, notes), *_amd(environ, root))


def _nvidia(environ: Mapping[str, str], search: Search, root: Path, notes: list[str]) -> list[Gpu]:
    there: list[Gpu] = []
    uuids: dict[str, str] = {}
    smi = search.which("nvidia-smi")
    if smi is not None:
        code, output = search.run((smi, "-L"))
        if code == 0:
            there = [Gpu(index, "nvidia", name) for index, name, _ in _NVIDIA.findall(output)]
            uuids = {uuid: name for _, name, uuid in _NVIDIA.findall(output)}
        else:
            lines = output.strip().splitlines() or ["it said nothing"]
            notes.append(f"nvidia-smi does not work: {lines[-1][:200]}")
    elif (root / "dev").is_dir():
        found = sorted(int(name[6:]) for name in os.listdir(root / "dev") if re.fullmatch(r"nvidia\d+", name))
        there = [Gpu(str(index)) for index in found]
    granted = environ.get("CUDA_VISIBLE_DEVICES")
    if granted is None:
        return there
    names = {gpu.id: gpu.name for gpu in there} | uuids
    visible = []
    for word in granted.split(","):
        if not word.strip() or word.strip() == "-1":
            break  # as CUDA does: what follows an invalid one is not visible
        visible.append(Gpu(word.strip(), "nvidia", names.get(word.strip(), "")))
    notes.append(f"CUDA_VISIBLE_DEVICES grants {len(visible)} GPUs")
    return visible if there else []


def _amd(environ: Mapping[str, str], root: Path) -> list[Gpu]:
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    if not (root / "dev/kfd").exists() or not nodes.is_dir():
        return []
    count = 0
    for node in sorted(nodes.iterdir()):
        try:
            lines = (node / "properties").read_text().splitlines()
        except OSError:
            continue
        count += any(line.startswith("simd_count ") and line.split()[1] != "0" for line in lines)
    ids = [str(index) for index in range(count)]
    granted = environ.get("ROCR_VISIBLE_DEVICES", environ.get("HIP_VISIBLE_DEVICES"))
    if granted is not None:
        ids = [word.strip() for word in granted.split(",") if word.strip() not in ("", "-1")] if count else []
    return [Gpu(identity, "amd") for identity in ids]
