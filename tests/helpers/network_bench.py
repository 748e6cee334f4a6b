"""Networks on a real database and the real queue, with controllers that are Python functions in this very thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from cpc.controller import run
from cpc.core.chance import SeededChance
from cpc.core.edits import Edit
from cpc.core.errors import Denied, NotFound
from cpc.core.manifest import Entry, Manifest
from cpc.core.network_views import Changed
from cpc.core.outcome import Outcome
from cpc.core.plain import FileRef
from cpc.dataflow import snapshot
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code
from cpc.dataflow.description import ControllerText, FieldText, FunctionKind, FunctionText, ModuleText
from cpc.dataflow.functions import Function
from cpc.dataflow.graph import Graph
from cpc.queue.session import Session
from cpc.server import checking, joining, settling, steps
from cpc.server.dataflow import Dataflow
from cpc.server.dispatcher import Dispatcher
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.graphs import Graphs
from cpc.server.jobs import Jobs
from cpc.server.networks import Networks
from cpc.server.principal import SERVER, Call, Principal
from cpc.server.projects import Projects
from cpc.server.saving import Saving
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.server.workspace import Workspace
from cpc.store import references
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.references import Kind
from cpc.store.transaction import Tx
from tests.helpers.benches import Bench
from tests.helpers.disks import FakeDisk
from tests.helpers.files import content_of, counted, dangling, small_of, storage
from tests.helpers.people import started
from tests.helpers.stores import InlineThreads, result

T = TypeVar("T")
Body = Callable[[StepInput], Answer]


def controlled(name: str, inputs: dict[str, str], outputs: dict[str, str], **more: Any) -> FunctionText:
    """A function that a controller runs; inputs and outputs by name → type, `?` behind an optional one's."""
    return FunctionText(
        id=name,
        kind=more.pop("kind", FunctionKind.CONTROLLER),
        inputs=tuple(FieldText(id=key, type=kind.rstrip("?"), opt=kind.endswith("?")) for key, kind in inputs.items()),
        outputs=tuple(FieldText(id=key, type=kind, opt=True) for key, kind in outputs.items()),
        controller=more.pop("controller", ControllerText(module="lab", function=name)),
        **more,
    )


class Trial:
    """Tries code in this process, as a controller process does."""

    async def check(self, codes: Sequence[Code]) -> tuple[tuple[str, str], ...]:
        return tuple((one.function, problem) for one in codes if (problem := run.check(one)))


class Modules:
    """What can be imported: modules made by tests. Their code is tried in this process."""

    def __init__(self) -> None:
        self.texts: dict[str, ModuleText] = {}

    async def load(self, name: str) -> tuple[ModuleText, ...]:
        if name in ("int", "float"):
            return ()
        if name not in self.texts:
            raise NotFound(f"module {name} not found", "`cpcc list-modules` shows those that can be imported")
        return (self.texts[name],)

    async def check(self, texts: Sequence[ModuleText]) -> None:
        await checking.refuse(Trial(), texts)


class Here:
    """A pool that runs functions in this thread. `calls`: what was run; `hold`: answers wait for `go`."""

    def __init__(self) -> None:
        self.bodies: dict[str, Body] = {}
        self.calls: list[StepInput] = []
        self.hold = False
        self.held: list[tuple[StepInput, Deferred[Answer]]] = []

    def run(self, step: StepInput, function: Function) -> Deferred[Answer]:
        self.calls.append(step)
        if self.hold:
            waiting: Deferred[Answer] = Deferred()
            self.held.append((step, waiting))
            return waiting
        return self._answer(step)

    def go(self) -> None:
        """Everything that is held is answered now."""
        held, self.held = self.held, []
        for step, waiting in held:
            if not waiting.called:
                self._answer(step).chainDeferred(waiting)

    def _answer(self, step: StepInput) -> Deferred[Answer]:
        try:
            return succeed(self.bodies[step.function](step))
        except Exception:
            return fail()


class NetworkBench(Bench):
    """A bench with networks. `lab` is a module that is made of `define`; `directory` is where controllers' files lie."""

    def __init__(self, directory: Path, *, url: str = "") -> None:
        self.directory = directory
        self.modules = Modules()
        self.here = Here()
        self.disk: FakeDisk | None = None
        super().__init__(directory, url=url)

    def _open(self) -> None:
        super()._open()
        self.disk = self.disk or FakeDisk(self.clock.now)
        threads = InlineThreads()
        self.gate = Gate(self.store, Seal(b"key", SeededChance(1)))
        self.chunks = ChunkStore(self.store, ChunkFiles(self.disk), threads, self.clock)
        self.files = Files(
            self.store, self.chunks, self.gate, Storage(self.disk, threads, self.reactor, lambda: 0), threads
        )
        self.flow = Dataflow(Graphs(self.store.journal), self.queue)
        self.queue.step_job_ended = partial(steps.job_ended, self.flow)
        self.queue.step_job_waits = partial(steps.job_waits, self.flow)
        self.workspace = Workspace(self.directory, self.files, threads.run)
        self.dispatcher = Dispatcher(
            self.store, self.flow, self.here, self.workspace, self.files, self.reactor  # type: ignore[arg-type]
        )  # fmt: skip
        saving = Saving(
            gate=self.gate, flow=self.flow, files=self.files, workspace=self.workspace, modules=self.modules,
            offload=threads.run, may_install=self.may_install,
        )  # fmt: skip
        self.networks = Networks(
            gate=self.gate, flow=self.flow, modules=self.modules, archives=saving, offload=threads.run,
            runs=self.dispatcher.runs, may_install=self.may_install,
        )  # fmt: skip
        room = Storage(self.disk, threads, self.reactor, lambda: 0)
        self.jobs = Jobs(self.store, self.gate, self.queue, room, lambda array: None)
        self.projects = Projects(self.gate)
        self.projects.networks = self.networks
        self.projects.files = self.files

    def may_install(self, tx: Tx, who: Principal) -> None:
        """Only super users bring code."""
        if not who.super_user:
            raise Denied("this names code")

    def restart(self) -> None:
        """kill -9: what controllers were at is lost, and what was ready is given out again."""
        self.dispatcher.stop()
        self.here.held.clear()
        super().restart()
        self.wait(self.dispatcher.start())

    def wait(self, work: Awaitable[T]) -> T:
        """The outcome of something that needs nobody else to get on; what workers are told is delivered."""
        value = result(started(work))
        self.reactor.advance(0)
        return value

    def define(self, *functions: FunctionText, **bodies: Body) -> None:
        """More functions of module `lab`, and what they do."""
        former = self.modules.texts.get("lab")
        own = (*former.functions, *functions) if former else functions
        self.modules.texts["lab"] = ModuleText(name="lab", version="1.2", functions=own)
        self.here.bodies |= {f"lab::{name}": body for name, body in bodies.items()}

    def edit(self, *edits: Edit, project: str = "p", who: Principal = SERVER) -> Changed:
        """Change the network."""
        return self.wait(self.networks.edit(Call(who), project, edits))

    def get(self, path: str, project: str = "p") -> Any:
        """A value, in the wire form."""
        return self.wait(self.networks.value(SERVER, project, path)).value

    def item(self, path: str = "", project: str = "p") -> Any:
        """What `ls` shows."""
        return self.wait(self.networks.item(SERVER, project, path, "", 1000))

    @property
    def graph(self) -> Graph:
        """The live network."""
        return self.do(lambda tx: self.flow.graphs.get(tx, self.project))

    def file(self, data: bytes, name: str = "file") -> FileRef:
        """A file that the project has."""
        content = content_of(data)
        number = len(self.here.calls) + 1_000_000 + content.size

        def unit(tx: Any) -> None:
            references.add(tx, Kind.FILE, number, 0, self.project, [content], small_of(data))

        self.do(unit)
        return FileRef(name, content)

    def finish(self, worker: Session, outcome: Outcome = Outcome.OK, **files: bytes) -> list[tuple[str, ...]]:
        """The worker runs all that it has, and then what that leads to; which commands those were."""
        ran = []
        while worker.leases:
            lease = next(iter(worker.leases.values()))
            argv = next(task.argv for task in self._told(worker) if task.lease == lease)
            ran.append(argv)
            entries = [Entry(path.encode(), content=content_of(data)) for path, data in sorted(files.items())]
            self.report(
                worker, lease, outcome, files=Manifest(tuple(entries)), small=small_of(*files.values()), cpu_seconds=2.0,
                tail="the last line" if outcome is Outcome.FAILED else "",
            )  # fmt: skip
        return ran

    def lose(self, worker: Session) -> None:
        """The worker has been silent for too long, and what it ran is lost."""

        def unit(tx: Tx) -> None:
            runs = [run for run in self.queue.each_running() if run.worker == worker.worker]
            settling.lost(self.queue, tx, runs, "its worker is gone")
            joining.silent(self.queue, tx, worker)
            self.queue.round(tx)

        self.do(unit)

    def _told(self, worker: Session) -> list[Any]:
        self._tasks = [*getattr(self, "_tasks", ()), *self.tasks(worker)]
        return self._tasks

    def check(self) -> None:
        """Memory agrees with the database; nothing refers to what is not there, and the books are right."""
        super().check()
        live = snapshot.dump(self.graph)
        again = self.do(lambda tx: snapshot.dump(self.flow.graphs._load(tx, self.project)))
        assert live.instances == again.instances
        assert sorted(live.links, key=repr) == sorted(again.links, key=repr)
        assert sorted(live.values, key=repr) == sorted(again.values, key=repr)
        assert live.change == again.change or not live.instances
        assert self.do(dangling) == 0
        assert self.do(lambda tx: storage(tx, self.project) == counted(tx, self.project))
