"""What a server has to ask batch systems for workers, made and ended together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cpc.api.scheduler import Tools
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.server.bundles import Bundles
from cpc.server.config import Config
from cpc.server.gate import Gate
from cpc.server.jobs import Jobs
from cpc.server.machines import Machines
from cpc.server.pools.book import Book
from cpc.server.pools.commands import Commands
from cpc.server.pools.ground import Ground
from cpc.server.pools.happening import Happening
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.probing import Probing
from cpc.server.pools.service import Pools
from cpc.server.pools.web import Web
from cpc.server.queue import Queue
from cpc.store.store import Store


class PoolServices:
    """`pools` is for people, `keeper` works by itself. `tools`: instead of this machine's commands, clock and network."""

    def __init__(
        self, *, store: Store, gate: Gate, jobs: Jobs, queue: Queue, bundles: Bundles, reactor: Any, clock: Clock,
        chance: Chance, cut: Callable[[list[int], str], None], tools: Tools | None, config: Config, machines: Machines,
    ) -> None:  # fmt: skip
        self._commands = None if tools else Commands(reactor, os.environ, clock)
        if tools is None:
            assert self._commands is not None
            tools = Tools(self._commands, Web(reactor), clock, chance)
        happening = Happening(Book(store.journal, clock), queue, bundles, machines.terms.server_id)
        self.keeper = Keeper(
            store=store, queue=queue, happening=happening, tools=tools, timers=reactor, cut=cut
        )  # fmt: skip
        ground = Ground(config.host, config.port, config.listen)
        self.pools = Pools(store, gate, queue, self.keeper, ground)
        self.probing = Probing(store, gate, self.keeper, self.pools.shows, bundles, (config.host, config.port))
        self.pools.probing = machines.looks = self.probing
        jobs.pools_say = self.keeper.explain

    async def stop(self) -> None:
        """Ask nobody anything more."""
        await self.keeper.stop()
        if self._commands is not None:
            self._commands.close()
