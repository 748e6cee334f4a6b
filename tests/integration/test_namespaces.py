"""Servers on machines of their own, with firewalls, dead wires and tunnels between them. All processes are real.

`a` has the only worker and can be reached by nobody; `b` relays; `c` has the projects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cpc.client.transfer import upload
from cpc.core.peer import Agreement
from cpc.core.spec import Input
from cpc.core.views import JobDetail
from tests.helpers import namespaces
from tests.helpers.namespaces import Host, Wire
from tests.helpers.network_of_processes import Network, Worker, until

LACKING = namespaces.missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

MIB = 1 << 20


class Site:
    """A machine with its server. Calls are made from there."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        with host:
            self.network = Network(directory, host=host.address)

    def __getattr__(self, name: str) -> Any:
        """What the network can do, done on its machine."""
        found = getattr(self.network, name)
        if not callable(found):
            return found

        def there(*arguments: Any, **fields: Any) -> Any:
            with self.host:
                return found(*arguments, **fields)

        return there

    def do(self, what: Callable[[Network], Any]) -> Any:
        """Something on its machine."""
        with self.host:
            return what(self.network)

    def connected(self, *others: Site) -> bool:
        """Whether there is a connection with these."""
        found = self.do(lambda network: network.client.peers().all())
        ports = {peer.addresses[0].client_port for peer in found if peer.connected and peer.addresses}
        names = {peer.name for peer in found if peer.connected}
        return all(other.network.client_port in ports or other.host.address in names for other in others)

    def restart(self) -> None:
        """kill -9, and start it again."""
        self.kill_server()
        self.start()


class Lab:
    """The three of them."""

    def __init__(self, directory: Path) -> None:
        self.wire = Wire("a", "b", "c")
        with ThreadPoolExecutor(3) as pool:
            made = pool.map(lambda name: Site(self.wire[name], directory / name), "abc")
        self.a, self.b, self.c = made
        self.sites = (self.a, self.b, self.c)

    def trust(self, one: Site, other: Site) -> None:
        """`one` asks, `other` agrees; returns when they are connected."""

        def ask(network: Network) -> None:
            peers = network.client.peers()
            peers.ask(peers.look(other.host.address, other.network.client_port, other.network.port))

        one.do(ask)
        self.agree(other)
        until(lambda: one.connected(other) and other.connected(one), "they are connected")

    def agree(self, site: Site) -> None:
        """Trust whoever has asked."""

        def trust(network: Network) -> None:
            peers = network.client.peers()
            for peer in peers.all():
                if peer.state == "received":
                    peers.trust(peer)

        site.do(trust)

    def lend_on(self) -> None:
        """Everybody lends over two servers."""
        for site in self.sites:
            peers = site.do(lambda network: network.client.peers())
            for peer in site.do(lambda network: network.client.peers().all()):
                with site.host:
                    peers.set_agreement(peer.id, Agreement(lend_on=2))

    def heal(self) -> None:
        """All wires are whole; `a` stays behind its firewall."""
        for site in self.sites:
            site.host.heal()
        self.a.host.only_outbound()

    def settled(self) -> None:
        """Everything runs and is connected."""
        self.heal()
        until(lambda: self.a.connected(self.b) and self.b.connected(self.c), "the row is connected")

    def submit(self, text: str, **fields: Any) -> str:
        """A job of `c`."""
        job: str = self.c.shell(text, **fields)
        return job

    def success(self, job: str) -> JobDetail:
        """It has succeeded, in one attempt."""
        done: JobDetail = self.c.success_of(job)
        assert done.attempts == 1, done
        return done

    def close(self) -> None:
        with ExitStack() as ending:
            ending.callback(self.wire.close)
            for site in self.sites:
                ending.callback(site.close)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    try:
        made.a.host.only_outbound()
        made.trust(made.a, made.b)
        made.trust(made.b, made.c)
        made.lend_on()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def only_worker(lab: Lab) -> Worker:
    """At `a`. It may leave."""
    made: Worker = lab.a.worker(cores=2)
    return made


@pytest.fixture
def worker(lab: Lab, only_worker: Worker) -> Worker:
    """The same, with everything in order between the servers."""
    lab.settled()
    return only_worker


def held(lab: Lab, tmp_path: Path, rest: str = "") -> tuple[str, Path]:
    """A job that runs until a file is there; that file."""
    go = tmp_path / "go"
    job = lab.submit(f"until test -e {go}; do sleep 0.05; done; {rest or 'true'}; touch {go}.done")
    lab.c.running(job)
    return job, go


def given(lab: Lab, path: Path, size: int) -> Input:
    """Random bytes as an input."""
    path.write_bytes(os.urandom(size))
    with lab.c.host:
        return Input("data", upload(lab.c.network.client, path))


def test_a_worker_behind_a_firewall_runs_jobs_two_servers_away(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    data = given(lab, tmp_path / "data", 9 * MIB)
    jobs = [lab.submit(f"cp data copy; echo {number}", inputs=(data,)) for number in range(3)]
    for job in jobs:
        lab.success(job)
    with lab.c.host:
        assert lab.c.network.output(jobs[0], "copy") == (tmp_path / "data").read_bytes()
    cached = sum(path.stat().st_size for path in (lab.b.run_directory / "relay-cache").iterdir())
    assert cached == 9 * MIB  # it came to the relay, and stays there for the next one
    assert lab.a.do(lambda network: network.client.all_jobs()) == []


def test_a_wire_that_is_dead_for_a_while_runs_nothing_twice(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab, tmp_path)
    lab.b.host.deaf_to(lab.c.host)
    lab.c.host.deaf_to(lab.b.host)
    go.touch()
    until(lambda: go.with_name("go.done").exists(), "the job has ended at the worker")
    lab.b.host.heal()
    lab.c.host.heal()
    lab.success(job)


def test_a_wire_that_works_one_way_only_runs_nothing_twice(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab, tmp_path)
    lab.c.host.deaf_to(lab.b.host)
    go.touch()
    until(lambda: go.with_name("go.done").exists(), "the job has ended at the worker")
    lab.c.host.heal()
    lab.success(job)


def test_a_wire_that_loses_packets_is_slow_and_nothing_else(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    data = given(lab, tmp_path / "data", MIB)
    lab.b.host.loses(3)
    job = lab.submit("cmp data data && cp data copy", inputs=(data,))
    lab.success(job)


def test_a_relay_that_is_killed_in_mid_transfer_is_gone_round(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    data = given(lab, tmp_path / "data", 40 * MIB)
    cache = lab.b.run_directory / "relay-cache"
    before = len(list(cache.iterdir()))
    lab.a.host.heal()
    lab.a.host.slow(20)
    job = lab.submit("sha256sum < data; cp data copy", inputs=(data,))
    until(lambda: before < len(list(cache.iterdir())) < before + 10, "a part of it has come to the relay")
    lab.b.restart()
    lab.heal()
    lab.success(job)
    with lab.c.host:
        assert lab.c.network.output(job, "copy") == (tmp_path / "data").read_bytes()


def test_home_and_owner_may_be_restarted(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab, tmp_path)
    for site in (lab.a, lab.c):
        site.kill_server()
    go.touch()
    for site in (lab.c, lab.a):
        site.start()
    lab.success(job)


def test_a_worker_may_leave_while_the_owner_is_away(lab: Lab, worker: Worker, tmp_path: Path) -> None:
    job, go = held(lab, tmp_path, f"head -c {5 * MIB} /dev/urandom > big; sha256sum < big")
    lab.b.kill_server()
    go.touch()
    (kept,) = until(lambda: lab.a.cpcc("custody", "--json").json["data"], "the result is in custody")
    assert kept["attempt"] == 1
    assert "in custody" in lab.a.cpcc("status").out
    lab.a.dismiss(worker)
    lab.a.restart()
    lab.b.start()
    lab.success(job)
    assert lab.a.cpcc("custody").out.strip() == "nothing is in custody"
