"""Virtual time: a reactor that steps from one due call to the next, a view of it per machine, and machines' clocks.

Nothing ever jumps past a due call: `step` sets the time to that of the earliest one and runs it. Calls that are due at the
same time run in the order in which they were made, so a run depends on nothing but what was scheduled. Errors are raised
out of `step`, never logged away.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from tests.simulation.databases import Killed

T = TypeVar("T")

START = 1_800_000_000_000_000  # what people's clocks show at time 0 (µs): January 2027
_PROCESS_MAY_GO = contextlib.suppress(Killed)  # in the middle of a call; made once, and not for each of a million
SAME_TIME = 200_000  # calls at one moment: more is a loop that never lets time go on


@implementer(IDelayedCall)
class VirtualCall:
    """A call that is due. `owner` is the machine on which it runs, if any: its freezing and end concern the call."""

    __slots__ = ("_args", "_call", "_keywords", "_reactor", "number", "owner", "state", "time")

    def __init__(self, reactor: VirtualReactor, time: float, call: Callable[..., Any], args: tuple[Any, ...],
                 keywords: dict[str, Any], owner: HostReactor | None) -> None:  # fmt: skip
        self._reactor = reactor
        self._call = call
        self._args = args
        self._keywords = keywords
        self.owner = owner
        self.time = time
        self.number = 0
        self.state = "waiting"

    def getTime(self) -> float:
        return self.time

    def active(self) -> bool:
        return self.state == "waiting" and (self.owner is None or self.owner.alive)

    def cancel(self) -> None:
        self._check()
        self.state = "cancelled"
        self._reactor.forget(self)

    def delay(self, seconds: float) -> None:
        self._check()
        self._reactor.reschedule(self, self.time + seconds)

    def reset(self, seconds: float) -> None:
        self._check()
        self._reactor.reschedule(self, self._reactor.seconds() + seconds)

    def run(self) -> None:
        self.state = "called"
        self._call(*self._args, **self._keywords)

    def __str__(self) -> str:
        return f"{self.time:.6f} {getattr(self._call, '__qualname__', self._call)}"

    def _check(self) -> None:
        if self.state == "cancelled":
            raise AlreadyCancelled
        if self.state == "called":
            raise AlreadyCalled


@implementer(IReactorTime, IReactorFromThreads)
class VirtualReactor:
    """The one clock of a simulated world."""

    running = True

    def __init__(self) -> None:
        self._now = 0.0
        self._made = 0
        self._heap: list[tuple[float, int, VirtualCall]] = []
        self._dead = 0
        self._here = 0
        self.steps = 0

    # --- Twisted's names ---

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **keywords: Any) -> VirtualCall:
        return self.schedule(None, delay, call, args, keywords)

    def callFromThread(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self.callLater(0, call, *args, **keywords)

    def callWhenRunning(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self.callLater(0, call, *args, **keywords)

    def getDelayedCalls(self) -> list[VirtualCall]:
        """What is due, earliest first."""
        return [call for _, number, call in sorted(self._heap, key=lambda entry: entry[:2])
                if call.number == number and call.active()]  # fmt: skip

    # --- the heap ---

    def schedule(self, owner: HostReactor | None, delay: float, call: Callable[..., Any], args: tuple[Any, ...],
                 keywords: dict[str, Any]) -> VirtualCall:  # fmt: skip
        """A call in `delay` seconds, on `owner`."""
        if not delay >= 0:
            raise ValueError(f"a call cannot be due {delay} seconds from now")
        due = VirtualCall(self, self._now + delay, call, args, keywords, owner)
        self._made = due.number = self._made + 1
        heapq.heappush(self._heap, (due.time, due.number, due))
        return due

    def push(self, due: VirtualCall) -> None:
        """Line a call up, behind all others of its time."""
        self._made += 1
        due.number = self._made
        heapq.heappush(self._heap, (due.time, due.number, due))

    def reschedule(self, due: VirtualCall, time: float) -> None:
        """Move a call; its former place in the heap becomes void, because the number changes."""
        due.time = max(time, self._now)
        self.push(due)
        self.forget(due)

    def forget(self, _due: VirtualCall) -> None:
        """An entry of the heap has become void; when half of them are, they are swept out."""
        self._dead += 1
        if self._dead > 1000 and self._dead * 2 > len(self._heap):
            for _, number, call in self._heap:
                if call.number == number and call.owner is not None and not call.owner.alive:
                    call.owner.bury(call)
            self._heap = [entry for entry in self._heap if entry[2].number == entry[1] and entry[2].active()]
            heapq.heapify(self._heap)
            self._dead = 0

    # --- running ---

    def step(self, until: float = float("inf")) -> bool:
        """Run the earliest call that is due not later than `until`. False when there is none."""
        while self._heap and self._heap[0][0] <= until:
            time, number, due = heapq.heappop(self._heap)
            if due.number != number:
                continue
            owner = due.owner
            if owner is not None and not owner.alive:
                owner.bury(due)
                continue
            if due.state != "waiting":
                continue
            if owner is not None and owner.frozen:
                owner.hold(due)
                continue
            if time > self._now:
                self._now, self._here = time, 0
            else:
                self._here += 1
                if self._here > SAME_TIME:
                    raise RuntimeError(f"time stands still at {self._now:.6f}: {due}")
            self.steps += 1
            with _PROCESS_MAY_GO:
                due.run()
            return True
        return False

    def advance(self, seconds: float) -> None:
        """Run everything that is due within `seconds`; the time is that much later afterwards."""
        end = self._now + seconds
        while self.step(end):
            pass
        self._now = end

    def run_until(self, true: Callable[[], object], within: float = 3600.0) -> None:
        """Step until `true()`; AssertionError when that takes longer than `within` seconds, or nothing is due any more."""
        end = self._now + within
        while not true():
            if not self.step(end):
                raise AssertionError(f"it did not become true within {within:g} s (now {self._now:.6f})")

    def finish(self, work: Coroutine[Any, Any, T] | Deferred[T], within: float = 3600.0) -> T:
        """Step until a coroutine or Deferred is done; its value, or what it raised."""
        done: list[Any] = []
        ensureDeferred(work).addBoth(done.append) if not isinstance(work, Deferred) else work.addBoth(done.append)
        self.run_until(lambda: done, within)
        if isinstance(done[0], Failure):
            done[0].raiseException()
        value: T = done[0]
        return value


@implementer(IReactorTime, IReactorFromThreads)
class HostReactor:
    """The reactor as one process on one machine sees it. Frozen (SIGSTOP), its calls are held until it thaws; ended, they
    are gone, like the process."""

    running = True

    def __init__(self, world: VirtualReactor) -> None:
        self._world = world
        self._held: list[VirtualCall] = []
        self._buried: list[object] = []
        self.frozen = False
        self.alive = True

    def seconds(self) -> float:
        return self._world.seconds()

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **keywords: Any) -> VirtualCall:
        return self._world.schedule(self, delay, call, args, keywords)

    def callFromThread(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self.callLater(0, call, *args, **keywords)

    def callWhenRunning(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self.callLater(0, call, *args, **keywords)

    def getDelayedCalls(self) -> list[VirtualCall]:
        return [call for call in (*self._held, *self._world.getDelayedCalls()) if call.owner is self and call.active()]

    def hold(self, due: VirtualCall) -> None:
        """A call came due while the process was stopped."""
        self._held.append(due)

    def freeze(self) -> None:
        """Stop the process; time goes on without it."""
        self.frozen = True

    def thaw(self) -> None:
        """Let the process go on: what came due meanwhile runs now, in order."""
        self.frozen = False
        held, self._held = self._held, []
        for due in held:
            if due.active():
                due.time = max(due.time, self._world.seconds())
                self._world.push(due)

    def end(self) -> None:
        """The process is gone, with everything that it had planned."""
        self.alive = False
        self._buried += self._held
        self._held.clear()

    def bury(self, what: object) -> None:
        """Keep something of an ended process from the garbage collector, which would run the `finally` blocks of its
        coroutines: a process that is killed does not do that, and when it happens differs from run to run."""
        self._buried.append(what)


class Clock:
    """A machine's clocks (cpc.core.clock.Clock). `offset` (µs) and `uptime` (s) make it differ from other machines'."""

    def __init__(self, reactor: VirtualReactor | HostReactor, uptime: float = 1000.0) -> None:
        self._reactor = reactor
        self.uptime = uptime
        self.offset = 0
        self.zone = 0  # µs: so far it has always been from other machines' clocks

    def monotonic(self) -> float:
        return self.uptime + self._reactor.seconds()

    def now(self) -> int:
        return START + int(self._reactor.seconds() * 1_000_000) + self.zone + self.offset
