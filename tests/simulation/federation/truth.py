"""What must hold for a network of servers as a whole; see `tests.simulation.oracle` for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.federation.universe import Universe


class WideTruth:
    """`check` every few seconds, `verdict` when all has settled."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe

    def check(self) -> None:
        """What must hold at any time."""

    def faults_end(self) -> None:
        """From now on nothing goes wrong."""

    def settled(self) -> bool:
        """Whether nothing is left between the servers."""
        return True

    def unsettled(self) -> str:
        """What is left between the servers, in words."""
        return ""

    def verdict(self) -> None:
        """What must hold when all has settled."""
