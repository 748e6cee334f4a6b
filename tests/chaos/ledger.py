"""What the server has acknowledged, and what must come of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tests.chaos.program import Work


@dataclass
class Accepted:
    """A submission whose number somebody was told. `size` 0: a single job."""

    id: str
    name: str
    work: Work
    size: int = 0
    settled: bool = False  # looked at whole, found good, and removed from the server

    def indices(self) -> list[int | None]:
        """Of its jobs."""
        return list(range(self.size)) if self.size else [None]


@dataclass
class Ledger:
    """Filled by the one who submits, read by the one who checks. `woven`: what the network was given last."""

    accepted: dict[str, Accepted] = field(default_factory=dict)  # by name
    woven: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, entry: Accepted) -> None:
        """The server's answer is here."""
        with self.lock:
            assert entry.name not in self.accepted, f"{entry.name} was answered twice"
            self.accepted[entry.name] = entry

    def open(self) -> list[Accepted]:
        """Those that have not been settled."""
        with self.lock:
            return [entry for entry in self.accepted.values() if not entry.settled]

    def of(self, id: str) -> Accepted | None:
        """Who has this number; an element's too."""
        number = id.partition("[")[0]
        with self.lock:
            return next((entry for entry in self.accepted.values() if entry.id == number), None)

    @property
    def jobs(self) -> int:
        """How many jobs that were."""
        with self.lock:
            return sum(max(1, entry.size) for entry in self.accepted.values())
