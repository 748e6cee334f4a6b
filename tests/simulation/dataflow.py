"""Networks at the simulated server: the production services, with functions that run in this thread, and may be killed there."""

from __future__ import annotations

import errno
import importlib
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from cpc.api.modules import describe
from cpc.controller.run import check, run
from cpc.core.errors import Unavailable
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code, code
from cpc.dataflow.description import ModuleText
from cpc.dataflow.functions import Function
from cpc.server.config import Config, Place
from cpc.server.gate import Gate
from cpc.server.network_services import NetworkServices
from cpc.server.settings import Settings
from tests.simulation import toys
from tests.simulation.databases import Killed
from tests.simulation.threads import Threads

if TYPE_CHECKING:
    from tests.simulation.server import Server

PACKAGE = toys.__name__.rpartition(".")[0]
ON_DISK = ("cpc.server.workspace", "pathlib", "pathlib._local")
LOSS = 0.05  # of runs


class Pool:
    """Functions run at some time in the near future, unless their process is killed: before they begin, or after."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._chance = random.Random(server.world.seed * 77 + server.number)

    def run(self, step: StepInput, function: Function) -> Deferred[Answer]:
        """The answer of one run; Unavailable when its process is killed."""
        answer: Deferred[Answer] = Deferred(lambda _: call.cancel())
        seconds = self._chance.choice([0.001, 0.05, 1.0, self._chance.uniform(0.0, 15.0)])
        call = self._server.host.reactor.callLater(seconds, self._run, step, function, answer)
        return answer

    def _run(self, step: StepInput, function: Function, answer: Deferred[Answer]) -> None:
        killed = self._server.world.troubled and self._chance.random() < LOSS
        if killed and self._chance.random() < 0.5:
            answer.errback(Unavailable("the controller was killed before it began"))
            return
        found = run(code(function), step)
        if killed:
            self._server.world.fault("controller killed")
            answer.errback(Unavailable("the controller was killed before it answered"))
        else:
            answer.callback(found)

    async def describe(self, name: str, python: str, directory: str = "") -> ModuleText:
        """What a module offers."""
        return describe(importlib.import_module(f"{PACKAGE}.{python}"), name)

    async def check(self, codes: Sequence[Code]) -> tuple[tuple[str, str], ...]:
        """What is wrong with code."""
        return tuple((one.function, problem) for one in codes if (problem := check(one)))


class Disk:
    """A thread for the controllers' files, which lie in a directory of this machine."""

    def __init__(self, server: Server, threads: Threads) -> None:
        self._server = server
        self._threads = threads

    def run(self, call: Callable[[], Any]) -> Awaitable[Any]:
        """Do it, unless the process is gone by then or the disk is full."""
        return self._threads.run(partial(self._do, call))

    def _do(self, call: Callable[[], Any]) -> Any:
        if self._server.ended:
            raise Killed
        of = getattr(call, "func", call)
        if self._server.world.server_disk.full and getattr(of, "__module__", "") in ON_DISK:
            raise OSError(errno.ENOSPC, "no space left on device", "run/projects")
        return self._server.world.controllers_disk.do(call)


def services(server: Server, gate: Gate) -> tuple[NetworkServices, Settings]:
    """As `cpc.server.service` makes them."""
    world = server.world
    # A thread of its own: what controllers do with files holds up no worker's turn.
    threads = Threads(server.host, lambda: world.chance.uniform(0.001, 0.02) * world.slowness)
    base = Path(world.path).parent
    place = Place(base / "servers" / "default")
    library = place.directory / "lib"
    library.mkdir(parents=True, exist_ok=True)
    if not (library / "toys.py").exists():
        (library / "toys.py").symlink_to(str(toys.__file__))
    config = Config(
        name="simulation",
        host=world.name,
        listen=(),
        port=1,
        client_port=2,
        database=world.url,
        run_dir=str(world.controllers_disk.root),
    )
    settings = Settings(server.store, gate)
    made = NetworkServices(
        place=place, config=config, store=server.store, gate=gate, queue=server.queue, files=server.files,
        settings=settings, offload=Disk(server, threads).run, reactor=server.host.reactor, controllers=Pool(server),
    )  # fmt: skip
    return made, settings
