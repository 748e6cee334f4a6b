"""What a node has, read from a directory tree that looks like one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cpc.api import Found, Gpu, Node
from cpc.core.resources import GIB
from cpc.plugins.platforms.smp import Smp
from cpc.worker.limits import Limits
from cpc.worker.node import describe_node
from cpc.worker.show import show


class NoPrograms:
    def which(self, program: str) -> str | None:
        return None

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        raise AssertionError(argv)

    def pythons(self) -> tuple[str, ...]:
        return ()


class Smi(NoPrograms):
    """A machine with nvidia-smi."""

    def __init__(self, code: int, output: str) -> None:
        self._answer = code, output

    def which(self, program: str) -> str | None:
        return f"/bin/{program}" if program == "nvidia-smi" else None

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        assert argv == ("/bin/nvidia-smi", "-L")
        return self._answer


TWO = (
    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11111111-aaaa)\n"
    "  MIG 1g.5gb Device 0: (UUID: MIG-x)\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22222222-bbbb)\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 100 kB\nMemAvailable:  4194304 kB\n")
    (tmp_path / "proc/self/mountinfo").write_text("")
    (tmp_path / "proc/self/cgroup").write_text("")
    return tmp_path


def groups(root: Path, mounts: list[tuple[str, str, str]], own: str) -> None:
    """Mounts as (directory, kind, options) and the lines of /proc/self/cgroup."""
    lines = [
        f"3{n} 31 0:3{n} / {root}/sys/fs/cgroup/{place} rw - {kind} cgroup {options}\n"
        for n, (place, kind, options) in enumerate(mounts)
    ]
    (root / "proc/self/mountinfo").write_text("".join(lines))
    (root / "proc/self/cgroup").write_text(own)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_plain_node(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    node = describe_node({}, NoPrograms(), root)
    assert (node.cores, node.memory, node.available, node.gpus) == (6, 8 * GIB, 4 * GIB, ())
    assert node.notes == ("this process may run on 6 of 8 cores (affinity)",)


def test_this_node_can_be_described() -> None:
    node = describe_node()
    assert 1 <= node.cores <= len(os.sched_getaffinity(0))
    assert 0 < node.available <= node.memory
    assert node.host


def test_version_1_groups_bound_cores_and_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    groups(
        root,
        [("cpu", "cgroup", "rw,cpu,cpuacct"), ("memory", "cgroup", "rw,memory")],
        "5:cpu,cpuacct:/a/b\n4:memory:/a\n",
    )
    put(root / "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n")
    put(root / "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000\n")
    put(root / "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n")
    put(root / "sys/fs/cgroup/memory/a/memory.limit_in_bytes", f"{2 * GIB}\n")
    put(root / "sys/fs/cgroup/memory/a/memory.usage_in_bytes", f"{GIB}\n")
    put(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    node = describe_node({}, NoPrograms(), root)
    assert (node.cores, node.memory, node.available) == (2, 2 * GIB, GIB)
    assert "a control group allows the time of 2.5 cores" in node.notes


def test_version_2_groups_bound_cores_and_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    groups(root, [("", "cgroup2", "rw")], "0::/slice/job\n")
    base = root / "sys/fs/cgroup"
    put(base / "slice/job/cgroup.controllers", "cpu memory pids\n")
    put(base / "slice/job/cpu.max", "max 100000\n")
    put(base / "slice/cpu.max", "50000 100000\n")
    put(base / "slice/job/memory.max", "max\n")
    put(base / "slice/memory.max", f"{3 * GIB}\n")
    put(base / "slice/memory.current", f"{GIB}\n")
    node = describe_node({}, NoPrograms(), root)
    assert (node.cores, node.memory, node.available) == (1, 3 * GIB, 2 * GIB)


def test_gpus_are_those_that_nvidia_smi_lists(root: Path) -> None:
    node = describe_node({}, Smi(0, TWO), root)
    assert node.gpus == (Gpu("0", "nvidia", "NVIDIA A100-SXM4-40GB"), Gpu("1", "nvidia", "NVIDIA A100-SXM4-40GB"))


def test_gpus_that_the_batch_system_did_not_grant_are_left_alone(root: Path) -> None:
    name = "NVIDIA A100-SXM4-40GB"
    assert describe_node({"CUDA_VISIBLE_DEVICES": "1"}, Smi(0, TWO), root).gpus == (Gpu("1", "nvidia", name),)
    uuid = describe_node({"CUDA_VISIBLE_DEVICES": "GPU-22222222-bbbb"}, Smi(0, TWO), root)
    assert uuid.gpus == (Gpu("GPU-22222222-bbbb", "nvidia", name),)
    for nothing in ("", "-1", "-1,0"):
        assert describe_node({"CUDA_VISIBLE_DEVICES": nothing}, Smi(0, TWO), root).gpus == ()


def test_a_granted_gpu_that_is_not_there_is_not_announced(root: Path) -> None:
    assert describe_node({"CUDA_VISIBLE_DEVICES": "0"}, NoPrograms(), root).gpus == ()


def test_gpus_without_nvidia_smi_are_read_from_dev(root: Path) -> None:
    for name in ("nvidia1", "nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    assert [gpu.id for gpu in describe_node({}, NoPrograms(), root).gpus] == ["0", "1", "10"]


def test_an_nvidia_smi_that_does_not_work_is_noted(root: Path) -> None:
    node = describe_node({}, Smi(9, "NVIDIA-SMI has failed: no driver\n"), root)
    assert node.gpus == ()
    assert node.notes == ("nvidia-smi does not work: NVIDIA-SMI has failed: no driver",)


def test_amd_gpus_are_counted_by_their_compute_units(root: Path) -> None:
    (root / "dev/kfd").touch()
    for number, simd in enumerate((0, 440, 440)):
        put(root / f"sys/class/kfd/kfd/topology/nodes/{number}/properties", f"cpu_cores_count 0\nsimd_count {simd}\n")
    assert describe_node({}, NoPrograms(), root).gpus == (Gpu("0", "amd"), Gpu("1", "amd"))
    assert describe_node({"ROCR_VISIBLE_DEVICES": "1"}, NoPrograms(), root).gpus == (Gpu("1", "amd"),)


def test_unreadable_memory_is_noted_not_guessed(root: Path) -> None:
    (root / "proc/meminfo").unlink()
    node = describe_node({}, NoPrograms(), root)
    assert (node.memory, node.available) == (0, 0)
    assert node.notes[-1].startswith("memory is unknown")


def test_show_tells_what_is_announced_and_what_is_missing() -> None:
    node = Node("n1", 8, 16 * GIB, 12 * GIB, (Gpu("0", "nvidia", "A100"),), ("careful",))
    found = [
        Found("python", "3.11.2", source="/usr/bin/python3"),
        Found("gromacs/mdrun", why_not="none of gmx is in the search path"),
        Found("/x/bad.toml", why_not="it is not a description"),
    ]
    text = show(Smp(node, {"cores": 4, "cores_per_job": 2}), found, node, Limits(memory="watch"))
    assert text.splitlines() == [
        "Platform smp: processes on this node",
        "  host    n1",
        "  cores   4, 2 for each job",
        "  memory  16.0 GiB, 12.0 GiB available now",
        "  gpus    1 (0 A100)",
        "  memory limits of jobs: watching every 0.5 s and RLIMIT_AS (control groups are switched off)",
        "  note: careful",
        "",
        "Executables announced: 1",
        "  python  3.11.2  /usr/bin/python3",
        "",
        "Not found:",
        "  gromacs/mdrun: none of gmx is in the search path",
        "  /x/bad.toml: it is not a description",
    ]
