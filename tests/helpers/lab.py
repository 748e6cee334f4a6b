"""Servers on machines of their own, with firewalls, dead wires and delays between them. All processes are real."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cpc.client.transfer import upload
from cpc.core.peer import Agreement
from cpc.core.spec import Input
from cpc.core.views import JobDetail
from tests.helpers.namespaces import Host, Wire
from tests.helpers.network_of_processes import Network, until

MIB = 1 << 20


class Site:
    """A machine with its server. Calls are made from there."""

    def __init__(self, host: Host, directory: Path, **settings: str) -> None:
        self.host = host
        with host:
            self.network = Network(directory, host=host.address, **settings)
            self.id = self.network.client.server_info().id

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
        found = {peer.id for peer in self.do(lambda network: network.client.peers().all()) if peer.connected}
        return all(other.id in found for other in others)

    def trust_all(self) -> None:
        """Trust whoever has asked."""

        def trust(network: Network) -> None:
            peers = network.client.peers()
            for peer in peers.all():
                if peer.state == "received":
                    peers.trust(peer)

        self.do(trust)

    def restart(self) -> None:
        """kill -9, and start it again."""
        self.kill_server()
        self.start()


class Lab:
    """Machines `names`, each with its server; `links` says which of them know each other. Everything between them takes
    `delay` seconds one way."""

    def __init__(self, directory: Path, names: str, links: Sequence[str], delay: float = 0.0, **settings: str) -> None:
        self.wire = Wire(*names)
        self._links: list[tuple[Site, Site]] = []
        with ThreadPoolExecutor(len(names)) as pool:
            made = pool.map(lambda name: Site(self.wire[name], directory / name, **settings), names)
        self.sites = dict(zip(names, made, strict=True))
        self.wire.late(delay)
        for one, other in links:
            self.trust(self.sites[one], self.sites[other])
        for site in self.sites.values():
            peers = site.do(lambda network: network.client.peers())
            for peer in site.do(lambda network: network.client.peers().all()):
                with site.host:
                    peers.set_agreement(peer.id, Agreement(lend_on=len(names) - 1))

    def trust(self, one: Site, other: Site) -> None:
        """`one` asks, `other` agrees; returns when they are connected."""

        def ask(network: Network) -> None:
            peers = network.client.peers()
            peers.ask(peers.look(other.host.address, other.network.client_port, other.network.port))

        one.do(ask)
        other.trust_all()
        self._links.append((one, other))
        until(lambda: one.connected(other) and other.connected(one), "they are connected")

    def heal(self) -> None:
        """Nothing is lost or held back any more."""
        for site in self.sites.values():
            site.host.heal()

    def settled(self) -> None:
        """Everything runs and is connected."""
        self.heal()
        until(lambda: all(one.connected(other) for one, other in self._links), "all are connected")

    def close(self) -> None:
        with ExitStack() as ending:
            ending.callback(self.wire.close)
            for site in self.sites.values():
                ending.callback(site.close)


def success(site: Site, job: str) -> JobDetail:
    """A job of this server has succeeded, in one attempt."""
    done: JobDetail = site.success_of(job)
    assert done.attempts == 1, done
    return done


def given(site: Site, path: Path, size: int) -> Input:
    """Random bytes as an input of this server's jobs."""
    path.write_bytes(os.urandom(size))
    with site.host:
        return Input("data", upload(site.network.client, path))


def held(site: Site, directory: Path, rest: str = "", **fields: Any) -> tuple[str, Path]:
    """A job of this server that runs until a file is there; that file. When the job has ended, FILE.done is there."""
    go = directory / "go"
    job = site.shell(f"until test -e {go}; do sleep 0.05; done; {rest or 'true'}; touch {go}.done", **fields)
    site.running(job)
    return job, go
