"""Custody first: what is kept for a peer, and for those behind it, is handed in before it is asked for work from here.

The owner of a result that it has not seen may have given the job up, when trust had ended for example, or after `peer_grace`.
Whoever asked it for work now would be given what is done already.
"""

from __future__ import annotations

from collections.abc import Callable

from cpc.core.clock import Timer, Timers

FIRST = 60.0  # seconds from when the peer has come: then work is asked for all the same


class CustodyFirst:
    """`waits` says whether something in custody goes by a peer; `free` is told when that peer may be asked."""

    def __init__(self, timers: Timers, waits: Callable[[str], bool], free: Callable[[str], None]) -> None:
        self._timers = timers
        self._waits = waits
        self._free = free
        self._held: dict[str, Timer] = {}

    def holds(self, peer: str) -> bool:
        """Whether it is not asked yet."""
        return peer in self._held

    def up(self, peer: str) -> None:
        """A peer has come: what is in custody for it begins to be handed in."""
        self.down(peer)
        if self._waits(peer):
            self._held[peer] = self._timers.callLater(FIRST, self._release, peer)

    def down(self, peer: str) -> None:
        """It is away."""
        timer = self._held.pop(peer, None)
        if timer is not None and timer.active():
            timer.cancel()

    def handed_in(self) -> None:
        """Something is in custody no more."""
        for peer in list(self._held):
            if not self._waits(peer):
                self._release(peer)

    def stop(self) -> None:
        """No more timers."""
        for peer in list(self._held):
            self.down(peer)

    def _release(self, peer: str) -> None:
        self.down(peer)
        self._free(peer)
