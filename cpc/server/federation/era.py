"""How often trust in a server has ended. What a peer says waits for the writer in the peer's turn, and is overtaken by that."""

from __future__ import annotations

from cpc.core.errors import Unavailable
from cpc.core.journal import Journal


class Era:
    """`now` is looked at when something is said, and again in the unit that carries it out."""

    def __init__(self, journal: Journal) -> None:
        self.now = 0
        self._journal = journal

    def end(self) -> None:
        """In the unit that ends the trust in a server."""
        self._journal.note(self._set, self.now)
        self.now += 1

    def check(self, then: int) -> None:
        """Unavailable when trust has ended since: what was said may have come by way of that server."""
        if self.now != then:
            raise Unavailable("trust in a server has ended meanwhile", "say it again")

    def _set(self, number: int) -> None:
        self.now = number
