"""The real reactor with timers that a test lets run out: how long a machine takes for the rest is no matter."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy  # type: ignore[import-untyped]


class HandTimers:
    """Sockets, processes and threads are the reactor's; time passes when `advance` says so, and only then."""

    def __init__(self) -> None:
        self._clock = Clock()
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def callLater(self, delay: float, callable: Any, *args: Any, **keywords: Any) -> IDelayedCall:
        """A timer of ours; what is only to come later in the same turn comes then."""
        if not delay:
            return reactor.callLater(0, callable, *args, **keywords)  # type: ignore[attr-defined,no-any-return]
        return self._clock.callLater(delay, callable, *args, **keywords)

    def seconds(self) -> float:
        """How much time has passed."""
        return self._clock.seconds()

    def advance(self, seconds: float) -> None:
        """So much time passes at once."""
        self._clock.advance(seconds)
