"""Servers in a row for a measurement: the first has the worker, the last the project; on loopback, or far apart."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import usage
from benchmarks.system import System
from cpc.core.peer import Agreement

if TYPE_CHECKING:
    from tests.helpers.namespaces import Wire

PATIENCE = 120.0


class Chain:
    """`hops` links between servers. With `wire`, each is on a machine of its own there, and whatever is asked of one must be
    asked `at` it."""

    def __init__(self, directory: Path, hops: int, wire: Wire | None = None) -> None:
        self.servers: list[System] = []
        self._hosts = list(wire.hosts.values()) if wire is not None else []
        for number in range(hops + 1):
            place = directory / str(number)
            place.mkdir()
            with self.at(number):
                made = System(place, host=self._address(number))
                self.servers.append(made)
                made.start(worker=number == 0)
        for number in range(hops):
            self._trust(number, number + 1)
        for number, each in enumerate(self.servers):
            with self.at(number):
                for peer in each.client.peers().all():
                    each.client.peers().set_agreement(peer.id, Agreement(lend_on=max(0, hops - 1)))
        if hops:
            with self.at_owner():
                self.owner.wait(self.owner.submit(array=4))

    @property
    def owner(self) -> System:
        """Who has the project."""
        return self.servers[-1]

    def at(self, number: int) -> AbstractContextManager[object]:
        """On this server's machine."""
        return self._hosts[number] if self._hosts else nullcontext()

    def at_owner(self) -> AbstractContextManager[object]:
        """On the last one's."""
        return self.at(len(self.servers) - 1)

    def meter(self) -> usage.Meter:
        """CPU of home, relays together, and owner; with no hops, home and owner are one."""
        names = {0: "home", len(self.servers) - 1: "owner"}
        alone = {names.get(number, f"relay{number}"): each.server for number, each in enumerate(self.servers)}
        return usage.Meter({**alone, "agent": self.servers[0].worker})

    def stop(self) -> None:
        """End all of them."""
        for each in reversed(self.servers):
            each.stop()

    def _address(self, number: int) -> str:
        return self._hosts[number].address if self._hosts else "127.0.0.1"

    def _trust(self, one: int, other: int) -> None:
        asking, answering = self.servers[one].client.peers(), self.servers[other].client.peers()
        port = self.servers[other].port
        with self.at(one):
            asking.ask(asking.look(self._address(other), port + 1, port))
        with self.at(other):
            (request,) = (peer for peer in answering.all() if peer.state == "received")
            answering.trust(request)
        for number, peers in ((one, asking), (other, answering)):
            with self.at(number):
                _until(lambda peers=peers: all(peer.connected for peer in peers.all()))  # type: ignore[misc]


@contextlib.contextmanager
def chain(hops: int, wire: Wire | None = None) -> Iterator[Chain]:
    """A fresh row of servers; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="cpc-bench-"))
    made: Chain | None = None
    try:
        made = Chain(directory, hops, wire)
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the servers are not connected"
        time.sleep(0.02)
