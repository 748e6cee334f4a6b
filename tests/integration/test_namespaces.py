"""Servers on machines of their own, with firewalls, dead wires and tunnels between them. All processes are real.

`a` has the only worker and can be reached by nobody; `b` relays; `c` has the projects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import namespaces
from tests.helpers.lab import MIB, Lab, Site, given, held, success
from tests.helpers.network_of_processes import Worker, until

LACKING = namespaces.missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


class Row(Lab):
    """The three of them, in a row."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "abc", ("ab", "bc"))
        self.a, self.b, self.c = self.sites.values()
        self.a.host.only_outbound()

    def heal(self) -> None:
        super().heal()
        self.a.host.only_outbound()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    made = Row(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def only_worker(lab: Row) -> Worker:
    """At `a`. It may leave."""
    made: Worker = lab.a.worker(cores=2)
    return made


@pytest.fixture
def worker(lab: Row, only_worker: Worker) -> Worker:
    """The same, with everything in order between the servers."""
    lab.settled()
    return only_worker


def chunks(site: Site) -> int:
    """How many chunks are in a server's file store."""
    return sum(1 for path in (site.run_directory / "chunks").rglob("*") if path.is_file())


def test_a_worker_behind_a_firewall_runs_jobs_two_servers_away(lab: Row, worker: Worker, tmp_path: Path) -> None:
    data = given(lab.c, tmp_path / "data", 9 * MIB)
    jobs = [lab.c.shell(f"cp data copy; echo {number}", inputs=(data,)) for number in range(3)]
    for job in jobs:
        success(lab.c, job)
    with lab.c.host:
        assert lab.c.network.output(jobs[0], "copy") == (tmp_path / "data").read_bytes()
    cached = sum(path.stat().st_size for path in (lab.b.run_directory / "relay-cache").iterdir())
    assert cached == 9 * MIB  # it came to the relay, and stays there for the next one
    assert lab.a.do(lambda network: network.client.all_jobs()) == []


def test_a_wire_that_is_dead_for_a_while_runs_nothing_twice(lab: Row, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab.c, tmp_path)
    lab.b.host.deaf_to(lab.c.host)
    lab.c.host.deaf_to(lab.b.host)
    go.touch()
    until(lambda: go.with_name("go.done").exists(), "the job has ended at the worker")
    lab.b.host.heal()
    lab.c.host.heal()
    success(lab.c, job)


def test_a_wire_that_works_one_way_only_runs_nothing_twice(lab: Row, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab.c, tmp_path)
    lab.c.host.deaf_to(lab.b.host)
    go.touch()
    until(lambda: go.with_name("go.done").exists(), "the job has ended at the worker")
    lab.c.host.heal()
    success(lab.c, job)


def test_a_wire_that_loses_packets_is_slow_and_nothing_else(lab: Row, worker: Worker, tmp_path: Path) -> None:
    data = given(lab.c, tmp_path / "data", MIB)
    lab.b.host.loses(3)
    job = lab.c.shell("cmp data data && cp data copy", inputs=(data,))
    success(lab.c, job)


def test_a_relay_that_is_killed_in_mid_transfer_is_gone_round(lab: Row, worker: Worker, tmp_path: Path) -> None:
    data = given(lab.c, tmp_path / "data", 40 * MIB)
    cache = lab.b.run_directory / "relay-cache"
    before = len(list(cache.iterdir()))
    lab.a.host.heal()
    lab.a.host.slow(20)
    job = lab.c.shell("sha256sum < data; cp data copy", inputs=(data,))
    until(lambda: before < len(list(cache.iterdir())) < before + 10, "a part of it has come to the relay")
    lab.b.restart()
    lab.heal()
    success(lab.c, job)
    with lab.c.host:
        assert lab.c.network.output(job, "copy") == (tmp_path / "data").read_bytes()


def test_home_and_owner_may_be_restarted(lab: Row, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab.c, tmp_path)
    for site in (lab.a, lab.c):
        site.kill_server()
    go.touch()
    for site in (lab.c, lab.a):
        site.start()
    success(lab.c, job)


def test_home_and_owner_may_be_killed_while_a_result_is_on_its_way(lab: Row, worker: Worker, tmp_path: Path) -> None:
    lab.c.host.slow(20)
    before = chunks(lab.c)
    job = lab.c.shell(f"head -c {40 * MIB} /dev/urandom > big; sha256sum < big")
    until(lambda: before < chunks(lab.c) < before + 10, "a part of it has come to the owner")
    for site in (lab.a, lab.c):
        site.kill_server()
    for site in (lab.c, lab.a):
        site.start()
    lab.heal()
    success(lab.c, job)
    with lab.c.host:
        digest = hashlib.sha256(lab.c.network.output(job, "big")).hexdigest()
        assert lab.c.network.output(job) == f"{digest}  -\n".encode()


def test_a_worker_may_leave_while_the_owner_is_away(lab: Row, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab.c, tmp_path, f"head -c {5 * MIB} /dev/urandom > big; sha256sum < big")
    lab.b.kill_server()
    go.touch()
    (kept,) = until(lambda: lab.a.cpcc("custody", "--json").json["data"], "the result is in custody")
    assert kept["attempt"] == 1
    assert "in custody" in lab.a.cpcc("status").out
    lab.a.dismiss(worker)
    lab.a.restart()
    lab.b.start()
    success(lab.c, job)
    assert lab.a.cpcc("custody").out.strip() == "nothing is in custody"


@pytest.fixture(scope="module")
def ring(lab: Row) -> Row:
    """`a` and `c` know each other as well, and `a` asks `c` first. A heartbeat_time is short."""
    lab.settled()
    lab.trust(lab.a, lab.c)
    lab.a.cpcc("node-pri", "0", lab.c.id).done()
    for site in (lab.a, lab.c):
        site.do(lambda network: network.client.set_setting("heartbeat_time", "8"))
    return lab


def test_a_ring_with_one_deaf_side_in_mid_transfer_runs_nothing_twice(ring: Row, tmp_path: Path) -> None:
    """`a` hears nothing of `c` for longer than a heartbeat_time, and is heard by it."""
    worker = ring.a.worker(cores=2)
    data = given(ring.c, tmp_path / "data", 64 * MIB)
    cache = ring.a.run_directory / "relay-cache"
    before = len(list(cache.iterdir()))
    ring.a.host.slow(30)
    job = ring.c.shell("sha256sum < data; cp data copy", inputs=(data,))
    until(lambda: before < len(list(cache.iterdir())) < before + 12, "a part of it has come")
    ring.a.host.deaf_to(ring.c.host)
    success(ring.a, ring.a.shell("sleep 10"))  # own work goes on meanwhile
    assert ring.c.job(job).state == "running"
    ring.heal()
    success(ring.c, job)
    with ring.c.host:
        assert ring.c.network.output(job, "copy") == (tmp_path / "data").read_bytes()
        digest = hashlib.sha256((tmp_path / "data").read_bytes()).hexdigest()
        assert ring.c.network.output(job) == f"{digest}  -\n".encode()
    later = [ring.c.shell(f"echo {number}") for number in range(3)]
    for job in later:
        success(ring.c, job)
    ring.a.dismiss(worker)
