"""Peers of the same priority share what is lent: measured at the workers, in core-seconds of programs that run there.

While all of them have work that waits and nothing happens, the one that had least before gets its part; less what the longest job
takes, because what runs is never taken away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpc.queue.served import HALF_LIFE
from cpc.worker.placing import key_of

if TYPE_CHECKING:
    from tests.simulation.federation.order import Order
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe
    from tests.simulation.workers import Worker

ENOUGH = 2.0  # times what the longest job takes on all cores: each one's part, before the shares are looked at
OWED = 1.0  # times that, by which a share may be smaller
LONG = 300.0  # a job of kind `mixed` may take so many times as long as it says


@dataclass
class _Window:
    """Since when these all have work. `least`: who had least when it began. Core-seconds by peer."""

    least: int
    used: dict[int, float]
    longest: float = 0.0  # seconds of a job

    @property
    def each(self) -> float:
        """What would be the same for all."""
        return sum(self.used.values()) / len(self.used)


@dataclass
class _Account:
    """What peers have had of one home since its server started. `life` is that server."""

    life: object
    used: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    windows: dict[tuple[int, ...], _Window] = field(default_factory=dict)


class FairShares:
    """Looked at every few seconds."""

    def __init__(self, universe: Universe, order: Order) -> None:
        self.universe = universe
        self._order = order
        self._accounts: dict[int, _Account] = {}
        self._looked = 0.0

    def check(self) -> None:
        """Count what runs for whom, and look at the shares when that is enough."""
        seconds, self._looked = self.universe.now - self._looked, self.universe.now
        for home in self.universe.sites.values():
            server = home.peers
            if server is None or not home.workers:
                self._accounts.pop(home.number, None)
                continue
            account = self._accounts.get(home.number)
            if account is None or account.life is not server:
                account = self._accounts[home.number] = _Account(server)
            self._count(home, account, seconds)
            self._look(home, account)

    def _count(self, home: Site, account: _Account, seconds: float) -> None:
        for peer in account.used:
            account.used[peer] *= 0.5 ** (seconds / HALF_LIFE)
        for worker in home.workers.values():
            for peer, cores, longest in self._running(worker):
                account.used[peer] += cores * seconds
                for peers, window in account.windows.items():
                    if peer in peers:
                        window.used[peer] += cores * seconds
                        window.longest = max(window.longest, longest)

    def _running(self, worker: Worker) -> Iterator[tuple[int, int, float]]:
        """For which peer, on how many cores, for how long each."""
        if worker.agent is None:
            return
        programs = set(worker.processes.running())
        for lease, attempt in worker.agent.desk.attempts.items():
            if lease.path and key_of(lease) in programs:
                argv = attempt.task.argv
                seconds = float(argv[2]) * (LONG if argv[1] == "mixed" else 1.0)
                yield self.universe.by_id[lease.route[0]].number, attempt.task.granted.cores, seconds

    def _look(self, home: Site, account: _Account) -> None:
        groups = self._groups(home)
        account.windows = {peers: window for peers, window in account.windows.items() if peers in groups}
        room = sum(worker.kind.cores for worker in home.workers.values())
        for peers in groups:
            window = account.windows.get(peers)
            if window is not None and window.each >= ENOUGH * room * window.longest > 0:
                self.universe.decided["fair shares"] += 1
                if window.used[window.least] < window.each - OWED * room * window.longest:
                    had = ", ".join(f"s{peer} {used:.0f}" for peer, used in window.used.items())
                    self.universe.wrong(
                        f"s{window.least} had least of the workers of {home.name}, and got too little again, in core-seconds "
                        f"of jobs of at most {window.longest:.0f} s: {had}; all have the same priority"
                    )
                window = None
            if window is None:
                least = min(peers, key=lambda peer: account.used[peer])
                account.windows[peers] = _Window(least, dict.fromkeys(peers, 0.0))

    def _groups(self, home: Site) -> list[tuple[int, ...]]:
        """Peers of the same priority that all have work for any worker here."""
        kinds = {worker.kind for worker in home.workers.values()}
        found: dict[int, list[int]] = {}
        for peer in self._order.lent_to(home):
            if all(self._order.waits(peer, kind) for kind in kinds):
                found.setdefault(self._order.priority(home, peer.number), []).append(peer.number)
        return [tuple(peers) for peers in found.values() if len(peers) > 1]
