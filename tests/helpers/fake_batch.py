"""A batch system in memory with a strict front: it takes what any system could take, and has bad days on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from cpc.api.scheduler import AtLimit, NotConnected, Scheduler, Setting, Tools, Unsettled
from cpc.core.allocation import Check, Described, Handle, NodeSeen, NodeState, Seen, SeenOutcome, SeenState, Wanted
from cpc.core.errors import BadInput, Damaged, Refused, Unavailable
from cpc.server.pools import series
from tests.simulation.clock import START, VirtualReactor

SYSTEMS: dict[str, BatchSystem] = {}


@dataclass
class Entry:
    """One job in the batch system."""

    native: str
    wanted: Wanted
    index: int = 0
    state: SeenState = SeenState.WAITING
    outcome: SeenOutcome | None = None
    reason: str = ""
    submitted: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    exit: int = -1
    restarts: int = 0
    node: str = ""
    forgotten: bool = False
    stuck: bool = False

    @property
    def who(self) -> tuple[str, int]:
        return self.wanted.token, self.index

    @property
    def own(self) -> str:
        """The token that the server gave to it alone."""
        return series.own(Seen(native="", token=self.wanted.token, index=self.index, state=self.state))

    @property
    def alive(self) -> bool:
        return self.state is not SeenState.ENDED


@dataclass
class BatchSystem:
    """Nodes of `cores` each; a job starts `delay` seconds after it was submitted, as soon as a node has room.

    `trouble` is a list of what happens to the next calls: (method, what), with what among "down" (nobody there), "silent"
    (done, but the answer is lost), "lost" (not done, and no answer), "no" (refused), "limit", "rubbish".
    `on_start` and `on_end` are told of jobs.
    """

    reactor: VirtualReactor
    nodes: tuple[str, ...] = ("n1", "n2", "n3")
    cores: int = 4
    delay: float = 5.0
    address: str = "127.0.0.1"  # of all nodes
    gives: int = 0  # cores to each allocation, whatever it asks for; 0: what it asks for, and does not say so
    trouble: deque[tuple[str, str]] = field(default_factory=deque)
    entries: dict[str, Entry] = field(default_factory=dict)
    drained: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    on_start: Callable[[Entry], None] = lambda entry: None
    on_end: Callable[[Entry], None] = lambda entry: None
    number: int = 0
    most: int = 1  # at once, by the plugin
    longest: int = 0  # series, by the system's configuration; 0: as the plugin says
    limit: int = 0  # that wait or run; 0: none

    def alive(self) -> list[Entry]:
        return [one for one in self.entries.values() if one.alive]

    def take(self, wanted: Wanted) -> str:
        """What the first is called; the others of a series `1_1`, `1_2`, …"""
        self.number += 1
        for index in range(wanted.checked().count):
            native = f"{self.number}_{index}" if wanted.count > 1 else str(self.number)
            self.entries[native] = Entry(native, wanted, index, submitted=self.reactor.seconds())
        self.reactor.callLater(self.delay, self.schedule)
        return native.partition("_")[0] + ("_0" if wanted.count > 1 else "")

    def schedule(self) -> None:
        """Start what has waited long enough and fits."""
        for entry in self.entries.values():
            ripe = self.reactor.seconds() - entry.submitted >= self.delay - 0.001
            if entry.state is SeenState.WAITING and ripe and (node := self._free(entry.wanted)):
                entry.state, entry.node, entry.started = SeenState.RUNNING, node, self.reactor.seconds()
                self.reactor.callLater(entry.wanted.walltime, self._timeout, entry, entry.restarts)
                self.on_start(entry)

    def _free(self, wanted: Wanted) -> str:
        for node in self.nodes:
            here = [one for one in self.alive() if one.node == node and one.state is SeenState.RUNNING]
            used = sum(self.gives or one.wanted.cores for one in here)
            fits = used + (self.gives or wanted.cores) <= self.cores
            if fits and node not in self.drained and node not in self.dead and node not in wanted.exclude:
                return node
        return ""

    def _timeout(self, entry: Entry, restarts: int) -> None:
        if entry.state is SeenState.RUNNING and entry.restarts == restarts:
            self.end(entry, SeenOutcome.TIMEOUT, "TimeLimit")

    def end(self, entry: Entry, outcome: SeenOutcome = SeenOutcome.OK, reason: str = "") -> None:
        if entry.alive:
            ran = entry.state is SeenState.RUNNING
            entry.state, entry.outcome, entry.reason = SeenState.ENDED, outcome, reason
            entry.ended = self.reactor.seconds()
            if ran:
                self.on_end(entry)
            self.reactor.callLater(0, self.schedule)

    def requeue(self, entry: Entry) -> None:
        """Started again by itself."""
        self.on_end(entry)
        entry.state, entry.restarts, entry.submitted = SeenState.WAITING, entry.restarts + 1, self.reactor.seconds()
        self.reactor.callLater(self.delay, self.schedule)

    def kill_node(self, node: str) -> None:
        self.dead.add(node)
        for entry in self.alive():
            if entry.node == node and entry.state is SeenState.RUNNING:
                self.end(entry, SeenOutcome.NODE_FAILED, f"node {node} failed")


class FakeBatch(Scheduler):
    """The plugin of the system that its setting names."""

    name: ClassVar[str] = "fake"
    summary: ClassVar[str] = "a batch system in memory"
    settle_time: ClassVar[float] = 20.0

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        return (Setting("system", "which one", "main"),)

    def __init__(self, tools: Tools, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(tools, settings)
        if self.set["system"] not in SYSTEMS:
            raise BadInput(f"there is no system {self.set['system']}", "make it first")
        self.most_at_once = self.system.most  # type: ignore[misc]  # one class for systems that can and that cannot

    @property
    def system(self) -> BatchSystem:
        return SYSTEMS[self.set["system"]]

    def _call(self, method: str) -> str:
        """What goes wrong with this call, after it has been told of."""
        system = self.system
        system.calls.append(method)
        if system.trouble and system.trouble[0][0] in (method, "any"):
            what = system.trouble.popleft()[1]
            if what == "down":
                raise NotConnected("nobody is there", "start the batch system")
            if what == "no":
                raise Refused("Invalid account", "ask for one")
            if what == "limit":
                raise AtLimit("too many jobs", "wait")
            return what
        return ""

    def describe(self, wanted: Wanted) -> Described:
        return Described(f"submit {wanted.checked().name}", wanted.script)

    async def submit(self, wanted: Wanted) -> tuple[str, ...]:
        what = self._call("submit")
        if what == "lost":
            raise Unsettled("no answer in time")
        assert wanted.count <= (self.system.longest or self.system.most)
        if self.system.limit and len(self.system.alive()) + wanted.count > self.system.limit:
            raise AtLimit(f"at most {self.system.limit} of a user", "wait")
        native = self.system.take(wanted)
        if what == "silent":
            raise Unsettled("no answer in time")
        if what == "rubbish":
            raise Damaged("\x1b[31mrubbish")
        base = native.partition("_")[0]
        return tuple(f"{base}_{index}" for index in range(wanted.count)) if wanted.count > 1 else (native,)

    async def most(self) -> int:
        return self.system.longest or self.system.most

    async def poll(self, handles: Sequence[Handle]) -> tuple[Seen, ...]:
        if self._call("poll"):
            raise Unavailable("no answer in time")
        found = []
        for handle in handles:
            entry = self.system.entries.get(handle.native)
            if entry is None or entry.forgotten or entry.who != (handle.token, handle.index):
                found.append(_gone(handle))
            else:
                found.append(_seen(entry, self.system))
        return tuple(found)

    async def cancel(self, handles: Sequence[Handle]) -> None:
        what = self._call("cancel")
        for handle in handles:
            for entry in self.system.alive():
                if entry.who == (handle.token, handle.index) and handle.native in ("", entry.native):
                    self.system.end(entry, SeenOutcome.CANCELLED, "cancelled by the user")
        if what:
            raise Unavailable("no answer in time")

    async def adopt(self, prefix: str, since: int = 0) -> tuple[Seen, ...]:
        if self._call("adopt"):
            raise Unavailable("no answer in time")
        known = [
            one for one in self.system.entries.values() if not one.forgotten and one.wanted.token.startswith(prefix)
        ]
        return tuple(_seen(one, self.system) for one in known)

    async def check(self, wanted: Wanted) -> tuple[Check, ...]:
        self._call("check")
        if wanted.queue == "nosuch":
            return (Check("queue", False, "there is no queue nosuch", "there is: main"),)
        return (Check("queue", True, "it is there"),)

    async def nodes(self, queue: str = "") -> tuple[NodeSeen, ...]:
        self._call("nodes")
        return tuple(self._node(name) for name in self.system.nodes)

    def _node(self, name: str) -> NodeSeen:
        system = self.system
        used = sum(one.wanted.cores for one in system.alive() if one.node == name and one.state is SeenState.RUNNING)
        state = NodeState.DOWN if name in system.dead else NodeState.BUSY if used else NodeState.IDLE
        if name in system.drained:
            state = NodeState.DRAINING if used else NodeState.DRAINED
        return NodeSeen(
            name=name, state=state, cores=system.cores, cores_used=used, memory=1 << 34, memory_free=1 << 33,
            reason=system.drained.get(name, ""), address=system.address,
        )  # fmt: skip

    async def drain(self, node: str, reason: str) -> None:
        self.system.drained[node] = reason

    async def resume(self, node: str) -> None:
        self.system.drained.pop(node, None)
        self.system.schedule()

    async def diagnose(self) -> tuple[Check, ...]:
        self._call("diagnose")
        return (Check("alive", True, "it answers"),)


def _seen(entry: Entry, system: BatchSystem) -> Seen:
    ran = system.reactor.seconds() - entry.started
    left = int(entry.wanted.walltime - ran) if entry.state is SeenState.RUNNING else -1
    return Seen(
        native=entry.native, token=entry.wanted.token, index=entry.index, state=entry.state, outcome=entry.outcome,
        reason=entry.reason, stuck=entry.stuck, left=left, nodes=(entry.node,) if entry.node else (),
        restarts=entry.restarts, exit=entry.exit,
        cores=system.gives if entry.node else 0,
        started=_told(entry.started), ended=_told(entry.ended),
    )  # fmt: skip


def _told(at: float) -> int:
    return START + int(at * 1_000_000) if at else 0


def _gone(handle: Handle) -> Seen:
    return Seen(
        native=handle.native,
        token=handle.token,
        index=handle.index,
        state=SeenState.ENDED,
        outcome=SeenOutcome.UNKNOWN,
        reason="never heard of",
    )
