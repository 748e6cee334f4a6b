"""Results that a home server keeps for their owner: what it said it has, it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.core.lease import Lease

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site


class Custody:
    """What workers were told their homes keep."""

    def __init__(self) -> None:
        self.told: dict[tuple[int, Lease], None] = {}  # (home's number, lease with its path)

    def taken(self, home: Site, lease: Lease) -> None:
        """A worker was told so, and forgets the result."""
        self.told[home.number, lease] = None
