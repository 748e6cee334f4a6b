"""A network in memory: named machines, ports, connections that carry bytes in virtual time, and everything that goes wrong.

TCP, as a program sees it: bytes are neither lost nor repeated nor reordered; they are late, or the connection ends — with
notice to each side or without (half-open). What is written at once travels as one segment. Nothing that decides — order,
delays, windows, faults — looks at how many bytes a segment has, because TLS makes that vary from run to run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tests.simulation.clock import Clock, HostReactor, VirtualReactor
from tests.simulation.endpoints import ClientEndpoint, Port, ServerEndpoint
from tests.simulation.link import Link

GIVE_UP = 60.0  # seconds without a sign of life, until a machine gives up what it has sent


@dataclass(frozen=True)
class Faults:
    """What happens by chance, per segment. `latency` in seconds, from and to; the others are probabilities.

    A `stall` holds a segment (and all behind it) for up to `stall_time` seconds. A `cut` ends the connection; with
    probability `silent` a side is not told.
    """

    latency: tuple[float, float] = (0.0002, 0.002)
    cut: float = 0.0
    silent: float = 0.3
    stall: float = 0.0
    stall_time: float = 20.0


class Host:
    """A machine with one process. `reactor` is that of the process that runs now: hand it to whatever is started here."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.reactor = HostReactor(network.reactor)
        self.clock = Clock(network.reactor)
        self.powered = True
        self.ports: dict[int, Port] = {}
        self._next_port = 49152
        self._dead: list[HostReactor] = []

    def listen(self, port: int = 0) -> ServerEndpoint:
        """Where to listen: an IStreamServerEndpoint."""
        return ServerEndpoint(self, port or self.fresh_port())

    def connect(self, host: str, port: int, timeout: float = 30.0) -> ClientEndpoint:
        """How to get there: an IStreamClientEndpoint."""
        return ClientEndpoint(self, host, port, timeout)

    def fresh_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def freeze(self) -> None:
        """SIGSTOP: the process does nothing, its machine keeps its connections."""
        self.network.disturb(self.name)
        self.network.note(f"{self.name} freezes")
        self.reactor.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.network.disturb(self.name)
        self.network.note(f"{self.name} thaws")
        self.reactor.thaw()

    def kill(self, silent: bool = False) -> None:
        """kill -9: the other sides are told by its machine. `silent`: power loss, they are not."""
        self.network.disturb(self.name)
        self.network.note(f"{self.name} {'loses power' if silent else 'is killed'}")
        self.reactor.end()
        self.powered = not silent
        self._dead.append(self.reactor)
        self.reactor.bury(list(self.ports.values()))
        self.ports.clear()
        for link in self.network.links_of(self.name):
            self.reactor.bury(link)
            link.process_ended(self)

    def start(self) -> HostReactor:
        """A new process (on a machine that has power again): the reactor for what is started in it."""
        if self.reactor.alive:
            self.kill()
        self.network.disturb(self.name)
        self.network.note(f"{self.name} starts")
        self.powered = True
        self.reactor = HostReactor(self.network.reactor)
        return self.reactor


class Network:
    """All machines and what connects them. `trace` is one line per event; the same seed gives the same lines."""

    def __init__(self, reactor: VirtualReactor, chance: random.Random, faults: Faults | None = None) -> None:
        self.reactor = reactor
        self.chance = chance
        self.faults = faults or Faults()
        self.trace: list[str] = []
        self.hosts: dict[str, Host] = {}
        self.give_up = GIVE_UP
        self._links: dict[int, Link] = {}
        self._blocked: dict[tuple[str, str], None] = {}
        self._parted: Counter[str] = Counter()  # machine → ways to or from it that are blocked
        self._made = 0
        self.on_note: Callable[[str], None] = self.trace.append
        self.troubled: dict[str, float] = {}  # when a machine, or its way to others, was last disturbed
        self.on_fault: Callable[[str], None] = lambda what: None

    def host(self, name: str) -> Host:
        """The machine of that name; made when it is not there yet."""
        if name not in self.hosts:
            self.hosts[name] = Host(self, name)
        return self.hosts[name]

    def note(self, what: str) -> None:
        """A line of the story."""
        self.on_note(f"{self.reactor.seconds():.6f} {what}")

    # --- what goes wrong ---

    def disturb(self, *names: str) -> None:
        """Something has happened to these machines, or between them."""
        for name in names:
            self.troubled[name] = self.reactor.seconds()

    def undisturbed(self, name: str, seconds: float) -> bool:
        """Whether a machine runs, can be reached and reach, and has been so for so long."""
        host = self.hosts[name]
        well = host.reactor.alive and not host.reactor.frozen and not self._parted[name]
        return well and self.reactor.seconds() - self.troubled.get(name, 0.0) > seconds

    def partition(self, one: str, other: str, both: bool = True) -> None:
        """Nothing gets from `one` to `other` any more (nor back, unless `both` is False)."""
        self.disturb(one, other)
        self.note(f"{one} {'<' if both else ''}> {other} partitioned")
        for way in ((one, other), (other, one))[: 1 + both]:
            if way not in self._blocked:
                self._blocked[way] = None
                self._parted.update(way)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Both ways are open again, between these two or everywhere. What was held up arrives."""
        if one is not None and other is not None:
            self.heal_all([(one, other)])
            return
        self.disturb(*self.hosts)
        self.note("all <> all healed")
        self._blocked.clear()
        self._parted.clear()
        for link in self.links:
            link.retry()

    def heal_all(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Both ways between each of these pairs are open again."""
        healed = set()
        for one, other in pairs:
            self.disturb(one, other)
            self.note(f"{one} <> {other} healed")
            healed.add(frozenset((one, other)))
            for way in ((one, other), (other, one)):
                if way in self._blocked:
                    del self._blocked[way]
                    self._parted.subtract(way)
        for link in self.links:
            if frozenset(link.hosts) in healed:
                link.retry()

    def blocked(self, sender: str, receiver: str) -> bool:
        """Whether nothing gets through in this direction."""
        return (sender, receiver) in self._blocked

    def cut(self, link: Link, tell: Collection[str] = ("client", "server")) -> None:
        """End a connection; only the sides in `tell` notice. The others send into the void."""
        self.disturb(*link.hosts)
        self.note(f"{link} cut, told: {', '.join(side for side in ('client', 'server') if side in tell) or 'nobody'}")
        link.cut(tell)

    # --- for links and endpoints ---

    @property
    def links(self) -> tuple[Link, ...]:
        """Connections that at least one side believes in, oldest first."""
        return tuple(self._links.values())

    def links_of(self, host: str) -> tuple[Link, ...]:
        """Those of one machine."""
        return tuple(link for link in self._links.values() if host in link.hosts)

    def link(self, client: Host, server: Host, port: int) -> Link:
        """A new connection."""
        self._made += 1
        made = self._links[self._made] = Link(self, self._made, client, server, port)
        return made

    def unlink(self, link: Link) -> None:
        """Both sides know that it has ended."""
        self._links.pop(link.number, None)

    def latency(self) -> float:
        """How long the next thing is on its way."""
        return self.chance.uniform(*self.faults.latency)
