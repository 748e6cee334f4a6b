"""What attempts and deliveries of one worker share: the seams to the machine, and whom to tell what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timers
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.offload import Offload
from cpc.core.outcome import Outcome
from cpc.spool.cache import Cache
from cpc.spool.disk import Disk
from cpc.spool.spool import Spool
from cpc.wire.messages import Result
from cpc.worker.aside import Aside
from cpc.worker.collecting import words
from cpc.worker.processes import Processes
from cpc.worker.slots import Slots
from cpc.worker.spares import Spares
from cpc.worker.starting import Starter
from cpc.worker.together import Together
from cpc.worker.transfer import Transfer

if TYPE_CHECKING:
    from cpc.worker.delivery import Delivery
    from cpc.worker.running import Attempt


LOOK_EVERY = 0.25


class Kept(msgspec.Struct, frozen=True):
    """What the spool holds for one lease: the result, and the checkpoint that goes with a job handed back."""

    result: Result
    checkpoint: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom to tell. `changed`: there is something to say to the server; `fault`: the worker itself is in trouble;
    `stuck`: a result cannot be written (in words), or (empty) could be after all.
    """

    changed: Callable[[], None]
    fault: Callable[[str], None]
    stuck: Callable[[Lease, str], None]
    ended: Callable[[Lease, Outcome, float], None]
    gone: Callable[[Attempt], None]
    deliver: Callable[[Delivery], None]
    settled: Callable[[Delivery], None]


@dataclass(slots=True)
class Room:
    """The worker's own directory and everything that is handed in. `grace` and `checkpoint_interval` in seconds."""

    directory: str
    disk: Disk
    offload: Offload
    together: Together
    spares: Spares
    spool: Spool
    aside: Aside
    cache: Cache
    transfer: Transfer
    processes: Processes
    starter: Starter
    slots: Slots
    reactor: Timers
    clock: Clock
    chance: Chance
    hooks: Hooks
    say: Callable[[str], None]
    grace: float = 30.0
    least_free: int = 32 << 20  # bytes of disk below which a job's failure is the disk's
    checkpoint_interval: float = 900.0
    listens: float = 0.0  # seconds that a batch system has to tell us, too, why it has ended a program
    told: str = ""  # the signal by which we were told to leave: there before the reactor has heard of it
    _free: tuple[float, int] = (float("-inf"), 0)  # when it was looked at, bytes

    def free_disk(self) -> int:
        """Bytes free on the disk, at most LOOK_EVERY seconds ago."""
        now = self.clock.monotonic()
        if now - self._free[0] >= LOOK_EVERY:
            self._free = (now, self.disk.free(self.directory))
        return self._free[1]

    async def clear_away(self, work: Callable[[], None]) -> None:
        """Remove what nobody needs any more. A disk that does not let it is told of, and holds nothing up."""
        try:
            await self.offload(work)
        except OSError as error:
            self.say(f"something is left behind on the disk: {words(error)}")
