"""Disks that fill up, and projects that may not have more: refused in words, nothing lost, and it goes on when there is room."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpc.core.errors import OverQuota, Unavailable
from tests.helpers.mounts import Mount
from tests.helpers.network_of_processes import Network, gone, until

MIB = 1 << 20
SIZE = 64 * MIB


def test_a_project_gets_no_more_than_its_quota(network: Network, tmp_path: Path) -> None:
    network.cpcc("start", "small", "--quota", "2M").done()
    network.cpcc("cd", "p").done()
    (tmp_path / "big").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "fits").write_bytes(os.urandom(MIB))
    line = network.cpcc("submit", "-p", "small", "--input", str(tmp_path / "big"), "--", "true").refused()
    assert "quota" in line
    assert "small" in line
    network.cpcc("submit", "-p", "small", "--input", str(tmp_path / "fits"), "--", "true").done()
    assert "2.0 MiB" in network.cpcc("projects").done()
    network.cpcc("submit", "-p", "p", "--input", str(tmp_path / "big"), "--", "true").done()
    network.cpcc("set-quota", "small", "10M").done()
    network.cpcc("submit", "-p", "small", "--input", str(tmp_path / "big"), "--", "true").done()


def test_a_result_beyond_the_quota_is_not_lost(network: Network) -> None:
    """Science that was computed is kept; the project takes no new files until there is room."""
    network.cpcc("start", "full", "--quota", "1M").done()
    job = network.cpcc("submit", "--quiet", "--", "sh", "-c", "head -c 3000000 /dev/urandom > big").done().strip()
    network.cpcc("cd", "p").done()
    with network.working("-p", "full"):
        network.success_of(job)
    assert len(network.output(job, "big")) == 3_000_000


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A disk of 64 MiB."""
    made = Mount(tmp_path_factory.mktemp("disk"), SIZE)
    if made.why_not:
        pytest.skip(made.why_not)
    yield made
    made.close()


@pytest.fixture(scope="module")
def lab(mount: Mount, make_network: Callable[..., Network]) -> Network:
    """A network whose server has this disk as its run directory."""
    return make_network(within=mount.within, run_directory=mount.directory, min_free_space="16M")


def test_a_full_disk_loses_nothing_and_it_goes_on_when_there_is_room(
    lab: Network, mount: Mount, tmp_path: Path
) -> None:
    worker = lab.worker()
    before = lab.shell("echo before")
    lab.success_of(before)
    job = lab.shell(
        f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; head -c 9000000 /dev/zero > big"
    )
    pid = lab.pid(tmp_path / "pid")

    mount.fill(leave=12 * MIB)  # tight: nothing new is taken
    lab.until(lambda: lab.client.status().intake_paused, "intake is paused")
    line = lab.cpcc("submit", "--", "true").refused()
    assert "free" in line
    assert "make room" in line
    (tmp_path / "data").write_bytes(b"x" * 100)
    assert "free" in lab.cpcc("submit", "--input", str(tmp_path / "data"), "--", "true").refused()
    assert "NO NEW JOBS" in lab.cpcc("status").done()

    mount.fill(leave=0)  # full: not a byte
    (tmp_path / "go").touch()
    until(lambda: gone(pid), "the job ends")
    until(
        lambda: any(each.stat().st_size for each in worker.directory.glob("*/spool.log")), "the worker keeps its result"
    )
    assert lab.job(before).state == "succeeded"
    assert lab.output(before) == b"before\n"

    mount.empty()
    found = lab.success_of(job)
    assert lab.output(job, "big") == bytes(9_000_000)
    assert [each.outcome for each in found.history][-1] == "ok"
    assert (found.failures, found.losses) == (0, 0)
    lab.until(lambda: not lab.client.status().intake_paused, "intake goes on")
    lab.success_of(lab.shell("true"))
    lab.dismiss(worker)
    lab.stop_server()
    lab.start()
    assert lab.job(job).state == "succeeded"


def test_what_is_acknowledged_while_the_disk_fills_is_there_afterwards(lab: Network, mount: Mount) -> None:
    """The server has not looked at the disk yet: its database finds out. What it then does not acknowledge may be missing."""
    mount.fill(leave=64 << 10)
    made = make_projects_until_refused(lab)
    mount.empty()
    if not lab.alive:  # it ends rather than go on with a disk that fails it
        lab.start()
    lab.until(lambda: not lab.client.status().intake_paused, "intake goes on")
    assert {project.name for project in lab.client.projects()} >= set(made)
    lab.kill_server()
    lab.start()
    assert {project.name for project in lab.client.projects()} >= set(made)
    with lab.working():
        lab.success_of(lab.shell("true"))


def make_projects_until_refused(network: Network, most: int = 3000) -> list[str]:
    """What the server has acknowledged until its database could not grow any more."""
    made: list[str] = []
    client = network.connect()
    client.transport.patience = 0.0
    while len(made) < most:
        try:
            made.append(client.create_project(f"made-{len(made)}").name)
        except (Unavailable, OverQuota):
            break
    return made


def test_a_job_whose_input_is_damaged_ends_in_words_and_can_be_retried(network: Network, tmp_path: Path) -> None:
    """Each attempt would meet the same bytes: nobody is to wait for the one that does not."""
    data = os.urandom(MIB)
    (tmp_path / "start.gro").write_bytes(data)
    send = ("submit", "--quiet", "--input", str(tmp_path / "start.gro"), "--", "cat", "start.gro")
    job = network.cpcc(*send).done().strip()
    name = hashlib.sha256(data).hexdigest()
    (chunk,) = network.run_directory.rglob(name)
    network.stop_server()  # or it would still have in memory what came
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    network.start()
    with network.working():
        assert network.end_of(job).state == "failed"
        assert "start.gro is damaged at the server" in network.cpcc("why", job).done()
        network.cpcc("upload-file", str(tmp_path / "start.gro")).done()
        assert chunk.read_bytes() == data
        network.cpcc("retry", job).done()
        network.success_of(job)
