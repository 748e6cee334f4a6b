"""Control groups on a directory tree: version 1 and 2, found, made, read, removed. Live version 1: test_processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpc.worker import cgroups, tree
from cpc.worker.cgroups import Groups


@pytest.fixture
def removable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's directory goes with its files, as the kernel's does."""
    real = os.rmdir

    def rmdir(path: str) -> None:
        for entry in os.scandir(path):
            if entry.is_file():
                os.unlink(entry)
        real(path)

    monkeypatch.setattr(os, "rmdir", rmdir)


def system(tmp_path: Path, mounts: str, own: str) -> str:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(mounts.replace("ROOT", str(tmp_path)))
    (proc / "cgroup").write_text(own)
    return str(proc)


V1 = "35 31 0:32 / ROOT/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "36 31 0:33 / ROOT/unified rw,relatime - cgroup2 cgroup2 rw\n"


def test_version_1_is_found_first_where_both_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "memory/jobs/w").mkdir(parents=True)
    proc = system(tmp_path, V2 + V1, "9:name=systemd:/\n4:memory:/jobs/w\n0::/\n")
    assert cgroups.own_group(proc) == (f"{tmp_path}/memory/jobs/w", 1, "")
    assert cgroups.possible(proc) == (1, "")


def test_version_2_is_found_where_it_has_a_memory_controller(tmp_path: Path) -> None:
    (tmp_path / "unified/user").mkdir(parents=True)
    (tmp_path / "unified/user/cgroup.controllers").write_text("cpu memory pids\n")
    proc = system(tmp_path, V2, "0::/user\n")
    assert cgroups.own_group(proc) == (f"{tmp_path}/unified/user", 2, "")


def test_a_version_2_without_a_memory_controller_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("hugetlb\n")
    proc = system(tmp_path, V2, "0::/\n")
    assert cgroups.possible(proc) == (0, "control groups version 2 are mounted without the memory controller")


def test_a_container_that_sees_its_own_part_only_uses_that(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    mounts = "35 31 0:32 /docker/abc ROOT/memory rw - cgroup cgroup rw,memory\n"
    assert cgroups.own_group(system(tmp_path, mounts, "4:memory:/docker/abc\n"))[0] == f"{tmp_path}/memory"


def test_nothing_mounted_is_said(tmp_path: Path) -> None:
    assert cgroups.possible(system(tmp_path, "", "0::/\n")) == (0, "no control groups are mounted here")
    assert cgroups.possible(str(tmp_path / "nothing"))[1].startswith("control groups cannot be read")


@pytest.mark.usefixtures("removable")
def test_a_version_1_group_limits_memory_with_swap(tmp_path: Path) -> None:
    groups = Groups.make(str(tmp_path), 1, "token")
    group = groups.group(100 << 20)
    place = Path(group.path)
    assert place.parent == tmp_path / "cpc-token"
    assert (place / "memory.limit_in_bytes").read_text() == str(100 << 20)
    assert (place / "memory.memsw.limit_in_bytes").read_text() == str(100 << 20)
    group.enter()
    assert (place / "cgroup.procs").read_text() == "0"
    (place / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not group.out_of_memory()
    (place / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert group.out_of_memory()
    (place / "memory.max_usage_in_bytes").write_text("12345\n")
    assert group.peak() == 12345
    (place / "cgroup.procs").write_text("12\n13\n")
    assert group.pids() == [12, 13]
    assert group.remove()
    assert group.remove(), "twice is as good"
    groups.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("removable")
def test_a_version_2_group_limits_memory_and_is_killed_whole(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    groups = Groups.make(str(tmp_path), 2, "token")
    assert (tmp_path / "cpc-token/cgroup.subtree_control").read_text() == "+memory"
    group = groups.group(64 << 20)
    place = Path(group.path)
    assert (place / "memory.max").read_text() == str(64 << 20)
    assert (place / "memory.swap.max").read_text() == "0"
    assert (place / "memory.oom.group").read_text() == "1"
    (place / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1\n")
    assert group.out_of_memory()
    (place / "memory.peak").write_text("777\n")
    assert group.peak() == 777
    assert not (tmp_path / "cpc-worker").exists(), "the worker need not move where memory is shared out already"


@pytest.mark.usefixtures("removable")
def test_version_2_moves_the_worker_to_a_leaf_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("\n")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    Groups.make(str(tmp_path), 2, "token")
    assert (tmp_path / "cpc-worker/cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


def test_version_2_never_moves_processes_of_others(tmp_path: Path) -> None:
    own = tmp_path / "unified"
    own.mkdir()
    (own / "cgroup.controllers").write_text("memory\n")
    (own / "cgroup.subtree_control").write_text("\n")
    other = 1 << 30  # nobody's number: 1 would be ours where the test's own starter has ended
    (own / "cgroup.procs").write_text(f"{other}\n{os.getpid()}\n")
    groups, why = cgroups.open_groups("token", system(tmp_path, V2, "0::/\n"))
    assert groups is None
    assert "holds processes that are not the worker's" in why
    assert sorted(os.listdir(own)) == ["cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"]


@pytest.mark.usefixtures("removable")
def test_places_of_former_guardians_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    proc = system(tmp_path, V1, "4:memory:/\n")
    living = tree.token("/worker")
    dead = ".".join([*living.split(".")[:3], "1"])
    elsewhere = ".".join([living.split(".")[0], "1", *dead.split(".")[2:]])
    for name in (living, dead, elsewhere, "odd"):
        (tmp_path / f"memory/cpc-{name}/1").mkdir(parents=True)
    groups, words = cgroups.open_groups("new.1.2.3", proc)
    assert words == "control groups version 1"
    assert groups is not None
    left = sorted(os.listdir(tmp_path / "memory"))
    assert left == sorted(["cpc-new.1.2.3", f"cpc-{living}", f"cpc-{elsewhere}", "cpc-odd"])


def test_a_group_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, text: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cgroups, "_put", refuse)
    with pytest.raises(PermissionError):
        Groups.make(str(tmp_path), 1, "token")
    assert os.listdir(tmp_path) == []
