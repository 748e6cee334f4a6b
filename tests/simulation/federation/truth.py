"""What must hold for a network of servers as a whole; see `tests.simulation.oracle` for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe

LINK_TIME = 180.0  # seconds after the last fault in which all that trust each other are connected


class WideTruth:
    """`check` every few seconds, `verdict` when all has settled."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.wrong = universe.wrong
        self._healed: float | None = None

    def check(self) -> None:
        """What must hold at any time."""
        self._check_links()

    def faults_end(self) -> None:
        """From now on nothing goes wrong."""
        self._healed = self.universe.now

    def revoked(self, here: Site, other: Site) -> None:
        """An operator is told that the trust in another server has ended."""
        if here.peers is not None and here.peers.is_up(other):
            self.wrong(f"{here.name} has revoked {other.name}, and is connected with it")

    def _check_links(self) -> None:
        """Whoever trusts each other and can be reached is connected soon after the last fault."""
        if self._healed is None or self.universe.now - self._healed < LINK_TIME:
            return
        if self.universe.trust.apart(LINK_TIME):
            self.wrong(f"not connected {LINK_TIME:.0f} s after the last fault: {self.universe.trust.trouble()}")

    def settled(self) -> bool:
        """Whether nothing is left between the servers."""
        trust = self.universe.trust
        return not trust.apart() and not trust.ended and not trust.doubtful

    def unsettled(self) -> str:
        """What is left between the servers, in words."""
        return (
            f"not connected: {self.universe.trust.trouble()}; operators have not agreed: {self.universe.trust.doubtful}"
        )

    def verdict(self) -> None:
        """What must hold when all has settled."""
        for one, other in self.universe.trust.together():
            names = {f"s{one}", f"s{other}"}
            links = [link for link in self.universe.network.links if set(link.hosts) == names]
            if len(links) != 2:
                self.wrong(f"{len(links)} connections between s{one} and s{other}: {', '.join(map(str, links))}")
