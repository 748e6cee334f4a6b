"""A model batch system: a queue with waits that others cause, nodes that die, and answers that get lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from cpc.pools.allocation import Reason
from cpc.pools.facts import Ask

Timer = Callable[[float, Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad it is. Probabilities of one submission or allocation; rates per hour; windows are (from, to) in seconds."""

    refuses: float = 0.0
    refusing: tuple[tuple[float, float], ...] = ()  # takes nothing
    ending: tuple[tuple[float, float], ...] = ()  # what starts ends at once
    away: tuple[tuple[float, float], ...] = ()  # its controller answers nothing
    loses_answers: float = 0.0  # and has taken it or not, by the toss of a coin
    loses_jobs: float = 0.0  # forgets what it has accepted
    starts_twice: float = 0.0
    preempts: float = 0.0  # per hour of an allocation
    requeues: bool = False  # what is preempted or loses a node waits again, instead of ending
    kills_nodes: float = 0.0  # per hour of an allocation
    bad_nodes: int = 0  # workers on these fail

    def within(self, now: float, windows: tuple[tuple[float, float], ...]) -> bool:
        """Whether now is in one of them."""
        return any(begin <= now < end for begin, end in windows)


@dataclass(slots=True)
class Entry:
    """One job of the batch system. `token` is the name that we gave it; ids may be used again."""

    number: int
    token: str
    ask: Ask
    state: str = "waiting"  # running, ended
    eligible: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    reason: Reason = Reason.NONE
    copy: bool = False  # a second one that it started by itself
    runs: list[tuple[float, float]] = field(default_factory=list)  # of former runs
    life: int = 0  # changes with each start and end, so that old timers know they are old


class Batch:
    """One batch system with `size` nodes. `wait(now, chance)`: seconds that a submission waits before others let it in.

    `on_start` and `on_end` are how its nodes, not its controller, act: workers start and die.
    """

    def __init__(
        self,
        name: str,
        size: int,
        wait: Callable[[float, random.Random], float],
        faults: Faults,
        chance: random.Random,
        after: Timer,
        clock: Callable[[], float],
    ) -> None:
        self.name, self.faults, self.chance, self.after, self.clock = name, faults, chance, after, clock
        self.wait = wait
        self.free = {f"{name}{index}" for index in range(size)}
        self.bad = {f"{name}{index}" for index in range(faults.bad_nodes)}
        self.entries: list[Entry] = []  # that have not ended
        self.past: list[Entry] = []
        self.recent: list[Entry] = []  # ended, and not polled since
        self.submitted: list[float] = []
        self.on_start: Callable[[Entry], None] = lambda _: None
        self.on_end: Callable[[Entry], None] = lambda _: None
        self._numbers = 0

    @property
    def away(self) -> bool:
        """Whether its controller does not answer."""
        return self.faults.within(self.clock(), self.faults.away)

    def submit(self, token: str, ask: Ask) -> str:
        """`accepted`, `refused` or `silent`."""
        now, faults, toss = self.clock(), self.faults, self.chance.random
        if self.away:
            return "silent"
        self.submitted.append(now)
        if faults.within(now, faults.refusing) or toss() < faults.refuses:
            return "refused"
        lost = toss() < faults.loses_answers
        if lost and toss() < 0.5:
            return "silent"
        entry = self._add(token, ask)
        if toss() < faults.loses_jobs:
            self.after(self.chance.uniform(1, 60), lambda: self._forget(entry))
        if toss() < faults.starts_twice:
            self.after(self.chance.uniform(1, 600), lambda: self._double(entry))
        return "silent" if lost else "accepted"

    def _add(self, token: str, ask: Ask, copy: bool = False) -> Entry:
        self._numbers += 1
        entry = Entry(self._numbers, token, ask, copy=copy)
        self.entries.append(entry)
        self._queue(entry)
        return entry

    def _queue(self, entry: Entry) -> None:
        entry.state = "waiting"
        entry.eligible = self.clock() + self.wait(self.clock(), self.chance)
        self.after(entry.eligible - self.clock(), self.schedule)

    def _double(self, entry: Entry) -> None:
        if entry.state != "ended":
            self._add(entry.token, entry.ask, copy=True)

    def _forget(self, entry: Entry) -> None:
        if entry.state == "waiting":
            self.entries.remove(entry)

    def cancel(self, token: str, copies: bool = False) -> None:
        """End what has this token; only the copies, where there are some, with `copies`."""
        if self.away:
            return
        for entry in [entry for entry in self.entries if entry.token == token and (entry.copy or not copies)]:
            self.after(
                self.chance.uniform(1, 20), lambda entry=entry, life=entry.life: self._end(entry, life, Reason.REMOVED)
            )

    def poll(self) -> list[Entry] | None:
        """All that it knows of; None: no answer. What has ended is told once."""
        if self.away:
            return None
        told, self.recent = self.recent, []
        return [*self.entries, *told]

    def left(self, entry: Entry, reason: Reason) -> None:
        """Its script has ended by itself."""
        self._end(entry, entry.life, reason)

    def schedule(self) -> None:
        """Start what may start and finds nodes."""
        now = self.clock()
        for entry in [entry for entry in self.entries if entry.state == "waiting" and entry.eligible <= now]:
            usable = sorted(self.free - set(entry.ask.avoid))
            if len(usable) >= entry.ask.nodes:
                self._start(entry, tuple(self.chance.sample(usable, entry.ask.nodes)))

    def _start(self, entry: Entry, nodes: tuple[str, ...]) -> None:
        now, faults, toss = self.clock(), self.faults, self.chance
        self.free -= set(nodes)
        entry.state, entry.started, entry.nodes = "running", now, nodes
        entry.life += 1
        life = entry.life
        self.after(entry.ask.walltime, lambda: self._end(entry, life, Reason.WALLTIME))
        if faults.within(now, faults.ending):
            self.after(toss.uniform(0.5, 5), lambda: self._end(entry, life, Reason.FAILED))
        for rate, reason in ((faults.preempts, Reason.PREEMPTED), (faults.kills_nodes, Reason.NODE)):
            if rate:
                self.after(toss.expovariate(rate / 3600), lambda reason=reason: self._end(entry, life, reason))
        self.on_start(entry)

    def _end(self, entry: Entry, life: int, reason: Reason) -> None:
        if entry.life != life or entry.state == "ended" or entry not in self.entries:
            return
        now = self.clock()
        entry.life += 1
        if entry.state == "running":
            entry.runs.append((entry.started, now))
            self.free |= set(entry.nodes)
            self.on_end(entry)
        if self.faults.requeues and reason in (Reason.PREEMPTED, Reason.NODE):
            entry.restarts += 1
            self._queue(entry)
        else:
            entry.state, entry.ended, entry.reason = "ended", now, reason
            self.entries.remove(entry)
            self.past.append(entry)
            self.recent.append(entry)
        self.schedule()

    def node_seconds(self) -> float:
        """Of all that has run."""
        return sum(
            (end - begin) * entry.ask.nodes for entry in (*self.past, *self.entries) for begin, end in entry.runs
        )
