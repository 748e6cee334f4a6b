"""Two machines with the production wire between them, on the simulated network and virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.clock import DAY, SECOND
from cpc.wire.connection import Connection, Listener, connect
from cpc.wire.frames import Greeting
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.tls import ClientTls, ServerTls
from tests.simulation.clock import VirtualReactor
from tests.simulation.network import Faults, Network

YEAR = 365 * DAY / SECOND
HERE = "server-a"
PORT = 13807


class Wires:
    """A server `s` that listens on its port, and machines that connect to it."""

    def __init__(self, seed: int = 1, faults: Faults | None = None,
                 refuse: Callable[[Name, str], str | None] = lambda *_: None) -> None:  # fmt: skip
        self.reactor = VirtualReactor()
        self.network = Network(self.reactor, random.Random(seed), faults)
        self.s = self.network.host("s")
        self.w = self.network.host("w")
        self.chance = SeededChance(seed)
        self.authority = Authority.create(HERE, self.s.clock, self.chance)
        self.other = Authority.create("server-b", self.s.clock, self.chance)
        self.pinned = {HERE: self.authority.certificate_pem}
        self.server_tls = ServerTls(self.authority.identity(Name(HERE, Role.SERVER), YEAR), lambda: self.pinned, refuse)
        self.taken: list[Connection] = []
        self.on_connection: Callable[[Connection], None] = lambda connection: None
        self.listener: Listener | None = None

    def listen(self, **options: object) -> Listener:
        """Start the server's side."""

        def taken(connection: Connection) -> None:
            self.taken.append(connection)
            self.on_connection(connection)

        options.setdefault("clock", self.s.clock)
        self.listener = Listener(self.s.reactor, self.server_tls, taken, **options)  # type: ignore[arg-type]
        self.reactor.finish(self.listener.listen(self.s.listen(PORT)))
        return self.listener

    def worker(self, name: str = "w1", valid_for: float = YEAR) -> Identity:
        """A worker's identity by the server's authority."""
        return self.authority.identity(Name(HERE, Role.WORKER, name), valid_for)

    def connect(self, identity: Identity | None = None, authority: bytes | None = None, server: str = HERE,
                timeout: float = 30.0, prepare: Callable[[Connection], None] | None = None,
                greeting: Greeting | None = None, within: float = 100.0) -> Connection:  # fmt: skip
        """A connection from `w`, or what was said instead."""
        tls = ClientTls(identity or self.worker(), authority or self.authority.certificate_pem, server)
        extra = {} if greeting is None else {"greeting": greeting}
        made = connect(self.w.connect("s", PORT), tls, self.w.reactor, self.w.clock, timeout, prepare=prepare, **extra)
        return self.reactor.finish(made, within)

    def begin(self, identity: Identity) -> Deferred[Connection]:
        """A connection from `w`, later."""
        tls = ClientTls(identity, self.authority.certificate_pem, HERE)
        return ensureDeferred(connect(self.w.connect("s", PORT), tls, self.w.reactor, self.w.clock))


def words(lines: Iterable[str]) -> list[str]:
    """Lines of a trace without their times."""
    return [line.partition(" ")[2] for line in lines]
