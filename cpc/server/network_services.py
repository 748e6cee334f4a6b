"""All that makes networks work, put together: live graphs, modules, controllers, their files, saving. No logic of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cpc.core import names
from cpc.core.errors import Denied
from cpc.core.offload import Offload
from cpc.server import steps
from cpc.server.config import Config, Place
from cpc.server.controllers import Controllers, Options
from cpc.server.dataflow import Dataflow
from cpc.server.dispatcher import Dispatcher, Pool
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.graphs import Graphs
from cpc.server.modules import Describer, Modules
from cpc.server.networks import Networks
from cpc.server.principal import Principal
from cpc.server.queue import Queue
from cpc.server.saving import Saving
from cpc.server.settings import Settings
from cpc.server.workspace import Workspace
from cpc.store.store import Store
from cpc.store.transaction import Tx

#: The setting with the users who may upload definitions that name code, beside super users.
INSTALLERS = "module_installers"


class Controlling(Pool, Describer, Protocol):
    """What runs the code of modules, and says what they offer."""


class NetworkServices:
    """`networks` and `modules` are for the people's door. `controllers`: another pool than processes, for the simulation."""

    def __init__(
        self, *, place: Place, config: Config, store: Store, gate: Gate, queue: Queue, files: Files, settings: Settings,
        offload: Offload, reactor: Any,
        controllers: Controlling | None = None,
    ) -> None:  # fmt: skip
        self._place = place
        self._run_dir = Path(config.run_dir)
        self._wrap = config.controller_wrap
        self._settings = settings
        pool: Controlling = controllers or Controllers(reactor, self._options)
        self._pool = pool if isinstance(pool, Controllers) else None
        self.flow = Dataflow(Graphs(store.journal), queue)
        queue.step_job_ended = partial(steps.job_ended, self.flow)
        queue.step_job_waits = partial(steps.job_waits, self.flow)
        self.workspace = Workspace(self._run_dir, files, offload)
        self.modules = Modules(gate, pool, offload, self._directories)
        self.dispatcher = Dispatcher(store, self.flow, pool, self.workspace, files, reactor)
        saving = Saving(
            gate=gate, flow=self.flow, files=files, workspace=self.workspace, modules=self.modules, offload=offload,
            may_install=self.may_install,
        )  # fmt: skip
        self.networks = Networks(
            gate=gate, flow=self.flow, modules=self.modules, archives=saving, offload=offload,
            runs=self.dispatcher.runs, may_install=self.may_install,
        )  # fmt: skip

    async def start(self) -> None:
        """Go on with what was open."""
        await self.workspace.start()
        await self.dispatcher.start()

    async def stop(self) -> None:
        """Give out no more steps, and end controllers. What they were at is given out again at the next start."""
        self.dispatcher.stop()
        if self._pool is not None:
            await self._pool.close()

    def may_install(self, tx: Tx, who: Principal) -> None:
        """Denied for who may not have this server run other code than the modules that it has."""
        allowed = [names.key(name) for name in self._settings.text(INSTALLERS).split(",") if name.strip()]
        if not who.super_user and names.key(who.name) not in allowed:
            raise Denied(
                "this names code to be run at the server, which only those may bring who may install modules",
                f"ask an administrator to install the module, or to add you to the setting {INSTALLERS}",
            )

    def _directories(self) -> tuple[Path, ...]:
        """Where modules are looked for before those that ship with the server."""
        given = [Path(path) for path in self._settings.text("import_path").split(":") if path]
        return (*given, self._place.directory.parent.parent / "lib", self._place.directory / "lib")

    def _options(self) -> Options:
        settings = self._settings
        return Options(
            processes=settings.whole("controllers"), time=settings.number("controller_time"),
            memory=settings.whole("controller_memory"), idle=settings.number("controller_idle"), wrap=self._wrap,
            paths=self._directories(), work=(self.workspace.root,),
        )  # fmt: skip
