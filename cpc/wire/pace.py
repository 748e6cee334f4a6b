"""How fast a listener takes connections: while many handshakes are under way, the next ones wait in the kernel.

A thousand machines that come back together would else all begin, share the processor, and none be done within its time;
each would try again, and the server would only be busy with those who give up. Taken a few at a time, every handshake that
begins comes to its end. One that is slow holds nobody up for longer than FRESH: what bounds those is the listener's limit. And
an address from which many begin and none is done holds the others up for no longer than PROMPT: that is no crowd of machines
that come back, but a flood, and few of its handshakes count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpc.core.clock import Clock, Timer, Timers
from cpc.wire.strangers import origin

MOST = 200  # handshakes under way
FRESH = 5.0  # seconds: an older one is not counted any more
PROMPT = 1.0  # seconds in which one of many handshakes from an address is done
PART = 10  # of a flood's handshakes, the tenth part of MOST counts
REMEMBERED = 60.0  # seconds that a flood is remembered as one
KEPT = 2_000  # addresses that are remembered


@dataclass(slots=True)
class _Origin:
    """An address (see `strangers.origin`): how many of its handshakes are fresh, when the last one began, and since when none
    was done."""

    count: int
    begun: float
    good: float


class Pace:
    """`began` and `ended` tell of handshakes by any key; `ports` are those that are held meanwhile.

    A port that cannot be held (no `pauseProducing`) takes connections as they come.
    """

    def __init__(self, reactor: Timers, clock: Clock, ports: Callable[[], list[Any]], most: int = MOST) -> None:
        self.held = False
        self._was_held = False
        self._reactor = reactor
        self._clock = clock
        self._ports = ports
        self._most = most
        self._fresh: dict[object, tuple[float, str]] = {}  # since when, from where; in their order
        self._origins: dict[str, _Origin] = {}  # of those
        self._idle: dict[str, _Origin] = {}  # without any now, in the order in which they became so
        self._timer: Timer | None = None

    def began(self, handshake: object, host: str) -> None:
        """One more, from this address."""
        now, name = self._clock.monotonic(), origin(host)
        self._fresh[handshake] = (now, name)
        known = self._origins.get(name) or self._idle.pop(name, None)
        if known is None or (not known.count and known.begun <= now - REMEMBERED):
            known = _Origin(0, now, now)
        self._origins[name] = known
        known.count += 1
        known.begun = now
        if not self.held and len(self._fresh) >= self._most:
            self._look()

    def ended(self, handshake: object, well: bool = False) -> None:
        """It is done (`well`), or given up."""
        fresh = self._fresh.pop(handshake, None)
        if fresh is not None:
            if well:
                self._origins[fresh[1]].good = self._clock.monotonic()
            self._less(fresh[1])
            if self.held:
                self._look()

    def crowded(self) -> bool:
        """Whether connections were held back at any time since this was asked last."""
        was, self._was_held = self._was_held, self.held
        return was

    def stop(self) -> None:
        """No more connections are taken at all."""
        self._fresh.clear()
        self._origins.clear()
        self._idle.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        now = self._clock.monotonic()
        while self._fresh:
            since, name = next(iter(self._fresh.values()))
            if since > now - FRESH:
                break
            del self._fresh[next(iter(self._fresh))]
            self._less(name)
        if (self._counted(now) >= self._most) != self.held:
            self.held = not self.held
            self._was_held = True
            for port in self._ports():
                if hasattr(port, "pauseProducing"):
                    port.pauseProducing() if self.held else port.resumeProducing()
        if self.held and (self._timer is None or not self._timer.active()):
            self._timer = self._reactor.callLater(PROMPT, self._look)

    def _counted(self, now: float) -> int:
        """How many are under way, as far as they count."""
        part = max(1, self._most // PART)
        return sum(
            each.count if each.good > now - PROMPT else min(each.count, part) for each in self._origins.values()
        )  # fmt: skip

    def _less(self, name: str) -> None:
        known = self._origins[name]
        known.count -= 1
        if not known.count:
            self._idle[name] = self._origins.pop(name)
            if len(self._idle) > KEPT:
                del self._idle[next(iter(self._idle))]
