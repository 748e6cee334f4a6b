"""Who trusts whom, as the operators have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.federation.universe import Universe


class Trust:
    """Carries out what operators do."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe

    def begin(self) -> None:
        """The pairs of the plan come to trust each other."""
