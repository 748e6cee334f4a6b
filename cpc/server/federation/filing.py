"""Files of the federation, put together: the cache of what passes through, custody, and who asks and answers for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timers
from cpc.core.offload import Offload
from cpc.server.bulk import JobFiles
from cpc.server.federation.cache import DIRECTORY, RelayCache
from cpc.server.federation.custody import Custody
from cpc.server.federation.files import HomeFiles, OwnerFiles, RelayedFiles
from cpc.server.federation.held import Held
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.ways import Ways
from cpc.server.gate import Gate
from cpc.server.storage import Storage
from cpc.spool.disk import Disk
from cpc.store.store import Store

log = Logger()


class Filing:
    """`size_of` gives a setting that is a size in bytes; `called`, how people call a server, `name_of` a worker. Whoever lends
    sets `custody.reports` before `start`."""

    def __init__(
        self, *, ways: Ways, files: JobFiles, store: Store, gate: Gate, storage: Storage, disk: Disk, run_dir: str,
        offload: Offload, size_of: Callable[[str], int], called: Callable[[str], str], timers: Timers, clock: Clock,
        chance: Chance, quarantine: Quarantine, name_of: Callable[[int], str],
    ) -> None:  # fmt: skip
        self.cache = RelayCache(disk, str(Path(run_dir) / DIRECTORY), lambda: size_of("relay_cache"), offload)
        held = Held(disk, run_dir, lambda: size_of("custody_limit"), offload, clock)
        self.custody = Custody(
            ways=ways, held=held, store=store, gate=gate, storage=storage, timers=timers, clock=clock, chance=chance,
            limit=lambda: size_of("custody_limit"), called=called, name_of=name_of,
        )  # fmt: skip
        self.home = HomeFiles(ways, self.cache, self.custody)
        OwnerFiles(files, store, quarantine).serve(ways)
        RelayedFiles(self.cache).serve(ways)

    async def load(self) -> None:
        """See what is on disk."""
        await self.cache.open()
        await self.custody.load()

    def start(self) -> None:
        """Hand in what is in custody, as soon as its owners can be reached."""
        self.custody.start()

    def stop(self) -> None:
        """No more tries."""
        self.custody.stop()

    def setting_changed(self) -> None:
        """The cache keeps to its new limit at once."""
        ensureDeferred(self.cache.resize()).addErrback(
            lambda failure: log.failure("resizing the cache failed", failure)
        )
