"""How fast a listener takes connections: while many handshakes are under way, the next ones wait in the kernel.

A thousand machines that come back together would else all begin, share the processor, and none be done within its time;
each would try again, and the server would only be busy with those who give up. Taken a few at a time, every handshake that
begins comes to its end. One that is slow holds nobody up for longer than FRESH: what bounds those is the listener's limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpc.core.clock import Clock, Timer, Timers

MOST = 200  # handshakes under way
FRESH = 5.0  # seconds: an older one is not counted any more


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
        self._fresh: dict[object, float] = {}  # in the order in which they began
        self._timer: Timer | None = None

    def began(self, handshake: object) -> None:
        """One more."""
        self._fresh[handshake] = self._clock.monotonic()
        if not self.held and len(self._fresh) >= self._most:
            self._look()

    def ended(self, handshake: object) -> None:
        """It is done, or given up."""
        if self._fresh.pop(handshake, None) is not None and self.held:
            self._look()

    def crowded(self) -> bool:
        """Whether connections were held back at any time since this was asked last."""
        was, self._was_held = self._was_held, self.held
        return was

    def stop(self) -> None:
        """No more connections are taken at all."""
        self._fresh.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        limit = self._clock.monotonic() - FRESH
        while self._fresh and next(iter(self._fresh.values())) <= limit:
            del self._fresh[next(iter(self._fresh))]
        if (len(self._fresh) >= self._most) != self.held:
            self.held = not self.held
            self._was_held = True
            for port in self._ports():
                if hasattr(port, "pauseProducing"):
                    port.pauseProducing() if self.held else port.resumeProducing()
        if self.held and (self._timer is None or not self._timer.active()):
            self._timer = self._reactor.callLater(FRESH, self._look)
