"""The free-space stop: intake pauses before the disk is full, and what runs can still hand in its results.

    free ≥ min_free_space        everything is taken
    below it                     submissions and uploads are refused; results and checkpoints are taken
    below a quarter of it        nothing is taken; workers keep their results and send them again later

Between two looks at the disk, what is written is subtracted from what was free, so that a fast sender cannot run past
the limits.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from cpc.core.clock import Timer, Timers
from cpc.core.errors import OverQuota, Unavailable
from cpc.store.disk import Disk, Space
from cpc.store.writer import Threads

log = Logger()

INTERVAL = 10.0
FLOOR = 4  # the hard floor is this part of min_free_space
EASE = 1.1  # intake goes on with so much more than the minimum, so that it does not flutter


class Storage:
    """Watches the run directory's disk. `min_free`: the setting, in bytes; `on_low` is called at each look while it is tight."""

    def __init__(
        self,
        disk: Disk,
        threads: Threads,
        timers: Timers,
        min_free: Callable[[], int],
        on_low: Callable[[], object] = lambda: None,
    ) -> None:
        self._disk = disk
        self._threads = threads
        self._timers = timers
        self._min_free = min_free
        self.on_low = on_low
        self._timer: Timer | None = None
        self._stopped = False
        self.space = Space(1 << 62, 1 << 62)
        self.intake_paused = ""

    async def start(self) -> None:
        """Look at once, then every ten seconds."""
        self._stopped = False
        await self._watch()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def _watch(self) -> None:
        try:
            await self.look()
        finally:
            if not self._stopped:
                self._timer = self._timers.callLater(INTERVAL, self._again)

    def _again(self) -> None:
        from twisted.internet.defer import ensureDeferred

        ensureDeferred(self._watch()).addErrback(lambda failure: log.failure("watching the disk failed", failure))

    async def look(self) -> None:
        """See how much is free now, and pause or resume intake."""
        try:
            self.space = await self._threads.run(self._disk.space)
        except OSError as error:
            log.warn("the free space of the run directory cannot be read: {error}", error=error)
            return
        low = self.intake_paused
        self._judge()
        if low and self.intake_paused:
            self.on_low()  # again: the last try may have failed for the full disk, or somebody has removed something since

    def took(self, size: int) -> None:
        """So many bytes have been written since the last look."""
        self.space = Space(max(0, self.space.free - size), self.space.total)
        self._judge()

    def _judge(self) -> None:
        least = self._min_free()
        limit = least * EASE if self.intake_paused else least
        if self.space.free >= limit:
            if self.intake_paused:
                log.info("there is room on the disk again: jobs and files are taken")
            self.intake_paused = ""
            return
        if not self.intake_paused:
            log.warn("the disk is nearly full: no jobs and files are taken")
            self.on_low()
        self.intake_paused = (
            f"the server's disk has {show_size(self.space.free)} free; new jobs and files are taken when it has "
            f"{show_size(int(least * EASE))}"
        )

    def check_intake(self) -> None:
        """OverQuota while intake is paused: for submissions and uploads."""
        if self.intake_paused:
            raise OverQuota(
                self.intake_paused, "an administrator must make room: remove projects or jobs, or add disk space"
            )

    @property
    def floor(self) -> int:
        """Free bytes below which nothing at all is taken."""
        return self._min_free() // FLOOR

    @property
    def takes_results(self) -> bool:
        """Whether results and checkpoints can be taken now; else the worker is told to send them again later."""
        return self.space.free >= self.floor

    def check_floor(self) -> None:
        """Unavailable when not even results can be taken."""
        if not self.takes_results:
            raise Unavailable(
                f"the server's disk has only {show_size(self.space.free)} free",
                "results stay with the worker, which sends them again later",
            )


def show_size(size: int) -> str:
    """Bytes for people: 1.5 GiB."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
